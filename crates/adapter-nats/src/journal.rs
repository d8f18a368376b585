//! The journal on `JetStream`: a stream per partition, a message per record, the stream's sequence as the position.
//!
//! The fence is the header `Nats-Expected-Last-Sequence`: the stream's leader compares it with its own last sequence
//! and refuses what does not follow; `pipeline` says what more it takes where several appends are in flight. Message
//! ids and their window of duplicates play no part. Everything is read through the stream's leader, so that what was
//! acknowledged is seen.

mod pipeline;
mod reading;
mod stream;

use std::{future::ready, time::Duration};

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
use tokio::time::Instant;

use self::pipeline::{Pipeline, Target, record_bytes_max};
pub use self::stream::{Difference, OpenError};

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
    /// How long the server may take over one append or read before it counts as unavailable.
    pub answer_within: Duration,
    /// How long a server that does not answer is asked again when the journal is opened.
    pub open_within: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            prefix: "eventflow".to_owned(),
            partitions: 4,
            replicas: 1,
            // Shorter than the patience of who waits for an HTTP answer.
            answer_within: Duration::from_secs(5),
            // A cluster that is starting loses requests while it elects its leaders, which takes up to 9 s where votes
            // are split.
            open_within: Duration::from_secs(20),
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
    pipeline: Pipeline,
}

impl NatsJournal {
    /// Creates the streams that are not there, verifies those that are, and starts a task per partition that carries
    /// out its appends in order.
    pub async fn open(client: &Client, config: JournalConfig) -> Result<Self, OpenError> {
        stream::check_prefix(&config.prefix)?;
        let context = ContextBuilder::new()
            .timeout(config.answer_within)
            .build(client.clone());
        let deadline = Instant::now() + config.open_within;
        let mut partitions = Vec::with_capacity(usize::from(config.partitions));
        for partition in 0..config.partitions {
            let needed = stream::needed(&config, PartitionId(partition));
            let stream = stream::open(&context, &needed, deadline).await?;
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
        record_bytes_max(&self.client)
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
        let pipeline = Pipeline::start(Target {
            context: context.clone(),
            stream: needed.name.clone(),
            subject: stream::subject(needed),
            answer_within: config.answer_within,
        });
        Self { stream, pipeline }
    }
}

#[async_trait]
impl Journal for NatsJournal {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        match self.partition(partition) {
            Ok(partition) => partition.pipeline.append(expected, record),
            Err(unknown) => Box::pin(ready(Err(AppendError::Fatal(unknown)))),
        }
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
