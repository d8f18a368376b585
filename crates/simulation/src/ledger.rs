//! What is durable: the journal, read as it grows, and every execution's history in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use eventflow_adapter_memory::MemoryJournal;
use eventflow_domain::{
    Attempt, Digest, ExecutionId, PartitionId, Position, Sequence, TaskReference, Tenant,
    Timestamp,
    execution::Event,
    record::{self, Entry},
};
use eventflow_ports::{Journal, JournalEntry, ReadLimit};
use futures::FutureExt;

/// An execution within the whole store.
pub(crate) type Key = (Tenant, ExecutionId);

/// A handle to one store's books.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Mutex<Books>>);

/// Everything that was ever written.
pub(crate) struct Books {
    journal: MemoryJournal,
    /// How far each partition was read.
    read: Vec<Position>,
    /// By execution.
    pub(crate) histories: BTreeMap<Key, History>,
    ready: BTreeSet<(ExecutionId, TaskReference, Attempt)>,
    /// Every record as it was written, by partition.
    pub(crate) records: Vec<(PartitionId, JournalEntry)>,
    pub(crate) events: u64,
    /// Over every byte of it.
    digest: Digest,
}

/// One execution's events in order.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) events: Vec<Written>,
}

/// One event where it stands.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) sequence: Sequence,
    pub(crate) time: Timestamp,
    pub(crate) event: Event,
}

impl History {
    /// Whether its last event is an end.
    pub(crate) fn has_ended(&self) -> bool {
        self.events.last().is_some_and(|last| is_end(&last.event))
    }
}

/// Whether nothing follows.
pub(crate) fn is_end(event: &Event) -> bool {
    matches!(
        event,
        Event::ExecutionCompleted { .. }
            | Event::ExecutionFaulted { .. }
            | Event::ExecutionTimedOut { .. }
            | Event::ExecutionCancelled {}
    )
}

impl Ledger {
    pub(crate) fn new(journal: MemoryJournal, partitions: u16) -> Self {
        Self(Arc::new(Mutex::new(Books {
            journal,
            read: vec![Position(0); usize::from(partitions)],
            histories: BTreeMap::new(),
            ready: BTreeSet::new(),
            records: Vec::new(),
            events: 0,
            digest: Digest::of(b""),
        })))
    }

    /// Looks into the books as they are now.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        books.catch_up();
        look(&books)
    }

    /// Whether it is durable that this attempt is to be performed.
    pub(crate) fn is_ready(
        &self,
        execution: &ExecutionId,
        task: &TaskReference,
        attempt: Attempt,
    ) -> bool {
        let attempt = (execution.clone(), task.clone(), attempt);
        self.look(|books| books.ready.contains(&attempt))
    }

    pub(crate) fn digest(&self) -> Digest {
        self.look(|books| books.digest)
    }
}

impl Books {
    fn catch_up(&mut self) {
        for id in 0..self.read.len() {
            let partition = PartitionId(u16::try_from(id).expect("there are few partitions"));
            loop {
                let read = self
                    .journal
                    .read(partition, self.read[id], ReadLimit::REPLAY);
                let entries = read.now_or_never().expect("memory answers at once");
                let entries = entries.expect("memory does not fail");
                let Some(last) = entries.last() else { break };
                self.read[id] = last.position;
                for entry in entries {
                    self.read_record(&entry.record);
                    self.records.push((partition, entry));
                }
            }
        }
    }

    /// What cannot be read is passed over: the checker finds it.
    fn read_record(&mut self, bytes: &[u8]) {
        self.digest = Digest::of(&[&self.digest.0[..], bytes].concat());
        let Ok(record) = record::decode(bytes) else {
            return;
        };
        for entry in record.entries {
            let Entry::Execution(written) = entry else {
                continue;
            };
            let events = written.parse().unwrap_or_default();
            let key = (written.tenant, written.execution);
            let history = self.histories.entry(key.clone()).or_default();
            for (sequence, event) in events {
                self.events += 1;
                if let Event::TaskScheduled { task, attempt, .. }
                | Event::TimerFired { task, attempt } = &event
                {
                    let attempt = (key.1.clone(), task.clone(), *attempt);
                    self.ready.insert(attempt);
                }
                history.events.push(Written {
                    sequence,
                    time: record.header.time,
                    event,
                });
            }
        }
    }
}
