//! A journal that takes its time: an append is on its way while everything else goes on, and arrives although whoever
//! sent it has died meanwhile.
//!
//! What was handed over behind an append that failed, before its sender could know, fails as well: clause 5 of the port.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_memory::MemoryJournal;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{AppendError, Appending, Journal, JournalEntry, ReadError, ReadLimit};
use tokio::sync::oneshot;

use crate::draw::Draw;

/// One writer's instance of the journal.
pub(crate) struct SlowJournal {
    /// The same instance for all appends: it knows which of them build on one that failed.
    store: Arc<MemoryJournal>,
    /// The longest way to the store, or back.
    latency: Duration,
    ways: Mutex<Ways>,
}

struct Ways {
    draw: Draw,
    last: BTreeMap<PartitionId, Last>,
}

/// The last append of a partition.
struct Last {
    /// Resolves when it has arrived: to the position that builds on it, where it failed.
    arrived: oneshot::Receiver<Option<Position>>,
    /// Whether its sender knows what became of it.
    is_told: Arc<AtomicBool>,
}

impl SlowJournal {
    /// An instance on this store.
    pub(crate) fn new(store: &MemoryJournal, latency: Duration, draw: Draw) -> Self {
        let last = BTreeMap::new();
        Self {
            store: Arc::new(store.clone()),
            latency,
            ways: Mutex::new(Ways { draw, last }),
        }
    }

    /// Where the append before this one is, and how long the ways there and back take.
    fn set_out(&self, partition: PartitionId, last: Last) -> (Option<Last>, Duration, Duration) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = u64::try_from(self.latency.as_millis()).unwrap_or(u64::MAX);
        let before = ways.last.insert(partition, last);
        let mut way = || Duration::from_millis(ways.draw.number(0..=longest));
        (before, way(), way())
    }
}

#[async_trait]
impl Journal for SlowJournal {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        let (answer, answered) = oneshot::channel();
        let (arrived, has_arrived) = oneshot::channel();
        let is_told = Arc::new(AtomicBool::new(false));
        let last = Last {
            arrived: has_arrived,
            is_told: is_told.clone(),
        };
        let (before, there, back) = self.set_out(partition, last);
        let before = before.filter(|before| !before.is_told.load(Ordering::Relaxed));
        let store = self.store.clone();
        tokio::spawn(async move {
            let failed = match before {
                Some(before) => before.arrived.await.unwrap_or_default(),
                None => None,
            };
            tokio::time::sleep(there).await;
            let outcome = if failed == Some(expected) {
                Err(AppendError::Conflict)
            } else {
                store.append(partition, expected, record).await
            };
            let _ = arrived.send(outcome.is_err().then(|| expected.next()));
            tokio::time::sleep(back).await;
            let _ = answer.send(outcome);
        });
        Box::pin(async move {
            let unanswered = || Err(AppendError::Unavailable("nobody answered".into()));
            let outcome = answered.await.unwrap_or_else(|_| unanswered());
            is_told.store(true, Ordering::Relaxed);
            outcome
        })
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        self.store.read(partition, after, limit).await
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        self.store.head(partition).await
    }
}

#[cfg(test)]
mod tests {
    use eventflow_adapter_memory::RECORD_BYTES_MAX;
    use eventflow_contracts::{journal::JournalFixture, journal_contract};

    use super::*;

    #[derive(Default)]
    struct Slow(MemoryJournal);

    #[async_trait]
    impl JournalFixture for Slow {
        async fn open(&self) -> Arc<dyn Journal> {
            let latency = Duration::from_millis(3);
            Arc::new(SlowJournal::new(&self.0, latency, Draw::of(1)))
        }

        fn record_bytes_max(&self) -> usize {
            RECORD_BYTES_MAX
        }
    }

    journal_contract!(slow, || async { Slow::default() });
}
