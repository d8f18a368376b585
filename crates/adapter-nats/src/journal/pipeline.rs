//! The way of appends into one stream: in the order of the calls, one at a time on the wire.
//!
//! **Nothing is published before the append ahead of it is acknowledged.** `Nats-Expected-Last-Sequence` alone does not
//! fence a pipeline: where a new writer puts exactly one record behind our back, our next append is refused and the one
//! after it, already on its way, finds the sequence it expects and is written (clause 5). So appends wait here, and
//! once one fails, all that were handed over before the caller knew of it fail as well.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::{
    self, Context, ErrorCode,
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
    publish::PublishAck,
};
use bytes::Bytes;
use eventflow_domain::Position;
use eventflow_ports::{AppendError, Appending};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Appends of a partition that wait for those ahead of them. A writer keeps a few in flight; at 512 KiB each this many
/// are 32 MiB. One more is refused as `Unavailable`.
const WAITING_MAX: usize = 64;

/// What a message carries beside the record: two headers with a sequence (20 digits) and a stream's name (below 80
/// bytes), some 170 bytes in all.
const HEADER_BYTES_MAX: usize = 256;

/// Where a pipeline leads.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) context: Context,
    pub(super) stream: String,
    pub(super) subject: String,
    pub(super) acknowledged_within: Duration,
}

/// The mouth of a partition's pipeline.
#[derive(Debug)]
pub(super) struct Pipeline {
    queue: mpsc::Sender<Waiting>,
    failures: Arc<Failures>,
}

/// How many appends of the partition have failed, and up to which one the caller has been told.
#[derive(Debug, Default)]
struct Failures {
    happened: AtomicU64,
    told: AtomicU64,
}

/// An append that was handed over.
#[derive(Debug)]
struct Waiting {
    expected: Position,
    record: Bytes,
    /// `Failures` as they were when it was handed over.
    happened: u64,
    told: u64,
    answer: oneshot::Sender<Result<Position, Failure>>,
}

/// An error, and the number of the failure that is told with it.
#[derive(Debug)]
struct Failure {
    error: AppendError,
    number: u64,
}

impl Pipeline {
    /// Starts the task that carries out what is handed over. It ends when the pipeline is dropped and all has its
    /// answer; nobody waits for it.
    pub(super) fn start(target: Target) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let failures = Arc::<Failures>::default();
        let run = Run {
            target,
            failures: failures.clone(),
            broken: None,
        };
        tokio::spawn(run.carry_out(waiting));
        Self { queue, failures }
    }

    /// Hands an append over.
    pub(super) fn append(&self, expected: Position, record: Bytes) -> Appending {
        let failures = self.failures.clone();
        let (answer, answered) = oneshot::channel();
        // In this order: a failure in between counts as one that the caller does not know.
        let told = failures.told.load(Ordering::SeqCst);
        let happened = failures.happened.load(Ordering::SeqCst);
        let waiting = Waiting {
            expected,
            record,
            happened,
            told,
            answer,
        };
        let refused = self
            .queue
            .try_send(waiting)
            .is_err()
            .then(|| failures.next());
        Box::pin(async move {
            let failure = match refused {
                Some(number) => Failure {
                    error: unavailable(format!(
                        "{WAITING_MAX} appends of this partition are waiting already"
                    )),
                    number,
                },
                None => match answered.await {
                    Ok(Ok(position)) => return Ok(position),
                    Ok(Err(failure)) => failure,
                    Err(_) => Failure {
                        error: unavailable("the runtime is shutting down".to_owned()),
                        number: 0,
                    },
                },
            };
            failures.told.fetch_max(failure.number, Ordering::SeqCst);
            Err(failure.error)
        })
    }
}

impl Failures {
    /// Counts one more.
    fn next(&self) -> u64 {
        self.happened.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// The task behind a pipeline.
struct Run {
    target: Target,
    failures: Arc<Failures>,
    /// The last failure of an append that had its turn.
    broken: Option<Broken>,
}

/// What those have to hear that were handed over before the caller knew.
#[derive(Clone)]
struct Broken {
    number: u64,
    fenced: bool,
    because: String,
}

impl Run {
    async fn carry_out(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        while let Some(next) = waiting.recv().await {
            let result = match self.builds_on_failure(&next) {
                Some(failure) => Err(failure),
                None => match self.publish(next.expected, next.record).await {
                    Ok(position) => Ok(position),
                    Err(error) => Err(self.failed(next.expected, error)),
                },
            };
            // Who dropped the future does not want to know.
            next.answer.send(result).ok();
        }
    }

    /// Why an append must not be published: something ahead of it failed, and it was handed over before the caller had
    /// been told.
    fn builds_on_failure(&self, next: &Waiting) -> Option<Failure> {
        match &self.broken {
            Some(broken) if next.told < broken.number => Some(Failure {
                error: if broken.fenced {
                    AppendError::Conflict
                } else {
                    unavailable(format!(
                        "not written, since an append ahead of it failed: {}",
                        broken.because
                    ))
                },
                number: broken.number,
            }),
            _ if next.told < next.happened => Some(Failure {
                error: unavailable(
                    "not written, since there was no room for an append ahead of it".to_owned(),
                ),
                number: next.happened,
            }),
            _ => None,
        }
    }

    fn failed(&mut self, expected: Position, error: AppendError) -> Failure {
        let stream = &self.target.stream;
        tracing::debug!(%stream, %expected, %error, "an append failed");
        let number = self.failures.next();
        self.broken = Some(Broken {
            number,
            fenced: matches!(error, AppendError::Conflict),
            because: error.to_string(),
        });
        Failure { error, number }
    }

    async fn publish(&self, expected: Position, record: Bytes) -> Result<Position, AppendError> {
        let limit = record_bytes_max(&self.target.context.client());
        if record.len() > limit {
            return Err(AppendError::TooLarge { limit });
        }
        let message = PublishMessage::build()
            .payload(record)
            .expected_last_sequence(expected.0)
            .expected_stream(&self.target.stream);
        let acknowledged = async {
            self.target
                .context
                .send_publish(self.target.subject.clone(), message)
                .await?
                .await
        };
        let result = timeout(self.target.acknowledged_within, acknowledged)
            .await
            .unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut)));
        judge(result, expected, limit)
    }
}

/// The largest record that the server takes now, in bytes.
pub(super) fn record_bytes_max(client: &async_nats::Client) -> usize {
    client.max_payload().saturating_sub(HEADER_BYTES_MAX)
}

/// What the server's answer is to the caller.
fn judge(
    result: Result<PublishAck, PublishError>,
    expected: Position,
    limit: usize,
) -> Result<Position, AppendError> {
    let error = match result {
        Ok(ack) if ack.sequence == expected.next().0 => return Ok(Position(ack.sequence)),
        Ok(ack) => {
            let (stream, found) = (ack.stream, ack.sequence);
            return Err(AppendError::Fatal(
                format!(
                    "stream {stream} wrote the record after {expected} at {found}: it does not heed \
                     Nats-Expected-Last-Sequence"
                )
                .into(),
            ));
        }
        Err(error) => error,
    };
    match refusal(&error) {
        Some(
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
        ) => Err(AppendError::Conflict),
        Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => Err(AppendError::TooLarge { limit }),
        Some(ErrorCode::STREAM_NOT_MATCH | ErrorCode::STREAM_SEALED) => {
            Err(AppendError::Fatal(error.into()))
        }
        Some(ErrorCode::STREAM_STORE_FAILED) if !is_passing(&error) => {
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

fn unavailable(reason: String) -> AppendError {
    AppendError::Unavailable(reason.into())
}

#[cfg(test)]
mod tests;
