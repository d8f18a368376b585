//! What a writer is told, for each answer of the server.

use super::*;

const LAST: Position = Position(7);
const LIMIT: usize = 1000;

fn ack(sequence: u64) -> Result<PublishAck, PublishError> {
    Ok(PublishAck {
        stream: "EVENTFLOW_JOURNAL_0".to_owned(),
        sequence,
        ..PublishAck::default()
    })
}

fn lost() -> Result<PublishAck, PublishError> {
    Err(PublishError::new(PublishErrorKind::TimedOut))
}

fn refused(code: u64, words: &str) -> Result<PublishAck, PublishError> {
    let cause: jetstream::Error = serde_json::from_value(serde_json::json!({
        "code": 503, "err_code": code, "description": words,
    }))
    .expect("an error as the server writes it");
    let kind = match cause.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE => PublishErrorKind::WrongLastSequence,
        _ => PublishErrorKind::Other,
    };
    Err(PublishError::with_source(kind, cause))
}

fn wrong_last_sequence() -> Result<PublishAck, PublishError> {
    refused(10071, "wrong last sequence: 9")
}

#[test]
fn an_acknowledged_append_stands_after_what_it_expected() {
    assert!(matches!(judge(ack(8), LAST, LIMIT), Ok(Position(8))));
}

#[test]
fn an_acknowledgement_of_another_place_is_fatal() {
    assert!(matches!(
        judge(ack(9), LAST, LIMIT),
        Err(AppendError::Fatal(_))
    ));
}

#[test]
fn a_wrong_last_sequence_is_a_conflict() {
    for answer in [wrong_last_sequence(), refused(10164, "wrong last sequence")] {
        assert!(matches!(
            judge(answer, LAST, LIMIT),
            Err(AppendError::Conflict)
        ));
    }
}

#[test]
fn no_answer_is_maybe() {
    let nobody = Err(PublishError::new(PublishErrorKind::StreamNotFound));
    for answer in [lost(), nobody, refused(10008, "system unavailable")] {
        assert!(matches!(
            judge(answer, LAST, LIMIT),
            Err(AppendError::Unavailable(_))
        ));
    }
}

#[test]
fn a_full_disk_or_stream_passes_and_an_io_error_does_not() {
    for words in [
        "maximum bytes exceeded",
        "no space left on device",
        "store is closed",
    ] {
        assert!(
            matches!(
                judge(refused(10077, words), LAST, LIMIT),
                Err(AppendError::Unavailable(_))
            ),
            "{words}"
        );
    }
    for words in ["input/output error", "something nobody has heard of"] {
        assert!(
            matches!(
                judge(refused(10077, words), LAST, LIMIT),
                Err(AppendError::Fatal(_))
            ),
            "{words}"
        );
    }
}

#[test]
fn another_stream_on_the_subject_is_fatal() {
    assert!(matches!(
        judge(
            refused(10060, "expected stream does not match"),
            LAST,
            LIMIT
        ),
        Err(AppendError::Fatal(_))
    ));
}

#[test]
fn a_stream_that_takes_less_than_the_server_says_how_much_fits() {
    assert!(matches!(
        judge(
            refused(10054, "message size exceeds maximum allowed"),
            LAST,
            LIMIT
        ),
        Err(AppendError::TooLarge { limit: LIMIT })
    ));
}
