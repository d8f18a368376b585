//! The journal on `JetStream`: a stream per partition, a message per record, the stream's sequence as the position.
//!
//! The fence is the header `Nats-Expected-Last-Sequence`: the stream's leader compares it with its own last sequence
//! and refuses what does not follow; `pipeline` says what more it takes where several appends are in flight. Message
//! ids and their window of duplicates play no part. Everything is read through the stream's leader, so that what was
//! acknowledged is seen.

mod pipeline;
pub(crate) mod reading;
mod stream;

use std::{future::ready, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, stream::Stream},
};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{
    AppendError, Appending, Journal, JournalEntry, ReadError, ReadLimit, Source,
};
use tokio::time::{Instant, timeout};

use self::pipeline::{Pipeline, Target, record_bytes_max};
pub(crate) use self::stream::needed;
use crate::{NatsConfig, OpenError, stream as streams};

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
    lost_after: Duration,
}

impl NatsJournal {
    /// Creates the streams that are not there, verifies those that are, and starts a task per partition that carries
    /// out its appends in order.
    pub async fn open(client: &Client, config: NatsConfig) -> Result<Self, OpenError> {
        streams::check_prefix(&config.prefix)?;
        let context = config.patient_context(client);
        let deadline = Instant::now() + config.open_within;
        let mut partitions = Vec::with_capacity(usize::from(config.partitions));
        for partition in 0..config.partitions {
            let needed = stream::needed(&config, PartitionId(partition));
            let stream = streams::open(&context, &needed, deadline).await?;
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
        config: &NatsConfig,
    ) -> Self {
        let pipeline = Pipeline::start(Target {
            context: context.clone(),
            stream: needed.name.clone(),
            subject: stream::subject(needed),
            acknowledged_within: config.lost_after(),
        });
        Self {
            stream,
            pipeline,
            lost_after: config.lost_after(),
        }
    }

    /// The position of the last record. Whoever asks a stream whose leader is lost gets no answer, and a new leader none
    /// of those that came before it.
    async fn head(&self) -> Result<Position, ReadError> {
        timeout(self.lost_after, reading::head(&self.stream))
            .await
            .unwrap_or_else(|lost| Err(ReadError::Unavailable(lost.into())))
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
        let head = partition.head().await?;
        reading::read(&partition.stream, after, head, limit).await
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        let partition = self.partition(partition).map_err(ReadError::Fatal)?;
        partition.head().await
    }
}
