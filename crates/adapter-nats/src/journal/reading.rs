//! Reading through the stream's leader: what was acknowledged is seen, and a hole is an error.

use async_nats::jetstream::{
    self, ErrorCode,
    message::StreamMessage,
    stream::{RawMessageErrorKind, Stream},
};
use eventflow_domain::Position;
use eventflow_ports::{JournalEntry, ReadError, ReadLimit};
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// Records that are asked for at a time where nothing is known of their size: enough to hide the way to the server and
/// back, and at most some 16 MiB where each is as large as the server takes.
pub(crate) const READ_AHEAD: usize = 16;
/// Small ones: a server that has much to do answers late, and a new leader reads thousands before anything goes on.
const READ_AHEAD_MAX: usize = 256;
/// So much may be on its way, as far as the size of those before tells.
const READ_AHEAD_BYTES: usize = 16 * 1024 * 1024;

/// The position of the last record, from the stream's leader.
pub(crate) async fn head(stream: &Stream<()>) -> Result<Position, ReadError> {
    match stream.get_info().await {
        Ok(info) => Ok(Position(info.state.last_sequence)),
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .and_then(|cause| cause.downcast_ref::<jetstream::Error>());
            if cause.is_some_and(is_gone) {
                Err(ReadError::Fatal(error.into()))
            } else {
                Err(ReadError::Unavailable(error.into()))
            }
        }
    }
}

/// Records after `after`, up to the head.
pub(super) async fn read(
    stream: &Stream<()>,
    after: Position,
    head: Position,
    limit: ReadLimit,
) -> Result<Vec<JournalEntry>, ReadError> {
    let most = u64::try_from(limit.records.max(1)).unwrap_or(u64::MAX);
    let last = head.0.min(after.0.saturating_add(most));
    let mut page = Vec::new();
    let mut bytes = 0;
    let (mut from, mut ahead) = (after.0, READ_AHEAD);
    while from < last {
        let until = last.min(from.saturating_add(ahead as u64));
        let mut entries = stream::iter(from + 1..=until)
            .map(|position| record(stream, Position(position)))
            .buffered(ahead);
        let mut largest = 1;
        while let Some(entry) = entries.try_next().await? {
            bytes += entry.record.len();
            largest = largest.max(entry.record.len());
            page.push(entry);
            if bytes >= limit.bytes {
                return Ok(page);
            }
        }
        from = until;
        ahead = (READ_AHEAD_BYTES / largest).clamp(READ_AHEAD, READ_AHEAD_MAX);
    }
    Ok(page)
}

/// The record at a position that the stream has reached.
async fn record(stream: &Stream<()>, position: Position) -> Result<JournalEntry, ReadError> {
    match message(stream, position).await? {
        Some(message) => Ok(JournalEntry {
            position,
            record: message.payload,
        }),
        None => Err(ReadError::Fatal(
            format!(
                "the journal has a hole: position {position} was removed from its stream; restore the stream from a \
                 backup, or set what follows aside with `eventflow journal quarantine`"
            )
            .into(),
        )),
    }
}

/// The message at a position; none where there is none, or none any more.
pub(crate) async fn message(
    stream: &Stream<()>,
    position: Position,
) -> Result<Option<StreamMessage>, ReadError> {
    match stream.get_raw_message(position.0).await {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(cause) if is_gone(&cause) => {
                Err(ReadError::Fatal(error.into()))
            }
            _ => Err(ReadError::Unavailable(error.into())),
        },
    }
}

/// Whether the stream itself is not there any more.
fn is_gone(cause: &jetstream::Error) -> bool {
    cause.error_code() == ErrorCode::STREAM_NOT_FOUND
}
