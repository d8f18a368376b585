//! Histories as a journal has them: sealed records, one after the other.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

use eventflow_checker::{Checker, Evidence, Invariant, Report, Row, Settings, Store, View};
use eventflow_domain::{
    Digest, Epoch, ExecutionId, Json, PartitionId, Position, Sequence, Tenant, Timestamp,
    execution::Event,
    limits::EVENTS_PER_STEP_MAX,
    plan::Plan,
    record::{Body, Chain, Entry, FORMAT_LEVEL},
};
use serde::Deserialize;

/// One execution's history and its definition.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) name: String,
    pub(crate) tenant: Tenant,
    pub(crate) execution: ExecutionId,
    pub(crate) plan: Arc<Plan>,
    pub(crate) events: Vec<(Sequence, Json, Timestamp)>,
}

impl History {
    /// With events of its own, numbered from 1.
    pub(crate) fn of(plan: &Arc<Plan>, id: &str, events: &[(Event, Timestamp)]) -> Self {
        let numbered = (1..).map(Sequence).zip(events);
        Self {
            name: id.to_owned(),
            tenant: Tenant::default_tenant(),
            execution: ExecutionId::parse(id).unwrap(),
            plan: Arc::clone(plan),
            events: numbered
                .map(|(sequence, (event, at))| (sequence, Json::of(event), *at))
                .collect(),
        }
    }

    /// The same with the events numbered anew: as if it had happened so.
    pub(crate) fn renumbered(mut self) -> Self {
        for (sequence, (number, ..)) in (1..).map(Sequence).zip(&mut self.events) {
            *number = sequence;
        }
        self
    }

    /// The same with another event at this place.
    pub(crate) fn with(
        mut self,
        place: usize,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Self {
        let event = &mut self.events[place].1;
        let mut value = event.to_value();
        change(&mut value);
        assert_ne!(value, event.to_value(), "the change changes something");
        *event = Json::of(&value);
        self
    }

    /// The same without the event of this number, as if it had never happened.
    pub(crate) fn without(mut self, number: usize) -> Self {
        self.events.remove(number - 1);
        self.renumbered()
    }

    /// The same with the event of this number moved behind another one.
    pub(crate) fn moved(mut self, number: usize, behind: usize) -> Self {
        let (_, event, _) = self.events.remove(number - 1);
        let at = self.events[behind - 1].2;
        self.events.insert(behind, (Sequence(0), event, at));
        self.renumbered()
    }

    /// The same with the event of this number once more, behind another one.
    pub(crate) fn repeated(mut self, number: usize, behind: usize) -> Self {
        let (event, at) = (self.events[number - 1].1.clone(), self.events[behind - 1].2);
        self.events.insert(behind, (Sequence(0), event, at));
        self.renumbered()
    }

    /// The same, the events from this number on so much earlier.
    pub(crate) fn earlier(mut self, number: usize, milliseconds: i64) -> Self {
        for (_, _, at) in &mut self.events[number - 1..] {
            at.0 -= milliseconds;
        }
        self
    }
}

/// The golden history of this name.
pub(crate) fn golden(name: &str) -> History {
    #[derive(Deserialize)]
    struct Meta {
        tenant: Tenant,
        execution: ExecutionId,
        document: Json,
    }
    #[derive(Deserialize)]
    struct Line {
        sequence: Sequence,
        time: Timestamp,
        event: Json,
    }
    let path = folder().join(format!("{name}.jsonl"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines();
    let meta: Meta = serde_json::from_str(lines.next().unwrap()).unwrap();
    let events = lines.map(|line| {
        let line: Line = serde_json::from_str(line).unwrap();
        (line.sequence, line.event, line.time)
    });
    History {
        name: name.to_owned(),
        tenant: meta.tenant,
        execution: meta.execution,
        plan: Arc::new(eventflow_dsl::compile(&meta.document).unwrap()),
        events: events.collect(),
    }
}

/// All golden histories.
pub(crate) fn goldens() -> &'static [History] {
    static READ: LazyLock<Vec<History>> = LazyLock::new(read_goldens);
    &READ
}

fn read_goldens() -> Vec<History> {
    let entries = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.iter().map(|name| golden(name)).collect()
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/histories")
}

/// A journal being written.
pub(crate) struct Journal {
    pub(crate) chain: Chain,
    pub(crate) records: Vec<Vec<u8>>,
}

impl Journal {
    /// With its first reign begun.
    pub(crate) fn begun() -> Self {
        let mut journal = Self {
            chain: Chain::start(PartitionId(0)),
            records: Vec::new(),
        };
        journal.reign(Timestamp(1));
        journal
    }

    /// The next writer takes over.
    pub(crate) fn reign(&mut self, at: Timestamp) {
        let mut body = Body::default();
        body.push(&Entry::EpochStarted {
            level: FORMAT_LEVEL,
            writer: "test".into(),
        });
        self.append(&body, self.chain.epoch.next(), at);
    }

    pub(crate) fn append(&mut self, body: &Body, epoch: Epoch, at: Timestamp) {
        let header = self.chain.next_header(epoch, at);
        let bytes = body.seal(&header);
        self.chain.append(&header, &bytes);
        self.records.push(bytes);
    }

    /// One record of these events.
    pub(crate) fn push(&mut self, history: &History, events: &[(Sequence, Json, Timestamp)]) {
        let Some((first, _, at)) = events.first() else {
            return;
        };
        let entry = Entry::Execution(eventflow_domain::record::ExecutionEvents {
            tenant: history.tenant.clone(),
            execution: history.execution.clone(),
            first: *first,
            events: events.iter().map(|(_, event, _)| event.clone()).collect(),
        });
        let mut body = Body::default();
        body.push(&entry);
        self.append(&body, self.chain.epoch, *at);
    }

    /// A whole history: what has one time and consecutive numbers is one record.
    pub(crate) fn write(&mut self, history: &History) {
        let together = |one: &(Sequence, Json, Timestamp), next: &(Sequence, Json, Timestamp)| {
            one.2 == next.2 && one.0.next() == next.0
        };
        for run in history.events.chunk_by(together) {
            for step in run.chunks(EVENTS_PER_STEP_MAX) {
                self.push(history, step);
            }
        }
    }
}

/// The store beside the journal.
#[derive(Default)]
pub(crate) struct Beside {
    pub(crate) plans: HashMap<(Tenant, Digest), Arc<Plan>>,
    pub(crate) ended: HashMap<ExecutionId, Row>,
    pub(crate) has_no_blobs: bool,
}

impl Beside {
    pub(crate) fn of(histories: &[&History]) -> Self {
        let plan = |history: &&History| {
            (
                (history.tenant.clone(), history.plan.digest),
                Arc::clone(&history.plan),
            )
        };
        Self {
            plans: histories.iter().map(plan).collect(),
            ..Self::default()
        }
    }
}

impl Store for Beside {
    fn plan(&mut self, tenant: &Tenant, digest: &Digest) -> Option<Arc<Plan>> {
        self.plans.get(&(tenant.clone(), *digest)).cloned()
    }

    fn has_blob(&mut self, _: &Tenant, _: &Digest) -> bool {
        !self.has_no_blobs
    }

    fn row(&mut self, _: PartitionId, _: &Tenant, execution: &ExecutionId) -> Option<Row> {
        self.ended.remove(execution)
    }
}

/// Checks a journal.
pub(crate) struct Check {
    pub(crate) beside: Beside,
    pub(crate) settings: Settings,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) view: Option<View>,
}

impl Check {
    pub(crate) fn with(histories: &[&History]) -> Self {
        Self {
            beside: Beside::of(histories),
            settings: Settings::default(),
            evidence: Vec::new(),
            view: None,
        }
    }

    pub(crate) fn records(self, records: &[Vec<u8>]) -> Report {
        let mut checker = Checker::new(self.beside, self.settings);
        for evidence in self.evidence {
            checker.evidence(evidence);
        }
        checker.partition(PartitionId(0), self.view);
        for (position, record) in (1..).map(Position).zip(records) {
            checker.record(position, record);
        }
        checker.finish()
    }

    pub(crate) fn histories(self, histories: &[&History]) -> Report {
        let mut journal = Journal::begun();
        for history in histories {
            journal.write(history);
        }
        self.records(&journal.records)
    }
}

/// Checks one history alone.
pub(crate) fn check(history: &History) -> Report {
    Check::with(&[history]).histories(&[history])
}

/// It is clean.
#[track_caller]
pub(crate) fn clean(report: &Report) {
    let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    assert!(report.is_clean(), "{found:#?}");
}

/// This invariant is among what does not hold, with these words.
#[track_caller]
pub(crate) fn finds(report: &Report, invariant: Invariant, words: &str) {
    let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    let is_it = report
        .violations
        .iter()
        .any(|violation| violation.invariant == invariant && violation.detail.contains(words));
    assert!(is_it, "no {invariant} with `{words}` in {found:#?}");
}
