//! A journal that takes its time: an append is on its way while everything else goes on, and arrives although whoever
//! sent it has died meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
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
    /// Resolves when the last append of a partition has arrived.
    last: BTreeMap<PartitionId, oneshot::Receiver<()>>,
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

    fn ways(&self) -> std::sync::MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Journal for SlowJournal {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        let (answer, answered) = oneshot::channel();
        let (arrived, has_arrived) = oneshot::channel();
        let longest = u64::try_from(self.latency.as_millis()).unwrap_or(u64::MAX);
        let (before, there, back) = {
            let mut ways = self.ways();
            let before = ways.last.insert(partition, has_arrived);
            let mut way = || Duration::from_millis(ways.draw.number(0..=longest));
            let (there, back) = (way(), way());
            (before, there, back)
        };
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Some(before) = before {
                // An error says that it has arrived and nobody asked.
                let _ = before.await;
            }
            pause(there).await;
            let appending = store.append(partition, expected, record);
            let _ = arrived.send(());
            pause(back).await;
            let _ = answer.send(appending.await);
        });
        Box::pin(async move {
            let lost = || Err(AppendError::Unavailable("nobody answered".into()));
            answered.await.unwrap_or_else(|_| lost())
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

async fn pause(span: Duration) {
    if !span.is_zero() {
        tokio::time::sleep(span).await;
    }
}
