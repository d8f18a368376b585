//! What a writer is told, for each answer of the server.

use super::*;

const LAST: Position = Position(7);
const LIMIT: usize = 1000;

fn acknowledged_at(sequence: u64) -> Result<Position, AppendError> {
    let ack = PublishAck {
        stream: "EVENTFLOW_JOURNAL_0".to_owned(),
        sequence,
        ..PublishAck::default()
    };
    judge(Ok(ack), LAST, LIMIT)
}

fn unanswered(kind: PublishErrorKind) -> Result<Position, AppendError> {
    judge(Err(PublishError::new(kind)), LAST, LIMIT)
}

fn refused(code: u64, words: &str) -> Result<Position, AppendError> {
    let cause: jetstream::Error = serde_json::from_value(serde_json::json!({
        "code": 503, "err_code": code, "description": words,
    }))
    .expect("an error as the server writes it");
    let error = PublishError::with_source(PublishErrorKind::Other, cause);
    judge(Err(error), LAST, LIMIT)
}

#[test]
fn an_acknowledged_append_stands_after_what_it_expected() {
    assert!(matches!(acknowledged_at(8), Ok(Position(8))));
}

#[test]
fn an_acknowledgement_of_another_place_is_fatal() {
    assert!(matches!(acknowledged_at(9), Err(AppendError::Fatal(_))));
}

#[test]
fn a_wrong_last_sequence_is_a_conflict() {
    for (code, words) in [
        (10071, "wrong last sequence: 9"),
        (10164, "wrong last sequence"),
    ] {
        assert!(matches!(refused(code, words), Err(AppendError::Conflict)));
    }
}

#[test]
fn no_answer_is_maybe() {
    for result in [
        unanswered(PublishErrorKind::TimedOut),
        unanswered(PublishErrorKind::StreamNotFound),
        refused(10008, "JetStream system temporarily unavailable"),
    ] {
        assert!(
            matches!(result, Err(AppendError::Unavailable(_))),
            "{result:?}"
        );
    }
}

#[test]
fn a_full_disk_or_stream_passes() {
    for words in [
        "maximum bytes exceeded",
        "no space left on device",
        "store is closed",
    ] {
        let result = refused(10077, words);
        assert!(
            matches!(result, Err(AppendError::Unavailable(_))),
            "{words}"
        );
    }
}

#[test]
fn any_other_failure_of_the_store_is_fatal() {
    for words in ["input/output error", "something nobody has heard of"] {
        let result = refused(10077, words);
        assert!(matches!(result, Err(AppendError::Fatal(_))), "{words}");
    }
}

#[test]
fn another_stream_on_the_subject_is_fatal() {
    let result = refused(10060, "expected stream does not match");
    assert!(matches!(result, Err(AppendError::Fatal(_))), "{result:?}");
}

#[test]
fn a_stream_that_takes_less_than_the_server_says_how_much_fits() {
    let result = refused(10054, "message size exceeds maximum allowed");
    assert!(
        matches!(result, Err(AppendError::TooLarge { limit: LIMIT })),
        "{result:?}"
    );
}
