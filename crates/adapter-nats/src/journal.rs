//! The journal on `JetStream`: a stream per partition, a message per record, the stream's sequence as the position.
//!
//! The fence is the header `Nats-Expected-Last-Sequence`: the stream's leader compares it with its own last sequence
//! and refuses what does not follow. Message ids and their window of duplicates play no part. Everything is read
//! through the stream's leader, so that what was acknowledged is seen.

mod pipeline;
mod reading;
mod stream;

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{self, context::ContextBuilder, stream::Stream},
};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{
    AppendError, Appending, Journal, JournalEntry, ReadError, ReadLimit, Source,
};
use tokio::sync::{mpsc, oneshot};

use self::pipeline::{Handed, Pipeline};
pub use self::stream::{Difference, OpenError};

/// Appends of a partition that were handed over and not yet published. A writer keeps a few in flight; at 512 KiB each
/// this many are 32 MiB. One more is refused as `Unavailable`.
const HANDED_OVER_MAX: usize = 64;

/// What a message carries beside the record: two headers with a sequence (20 digits) and a stream's name (below 80
/// bytes), some 170 bytes in all.
const HEADER_BYTES_MAX: usize = 256;

/// Where and how a journal is kept.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// What subjects begin with, `eventflow.journal.<p>`, and in upper case what streams do, `EVENTFLOW_JOURNAL_<p>`.
    /// 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub prefix: String,
    /// Partitions `0..partitions` are there.
    pub partitions: u16,
    /// Copies of each record, on as many servers: 1 or 3.
    pub replicas: usize,
    /// How long the server may take over one request before it counts as unavailable.
    pub answer_within: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            prefix: "eventflow".to_owned(),
            partitions: 4,
            replicas: 1,
            // Longer than most elections, shorter than the patience of who waits for an HTTP answer.
            answer_within: Duration::from_secs(5),
        }
    }
}

/// [`Journal`] on streams of a NATS server or cluster.
///
/// Appends that were handed over are carried out even where the journal is dropped before they are, as long as the
/// runtime lives.
#[derive(Debug)]
pub struct NatsJournal {
    client: Client,
    partitions: Vec<Partition>,
}

/// One stream, and the way into it.
#[derive(Debug)]
struct Partition {
    stream: Stream<()>,
    queue: mpsc::Sender<Handed>,
}

impl NatsJournal {
    /// Creates the streams that are not there, verifies those that are, and starts a task per partition that carries
    /// out its appends in order.
    pub async fn open(client: &Client, config: JournalConfig) -> Result<Self, OpenError> {
        stream::check_prefix(&config.prefix)?;
        let context = ContextBuilder::new()
            .timeout(config.answer_within)
            .build(client.clone());
        let mut partitions = Vec::with_capacity(usize::from(config.partitions));
        for partition in 0..config.partitions {
            let needed = stream::needed(&config, PartitionId(partition));
            let stream = stream::create_or_verify(&context, &needed).await?;
            partitions.push(Partition::start(&context, stream, &needed, &config));
        }
        Ok(Self {
            client: client.clone(),
            partitions,
        })
    }

    /// The largest record that the server takes now, in bytes: its `max_payload` (1 MiB unless it is configured) less
    /// the headers.
    pub fn record_bytes_max(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_BYTES_MAX)
    }

    fn partition(&self, partition: PartitionId) -> Result<&Partition, Source> {
        self.partitions
            .get(usize::from(partition.0))
            .ok_or_else(|| {
                format!(
                    "there is no partition {partition}: this journal was opened with {}",
                    self.partitions.len()
                )
                .into()
            })
    }
}

impl Partition {
    fn start(
        context: &jetstream::Context,
        stream: Stream<()>,
        needed: &jetstream::stream::Config,
        config: &JournalConfig,
    ) -> Self {
        let (queue, handed) = mpsc::channel(HANDED_OVER_MAX);
        let pipeline = Pipeline {
            context: context.clone(),
            stream: needed.name.clone(),
            subject: stream::subject(needed),
            answer_within: config.answer_within,
        };
        // Ends when the journal is dropped and what was handed over is done; nobody waits for it.
        tokio::spawn(pipeline.run(handed));
        Self { stream, queue }
    }
}

#[async_trait]
impl Journal for NatsJournal {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        let limit = self.record_bytes_max();
        if record.len() > limit {
            return failed(AppendError::TooLarge { limit });
        }
        let queue = match self.partition(partition) {
            Ok(partition) => &partition.queue,
            Err(unknown) => return failed(AppendError::Fatal(unknown)),
        };
        let (answer, outcome) = oneshot::channel();
        let handed = Handed {
            expected,
            record,
            answer,
        };
        if queue.try_send(handed).is_err() {
            return failed(AppendError::Unavailable(
                format!(
                    "partition {partition} has {HANDED_OVER_MAX} appends waiting to be published"
                )
                .into(),
            ));
        }
        Box::pin(async move {
            outcome.await.unwrap_or_else(|_| {
                Err(AppendError::Unavailable(
                    "the append was not carried out to its end: the runtime shuts down".into(),
                ))
            })
        })
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let partition = self.partition(partition).map_err(ReadError::Fatal)?;
        reading::read(&partition.stream, after, limit).await
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        let partition = self.partition(partition).map_err(ReadError::Fatal)?;
        reading::head(&partition.stream).await
    }
}

fn failed(error: AppendError) -> Appending {
    Box::pin(std::future::ready(Err(error)))
}
