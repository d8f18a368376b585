//! A store on NATS, read from outside. Commands ask one thing after another, so each question is waited for.

use std::ops::RangeInclusive;

use anyhow::anyhow;
use eventflow_adapter_nats::{
    Client, ConnectOptions, NatsQuarantined, NatsReader, SetAside, StoredMessage, connect,
    connect_system,
};
use eventflow_adapter_sqlite::ViewReader;
use eventflow_domain::{Digest, Json, PartitionId, Position, Tenant};
use eventflow_ports::{JournalEntry, ReadError, ReadLimit};
use tokio::runtime::Runtime;

use super::{Order, Quarantined, Reading, RecordsError};

/// In every message that a writer publishes: where it is to be.
const EXPECTED: &str = "Nats-Expected-Last-Sequence";
/// In every message of a journal that was made again: where it was before.
const BEFORE: &str = "Eventflow-Position-Before";
/// Of a message that is no record, so much is shown.
const SHOWN_BYTES: usize = 40;

/// A connection, and what is at its other end.
pub(crate) struct Nats {
    /// The connection lives on its own thread while a command computes.
    runtime: Runtime,
    client: Client,
    prefix: String,
    pub(crate) reader: NatsReader,
}

impl Nats {
    pub(super) fn open(options: &ConnectOptions, prefix: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (client, reader) = runtime.block_on(async {
            let client = connect(options).await?;
            let reader = NatsReader::open(&client, prefix).await?;
            anyhow::Ok((client, reader))
        })?;
        Ok(Self {
            runtime,
            client,
            prefix: prefix.to_owned(),
            reader,
        })
    }

    /// Waits for an answer.
    pub(crate) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    /// What the servers are like; a server's URL as the system account tells more.
    pub(crate) fn findings(
        &self,
        system: Option<&str>,
    ) -> anyhow::Result<eventflow_adapter_nats::Findings> {
        self.wait(async {
            let system = match system {
                Some(url) => Some(
                    connect_system(&ConnectOptions {
                        urls: vec![url.to_owned()],
                        ..ConnectOptions::default()
                    })
                    .await?,
                ),
                None => None,
            };
            let config = self.reader.config();
            Ok(
                eventflow_adapter_nats::Findings::look(&self.client, config, system.as_ref())
                    .await?,
            )
        })
    }

    fn messages(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<StoredMessage>, RecordsError> {
        let read = self.wait(self.reader.messages(partition, after, limit));
        read.map_err(|error| match error {
            ReadError::Fatal(error) => RecordsError::Damaged(error.to_string()),
            error @ ReadError::Unavailable(_) => RecordsError::Failed(error.into()),
        })
    }
}

impl Reading for Nats {
    fn partitions(&self) -> u16 {
        self.reader.partitions()
    }

    fn head(&self, partition: PartitionId) -> anyhow::Result<(Position, Option<String>)> {
        Ok(self.wait(self.reader.head(partition))?)
    }

    fn records(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, RecordsError> {
        let messages = self.messages(partition, after, limit)?;
        let record = |message: StoredMessage| JournalEntry {
            position: message.position,
            record: message.record,
        };
        Ok(messages.into_iter().map(record).collect())
    }

    fn remark(&self, partition: PartitionId, position: Position) -> anyhow::Result<Option<String>> {
        let before = Position(position.0.saturating_sub(1));
        let found = self.messages(partition, before, ReadLimit::ONE)?;
        let message = found.first().filter(|message| message.position == position);
        Ok(message.and_then(strange))
    }

    fn document(&self, tenant: &Tenant, digest: &Digest) -> anyhow::Result<Option<Json>> {
        let found = self.wait(self.reader.document(tenant, digest));
        found.map_err(|error| anyhow!(error))
    }

    fn has_blob(&self, tenant: &Tenant, digest: &Digest) -> anyhow::Result<bool> {
        let found = self.wait(self.reader.has_blob(tenant, digest));
        found.map_err(|error| anyhow!(error))
    }

    /// Each node has views of its own, and can lose them.
    fn view(&self, _: PartitionId) -> anyhow::Result<Option<ViewReader>> {
        Ok(None)
    }

    fn quarantined(&self) -> anyhow::Result<Vec<Quarantined>> {
        let found = self.wait(NatsQuarantined::list(&self.reader))?;
        Ok(found.into_iter().map(Quarantined::from).collect())
    }

    fn planned(
        &self,
        partition: PartitionId,
        first: Position,
    ) -> anyhow::Result<Vec<RangeInclusive<u64>>> {
        let planned = NatsQuarantined::planned(&self.client, &self.reader, partition, first);
        Ok(self.wait(planned)?)
    }

    fn set_aside(&self, order: &Order) -> anyhow::Result<Quarantined> {
        let order = SetAside {
            partition: order.partition,
            first: order.first,
            at: order.at,
            by: order.by.clone(),
            reason: order.reason.clone(),
        };
        let done = NatsQuarantined::set_aside(&self.client, &self.prefix, &order);
        Ok(self.wait(done)?.into())
    }
}

/// What no writer does.
fn strange(message: &StoredMessage) -> Option<String> {
    let is_ours = [EXPECTED, BEFORE]
        .iter()
        .any(|name| message.headers.contains_key(*name));
    if is_ours {
        return None;
    }
    let shown = &message.record[..message.record.len().min(SHOWN_BYTES)];
    Some(format!(
        "published to {} without {EXPECTED}, as no writer does, and begins with `{}`",
        message.subject,
        shown.escape_ascii()
    ))
}

impl From<NatsQuarantined> for Quarantined {
    fn from(set_aside: NatsQuarantined) -> Self {
        Self {
            lies_in: ("object", set_aside.object),
            partition: set_aside.partition,
            first: set_aside.first,
            last: set_aside.last,
            records: set_aside.records,
            loses: set_aside.loses,
            at: set_aside.at,
            by: Some(set_aside.by),
            reason: set_aside.reason,
        }
    }
}
