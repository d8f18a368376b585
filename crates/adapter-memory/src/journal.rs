//! The journal in memory: every append is carried out, and durable for as long as the process lives, when the call
//! returns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{AppendError, Appending, Journal, JournalEntry, ReadError, ReadLimit};

use crate::lock;

/// The largest record by default: what a NATS broker takes as it is installed, so that nothing fits here only.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// All records of all partitions, bytes: what is full answers `Unavailable` instead of taking the machine's memory.
pub const JOURNAL_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// Partitions' records in memory. A clone is another instance on the same store.
#[derive(Debug)]
pub struct MemoryJournal {
    store: Arc<Mutex<Store>>,
    untold: Arc<Mutex<Untold>>,
    record_bytes_max: usize,
}

/// Per partition, the position named by the append that builds on one that failed, until the caller is told of that:
/// clause 5 of the port.
type Untold = HashMap<PartitionId, Position>;

#[derive(Debug, Default)]
struct Store {
    partitions: HashMap<PartitionId, Vec<Bytes>>,
    bytes: usize,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new(RECORD_BYTES_MAX)
    }
}

impl Clone for MemoryJournal {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            // What another instance has failed to do is nothing that this one's caller builds on.
            untold: Arc::default(),
            record_bytes_max: self.record_bytes_max,
        }
    }
}

impl MemoryJournal {
    /// An empty store that takes records up to so many bytes.
    pub fn new(record_bytes_max: usize) -> Self {
        Self {
            store: Arc::default(),
            untold: Arc::default(),
            record_bytes_max,
        }
    }

    /// Writes what does not build on a failure that the caller has not been told of.
    fn write_next(
        &self,
        partition: PartitionId,
        expected: Position,
        record: Bytes,
    ) -> Result<Position, AppendError> {
        let mut untold = lock(&self.untold);
        // An append anywhere else is a writer that began again.
        let builds_on_failure = untold.remove(&partition) == Some(expected);
        let outcome = if builds_on_failure {
            Err(AppendError::Conflict)
        } else {
            self.write(partition, expected, record)
        };
        if outcome.is_err() {
            untold.insert(partition, expected.next());
        }
        outcome
    }

    fn write(
        &self,
        partition: PartitionId,
        expected: Position,
        record: Bytes,
    ) -> Result<Position, AppendError> {
        if record.len() > self.record_bytes_max {
            return Err(AppendError::TooLarge {
                limit: self.record_bytes_max,
            });
        }
        let mut store = lock(&self.store);
        let bytes = store.bytes + record.len();
        let records = store.partitions.entry(partition).or_default();
        if records.len() as u64 != expected.0 {
            return Err(AppendError::Conflict);
        }
        if bytes > JOURNAL_BYTES_MAX {
            return Err(AppendError::Unavailable(
                format!(
                    "the journal in memory holds its {JOURNAL_BYTES_MAX} bytes: use a store on disk"
                )
                .into(),
            ));
        }
        records.push(record);
        store.bytes = bytes;
        Ok(expected.next())
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        let outcome = self.write_next(partition, expected, record);
        let untold = self.untold.clone();
        Box::pin(async move {
            let mut untold = lock(&untold);
            if outcome.is_err() && untold.get(&partition) == Some(&expected.next()) {
                untold.remove(&partition);
            }
            outcome
        })
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let store = lock(&self.store);
        let Some(records) = store.partitions.get(&partition) else {
            return Ok(Vec::new());
        };
        let mut bytes = 0;
        let mut page = Vec::new();
        for (position, record) in (1..).zip(records).skip(index(after)) {
            if !page.is_empty() && (page.len() >= limit.records || bytes >= limit.bytes) {
                break;
            }
            bytes += record.len();
            page.push(JournalEntry {
                position: Position(position),
                record: record.clone(),
            });
        }
        Ok(page)
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        let store = lock(&self.store);
        let records = store.partitions.get(&partition).map_or(0, Vec::len);
        Ok(Position(records as u64))
    }
}

/// How many records stand at or before a position.
fn index(position: Position) -> usize {
    usize::try_from(position.0).unwrap_or(usize::MAX)
}
