//! The way of appends into one stream: published in the order of the calls, without waiting for one another, and
//! answered in the same order.

use std::{error::Error as _, time::Duration};

use async_nats::jetstream::{
    self, Context, ErrorCode,
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
    publish::PublishAck,
};
use bytes::Bytes;
use eventflow_domain::Position;
use eventflow_ports::AppendError;
use futures::{StreamExt as _, stream::FuturesOrdered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// Published and not yet acknowledged, per partition. Group commit gains nothing beyond a few in flight; at 512 KiB
/// each this many are 16 MiB in the client's and the server's buffers.
const IN_FLIGHT_MAX: usize = 32;

/// An append that was handed over.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) expected: Position,
    pub(super) record: Bytes,
    pub(super) answer: oneshot::Sender<Result<Position, AppendError>>,
}

/// Carries out the appends of one partition.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) context: Context,
    pub(super) stream: String,
    pub(super) subject: String,
    pub(super) answer_within: Duration,
}

/// What became of a published append, before it is judged by what it builds on.
struct Outcome {
    expected: Position,
    result: Result<PublishAck, PublishError>,
    answer: oneshot::Sender<Result<Position, AppendError>>,
}

impl Pipeline {
    /// Until the journal is dropped and everything handed over has its answer.
    pub(super) async fn run(self, mut handed: mpsc::Receiver<Handed>) {
        let mut in_flight = FuturesOrdered::new();
        // The position of the last append if nobody knows whether it was written.
        let mut unsure = None;
        loop {
            tokio::select! {
                biased;
                Some(outcome) = in_flight.next() => {
                    let Outcome { expected, result, answer } = outcome;
                    let answered = judge(result, expected, unsure);
                    unsure = matches!(answered, Err(AppendError::Unavailable(_)))
                        .then(|| expected.next());
                    if let Err(error) = &answered {
                        tracing::debug!(stream = %self.stream, %expected, %error, "an append failed");
                    }
                    // Who dropped the future does not want to know.
                    answer.send(answered).ok();
                }
                Some(next) = handed.recv(), if in_flight.len() < IN_FLIGHT_MAX => {
                    in_flight.push_back(self.publish(next).await);
                }
                else => return,
            }
        }
    }

    /// Hands the message to the connection, in order; the future that it returns waits for the acknowledgement.
    async fn publish(&self, handed: Handed) -> impl Future<Output = Outcome> + use<> {
        let Handed {
            expected,
            record,
            answer,
        } = handed;
        let deadline = Instant::now() + self.answer_within;
        let message = PublishMessage::build()
            .payload(record)
            .expected_last_sequence(expected.0)
            .expected_stream(&self.stream);
        let sent = self
            .context
            .send_publish(self.subject.clone(), message)
            .await;
        async move {
            let result = match sent {
                Ok(acknowledged) => timeout_at(deadline, acknowledged.into_future())
                    .await
                    .unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut))),
                Err(error) => Err(error),
            };
            Outcome {
                expected,
                result,
                answer,
            }
        }
    }
}

/// The caller's decision. A wrong last sequence means another writer, unless the append builds on one of our own that
/// may have got lost: then nobody is known to be there, and the position must be read back.
fn judge(
    result: Result<PublishAck, PublishError>,
    expected: Position,
    unsure: Option<Position>,
) -> Result<Position, AppendError> {
    let error = match result {
        Ok(ack) if ack.sequence == expected.next().0 => return Ok(Position(ack.sequence)),
        Ok(ack) => {
            return Err(AppendError::Fatal(
                format!(
                    "stream {} wrote the record after {expected} at {}: it does not heed \
                     Nats-Expected-Last-Sequence",
                    ack.stream, ack.sequence
                )
                .into(),
            ));
        }
        Err(error) => error,
    };
    match (error.kind(), refusal(&error)) {
        (PublishErrorKind::WrongLastSequence, _)
        | (_, Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)) => {
            if unsure == Some(expected) {
                Err(AppendError::Unavailable(
                    format!("the append that was to write {expected} is not known to have done so")
                        .into(),
                ))
            } else {
                Err(AppendError::Conflict)
            }
        }
        (_, Some(ErrorCode::STREAM_NOT_MATCH | ErrorCode::STREAM_SEALED)) => {
            Err(AppendError::Fatal(error.into()))
        }
        (_, Some(ErrorCode::STREAM_STORE_FAILED)) if !is_passing(&error) => {
            Err(AppendError::Fatal(error.into()))
        }
        _ => Err(AppendError::Unavailable(error.into())),
    }
}

fn cause(error: &PublishError) -> Option<&jetstream::Error> {
    error.source()?.downcast_ref()
}

/// The code with which `JetStream` itself refused, if it did.
fn refusal(error: &PublishError) -> Option<ErrorCode> {
    cause(error).map(jetstream::Error::error_code)
}

/// Whether a failure of the stream's store ends by itself or with some room: a full disk or stream, a server that
/// stops. The server has one code for all failures of a store and only its words tell them apart; what is not known to
/// pass is an I/O error.
fn is_passing(error: &PublishError) -> bool {
    let words = cause(error).map(ToString::to_string).unwrap_or_default();
    ["exceeded", "no space left", "closed"]
        .iter()
        .any(|passing| words.contains(passing))
}

#[cfg(test)]
mod tests;
