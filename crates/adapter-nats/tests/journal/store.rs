//! A server or a cluster of one's own, and what the tests do with a journal on it.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, jetstream};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_nats::{NatsConfig, NatsJournal};
use eventflow_contracts::journal::JournalFixture;
use eventflow_domain::{PartitionId, Position};
use eventflow_nats_server::{NatsCluster, NatsServer};
use eventflow_ports::{AppendError, Journal, ReadError, ReadLimit};

use super::support::Servers;

/// The partition that these tests write to.
pub(crate) const P: PartitionId = PartitionId(0);

/// The server's default of 1 MiB, less what the adapter keeps for headers.
const RECORD_BYTES_MAX: usize = 1024 * 1024 - 256;

/// Servers, with an empty store when they were started.
pub(crate) struct Store {
    pub(crate) servers: Servers,
    pub(crate) config: NatsConfig,
}

impl Store {
    /// One server with the default durability.
    pub(crate) fn single() -> Self {
        Self::of(Servers::single())
    }

    /// One server that syncs each message before it acknowledges.
    pub(crate) fn synced() -> Self {
        Self::of(Servers::synced())
    }

    /// Three servers, each with a copy of every record.
    pub(crate) fn replicated() -> Self {
        Self::of(Servers::replicated())
    }

    fn of(servers: Servers) -> Self {
        let config = NatsConfig {
            partitions: 2,
            replicas: servers.replicas(),
            ..NatsConfig::default()
        };
        Self { servers, config }
    }

    /// The same store, with less patience.
    pub(crate) fn answering_within(mut self, limit: Duration) -> Self {
        self.config.answer_within = limit;
        self
    }

    /// The single server.
    pub(crate) fn server(&mut self) -> &mut NatsServer {
        self.servers.server()
    }

    /// The three servers.
    pub(crate) fn cluster(&mut self) -> &mut NatsCluster {
        match &mut self.servers {
            Servers::One(_) => panic!("there is one server"),
            Servers::Three(cluster) => cluster,
        }
    }

    /// A new connection to all servers, that keeps trying to reconnect.
    pub(crate) async fn connect(&self) -> Client {
        self.servers.connect().await
    }

    /// A new journal on a new connection.
    pub(crate) async fn journal(&self) -> NatsJournal {
        NatsJournal::open(&self.connect().await, self.config.clone())
            .await
            .expect("opened")
    }

    /// The stream of partition `P`, on a connection of its own.
    pub(crate) async fn stream(&self) -> jetstream::stream::Stream {
        jetstream::new(self.connect().await)
            .get_stream("EVENTFLOW_JOURNAL_0")
            .await
            .expect("the stream is there")
    }
}

#[async_trait]
impl JournalFixture for Store {
    async fn open(&self) -> Arc<dyn Journal> {
        Arc::new(self.journal().await)
    }

    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }
}

/// A record that says who wrote it and which one it is.
pub(crate) fn record(writer: &str, number: u64) -> Bytes {
    Bytes::from(format!("{writer} {number}"))
}

/// Appends where nobody else does, as the engine goes about it: read the position back; mine, go on; empty, send the
/// (same) bytes. A stream that has just been made may not be known to all servers, so that a first append is lost.
pub(crate) async fn settle(journal: &NatsJournal, expected: Position, record: &Bytes) -> Position {
    const TRIES_MAX: usize = 100;
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 0..TRIES_MAX {
        let mut next = match journal.read(P, expected, ReadLimit::ONE).await {
            Ok(next) => next,
            Err(ReadError::Unavailable(_)) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(fatal) => panic!("{fatal}"),
        };
        if let Some(entry) = next.pop() {
            assert_eq!(&entry.record, record, "fenced where nobody else writes");
            return entry.position;
        }
        match journal.append(P, expected, record.clone()).await {
            Ok(position) => return position,
            // The first one has arrived meanwhile: read it back.
            Err(AppendError::Conflict) => {}
            Err(AppendError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
            Err(fatal) => panic!("{fatal}"),
        }
    }
    panic!("nothing was settled in {TRIES_MAX} tries");
}

/// All records of partition `P` by a page at a time, whose positions are 1, 2, 3, …
pub(crate) async fn all(journal: &NatsJournal) -> Vec<Bytes> {
    let mut records: Vec<Bytes> = Vec::new();
    loop {
        let after = Position(records.len() as u64);
        let page = journal
            .read(P, after, ReadLimit::REPLAY)
            .await
            .expect("read");
        if page.is_empty() {
            return records;
        }
        for entry in page {
            assert_eq!(entry.position.0, records.len() as u64 + 1, "a gap");
            records.push(entry.record);
        }
    }
}
