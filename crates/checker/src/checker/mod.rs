//! The checker: takes the records of a store one by one, and says at the end what does not hold.

mod event;
mod leave;

use std::{collections::HashMap, sync::Arc};

use eventflow_domain::{
    Digest, DurationMs, ExecutionId, PartitionId, Position, Sequence, Tenant,
    execution::Execution,
    limits::EVENTS_PER_STEP_MAX,
    plan::Plan,
    record::{self, Entry, ExecutionEvents},
};

use crate::{
    Evidence, Invariant,
    account::Account,
    chain::Links,
    compare::{Row, Rows, View},
    evidence::Expected,
    report::{PartitionReport, Report},
    violation::{Findings, Place},
};

/// What the checker asks of the store beside its journal.
pub trait Store {
    /// The plan of a tenant's definition; `None` where it is missing or does not compile.
    fn plan(&mut self, tenant: &Tenant, digest: &Digest) -> Option<Arc<Plan>>;

    /// Whether a tenant has this large value.
    fn has_blob(&mut self, tenant: &Tenant, digest: &Digest) -> bool {
        let _ = (tenant, digest);
        true
    }

    /// The view's row of an execution that has ended; only asked for where a view was given.
    fn row(
        &mut self,
        partition: PartitionId,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Option<Row> {
        let _ = (partition, tenant, execution);
        None
    }
}

/// What counts as a violation.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many partitions the store has; where it is given, every execution must be in its own.
    pub partitions: Option<u16>,
    /// A timer that acts this long after its time is late; lateness is only reported where there is none.
    pub late_max: Option<DurationMs>,
    /// An open execution to which nothing happens, and nothing is to happen, is stuck once its partition has gone on for
    /// so long.
    pub stuck_after: DurationMs,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            partitions: None,
            late_max: None,
            stuck_after: DurationMs::from_secs(10),
        }
    }
}

type Key = (Tenant, ExecutionId);

/// An execution that has ended, in a few words.
#[derive(Debug, Clone, Copy)]
struct Ended {
    partition: PartitionId,
    last: Sequence,
}

#[derive(Debug)]
struct Open {
    account: Account,
    /// None once it cannot be trusted.
    fold: Option<Execution>,
    /// Whether the view's row of it was found.
    has_row: bool,
    /// Whether a recovery would miss events of it, should it stay open.
    is_known_lost: bool,
}

/// One partition being read.
struct Reading {
    links: Links,
    report: PartitionReport,
    found_before: u64,
    rows: Option<Rows>,
    open: HashMap<Key, Open>,
}

/// Checks one store: partition by partition, record by record.
pub struct Checker<S> {
    store: S,
    settings: Settings,
    expected: Expected,
    findings: Findings,
    /// By the hash of tenant and id.
    ended: HashMap<[u8; 32], Ended>,
    reading: Option<Reading>,
    report: Report,
    place: Place,
}

impl<S: Store> Checker<S> {
    /// A checker of this store.
    pub fn new(store: S, settings: Settings) -> Self {
        Self {
            store,
            settings,
            expected: Expected::default(),
            findings: Findings::default(),
            ended: HashMap::new(),
            reading: None,
            report: Report::default(),
            place: Place::default(),
        }
    }

    /// Something that was acknowledged. Before the first partition.
    pub fn evidence(&mut self, evidence: Evidence) {
        self.expected.add(evidence);
    }

    /// Goes on with the first record of a partition; with its view, where that is to be compared.
    pub fn partition(&mut self, partition: PartitionId, view: Option<View>) {
        self.leave();
        self.place = Place {
            partition: Some(partition),
            ..Place::default()
        };
        self.reading = Some(Reading {
            links: Links::start(partition),
            report: PartitionReport::new(partition),
            found_before: self.findings.count,
            rows: view.map(Rows::new),
            open: HashMap::new(),
        });
    }

    /// What whoever reads the store found wrong with the partition's log itself.
    pub fn damage(&mut self, detail: String) {
        self.find(Invariant::Chain, detail);
    }

    /// The next record of the partition.
    pub fn record(&mut self, position: Position, bytes: &[u8]) {
        let Some(mut reading) = self.reading.take() else {
            return;
        };
        self.place = Place {
            partition: Some(reading.report.partition),
            position: Some(position),
            ..Place::default()
        };
        self.read(&mut reading, position, bytes);
        self.reading = Some(reading);
    }

    /// Everything that was found.
    pub fn finish(mut self) -> Report {
        self.leave();
        self.expected.missing(&mut self.findings);
        self.report.found = self.findings.count;
        self.report.violations = self.findings.kept;
        self.report
    }

    fn find(&mut self, invariant: Invariant, detail: String) {
        self.findings.add(&self.place, invariant, detail);
    }

    fn read(&mut self, reading: &mut Reading, position: Position, bytes: &[u8]) {
        reading.report.head = position;
        reading.report.records += 1;
        reading.report.bytes += bytes.len() as u64;
        let hash = Digest::of(bytes);
        let record = match record::decode(bytes) {
            Ok(record) => record,
            Err(fault) => {
                for detail in reading.links.pass_unreadable(position, hash) {
                    self.find(Invariant::Chain, detail);
                }
                return self.find(Invariant::Chain, fault.to_string());
            }
        };
        for detail in reading.links.pass(position, hash, &record) {
            self.find(Invariant::Chain, detail);
        }
        for entry in record.entries {
            match entry {
                Entry::EpochStarted { .. } => reading.report.epochs += 1,
                Entry::Execution(written) => {
                    let key = (written.tenant.clone(), written.execution.clone());
                    self.place.owner = Some(key.clone());
                    self.entry(reading, &key, position, &written);
                    (self.place.owner, self.place.sequence) = (None, None);
                }
            }
        }
    }

    fn entry(
        &mut self,
        reading: &mut Reading,
        key: &Key,
        position: Position,
        written: &ExecutionEvents,
    ) {
        reading.report.events += written.events.len() as u64;
        if written.events.len() > EVENTS_PER_STEP_MAX {
            let many = written.events.len();
            self.find(
                Invariant::I6,
                format!("{many} events in one step, more than {EVENTS_PER_STEP_MAX}"),
            );
        }
        let events = match written.parse() {
            Ok(events) => events,
            Err(fault) => return self.find(Invariant::Chain, fault.to_string()),
        };
        for (sequence, event) in events {
            self.place.sequence = Some(sequence);
            self.event(reading, key, position, sequence, &event);
        }
    }
}

/// What is kept of an execution's name once it has ended.
fn identity(key: &Key) -> [u8; 32] {
    Digest::of(format!("{}\0{}", key.0, key.1).as_bytes()).0
}
