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
    record::{Chain, Entry},
};
use eventflow_ports::{Journal, ReadLimit};
use futures::FutureExt;

/// An execution within the whole store.
pub(crate) type Key = (Tenant, ExecutionId);

/// A handle to one store's books.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Mutex<Books>>);

/// Everything that was ever written.
pub(crate) struct Books {
    journal: MemoryJournal,
    chains: Vec<(Chain, Position)>,
    /// By execution.
    pub(crate) histories: BTreeMap<Key, History>,
    ready: BTreeSet<(ExecutionId, TaskReference, Attempt)>,
    /// What cannot be read, or does not continue what came before.
    pub(crate) faults: Vec<String>,
    pub(crate) records: u64,
    pub(crate) events: u64,
    /// Over every byte of it.
    digest: Digest,
}

/// One execution's events in order.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) partitions: BTreeSet<PartitionId>,
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
            | Event::ExecutionCancelled
    )
}

impl Ledger {
    pub(crate) fn new(journal: MemoryJournal, partitions: u16) -> Self {
        let chain = |id| (Chain::start(PartitionId(id)), Position(0));
        Self(Arc::new(Mutex::new(Books {
            journal,
            chains: (0..partitions).map(chain).collect(),
            histories: BTreeMap::new(),
            ready: BTreeSet::new(),
            faults: Vec::new(),
            records: 0,
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
        for place in 0..self.chains.len() {
            loop {
                let (chain, position) = self.chains[place];
                let read = self
                    .journal
                    .read(chain.partition, position, ReadLimit::REPLAY)
                    .now_or_never();
                let entries = read
                    .expect("memory answers at once")
                    .expect("memory does not fail");
                if entries.is_empty() {
                    break;
                }
                for entry in entries {
                    self.read(place, entry.position, &entry.record);
                }
            }
        }
    }

    fn read(&mut self, place: usize, position: Position, bytes: &[u8]) {
        let (chain, last) = &mut self.chains[place];
        *last = position;
        let partition = chain.partition;
        self.records += 1;
        self.digest = Digest::of(&[&self.digest.0[..], bytes].concat());
        let record = match chain.follow(bytes) {
            Ok(record) => record,
            Err(fault) => {
                let fault = format!("record {position} of partition {partition}: {fault}");
                return self.faults.push(fault);
            }
        };
        for entry in record.entries {
            let Entry::Execution(written) = entry else {
                continue;
            };
            let events = match written.parse() {
                Ok(events) => events,
                Err(fault) => {
                    self.faults.push(fault.to_string());
                    continue;
                }
            };
            let key = (written.tenant, written.execution);
            let history = self.histories.entry(key.clone()).or_default();
            history.partitions.insert(partition);
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
