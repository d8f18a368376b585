//! `eventflow verify`: the invariants of DESIGN section 12, checked on a whole store, whether or not a service runs on it.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use anyhow::Context;
use console::style;
use eventflow_adapter_sqlite::{StoredRow, ViewReader};
use eventflow_checker::{Checker, Evidence, PartitionReport, Report, Row, Settings, Store, View};
use eventflow_domain::{Digest, ExecutionId, PartitionId, Position, Tenant, plan::Plan};
use eventflow_engine::frozen;
use eventflow_ports::ReadLimit;
use eventflow_wire::v1::Span;

use crate::{
    Common, Outcome, input,
    output::{self, Format},
    store::{Reading, RecordsError, StoreArgument},
};

/// Plans kept compiled; beyond it all are compiled again when they are asked for.
const PLANS_MAX: usize = 4_096;

/// `eventflow verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads only: a service may go on running on the store. Exit codes: 0 every invariant holds; 1 one does \
                  not; 2 the store cannot be read."
)]
pub(crate) struct Verify {
    #[command(flatten)]
    store: StoreArgument,
    /// What was acknowledged, a JSON object a line: {"start": {"executionId", "status"?}},
    /// {"result": {"executionId", "task", "output", "attempt"?}} or {"control": {"executionId", "order", "at"}}
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// A timer that acts later than this is a violation [default: lateness is only shown]
    #[arg(long, value_name = "DURATION")]
    late_max: Option<Span>,
}

impl Verify {
    pub(crate) fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let store = self.store.read()?;
        let reader = store.reading();
        let settings = Settings {
            partitions: Some(reader.partitions()),
            late_max: self.late_max.map(|span| span.0),
            ..Settings::default()
        };
        let report = check(reader, settings, self.evidence()?)?;
        match common.output {
            Format::Json => output::json(&report)?,
            Format::Text => describe(&report)?,
        }
        Ok(if report.is_clean() {
            Outcome::Yes
        } else {
            Outcome::No
        })
    }

    fn evidence(&self) -> anyhow::Result<Vec<Evidence>> {
        let Some(file) = &self.evidence else {
            return Ok(Vec::new());
        };
        let text = input::text(file)?;
        let parse = |(number, line): (usize, &str)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", file.display(), number + 1))
        };
        text.lines().enumerate().map(parse).collect()
    }
}

/// Reads a whole store, up to where each partition is now.
fn check(
    reader: &dyn Reading,
    settings: Settings,
    evidence: Vec<Evidence>,
) -> anyhow::Result<Report> {
    let mut beside = Beside::new(reader);
    let mut states = Vec::new();
    // Before the journal: a view is never further than the journal that is read after it.
    for partition in (0..reader.partitions()).map(PartitionId) {
        states.push(beside.view(partition)?);
    }
    let heads = (0..reader.partitions())
        .map(|partition| reader.head(PartitionId(partition)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut failure = None;
    let mut checker = Checker::new(
        Watched {
            beside,
            failure: &mut failure,
        },
        settings,
    );
    for evidence in evidence {
        checker.evidence(evidence);
    }
    for ((partition, view), (head, damage)) in (0..).map(PartitionId).zip(states).zip(heads) {
        checker.partition(partition, view);
        if let Some(damage) = damage {
            checker.damage(damage);
        }
        read(reader, partition, head, &mut checker)?;
    }
    let report = checker.finish();
    match failure {
        Some(failure) => Err(failure),
        None => Ok(report),
    }
}

fn read<S: Store>(
    reader: &dyn Reading,
    partition: PartitionId,
    head: Position,
    checker: &mut Checker<S>,
) -> anyhow::Result<()> {
    let mut after = Position(0);
    while after < head {
        let entries = match reader.records(partition, after, ReadLimit::REPLAY) {
            Ok(entries) => entries,
            Err(RecordsError::Damaged(fault)) => {
                checker.damage(format!(
                    "what follows record {after} cannot be read: {fault}"
                ));
                return Ok(());
            }
            Err(RecordsError::Failed(error)) => return Err(error),
        };
        let Some(last) = entries.last() else {
            checker.damage(format!("it ends at record {after}, not at {head}"));
            return Ok(());
        };
        after = last.position;
        for entry in entries.iter().filter(|entry| entry.position <= head) {
            checker.record(entry.position, &entry.record);
        }
    }
    Ok(())
}

/// What the journal is compared with.
struct Beside<'a> {
    reader: &'a dyn Reading,
    plans: HashMap<(Tenant, Digest), Option<Arc<Plan>>>,
    views: HashMap<PartitionId, ViewReader>,
}

impl<'a> Beside<'a> {
    fn new(reader: &'a dyn Reading) -> Self {
        Self {
            reader,
            plans: HashMap::new(),
            views: HashMap::new(),
        }
    }

    /// A partition's view as it is now, where the service would go on with it.
    fn view(&mut self, partition: PartitionId) -> anyhow::Result<Option<View>> {
        let Some(mut view) = self.reader.view(partition)? else {
            return Ok(None);
        };
        let state = view.state()?;
        self.views.insert(partition, view);
        Ok(Some(View {
            through: state.position.through,
            replay_after: state.position.replay_after,
            rows: state.rows,
            open: state.open.into_iter().map(row).collect(),
        }))
    }

    fn compile(&self, tenant: &Tenant, digest: &Digest) -> anyhow::Result<Option<Arc<Plan>>> {
        let document = self.reader.document(tenant, digest)?;
        let plan = document.and_then(|document| eventflow_dsl::compile(&document).ok());
        Ok(plan.map(Arc::new))
    }
}

/// The same, for a checker that knows of no failures: the first one is kept for its caller.
struct Watched<'a> {
    beside: Beside<'a>,
    failure: &'a mut Option<anyhow::Error>,
}

impl Watched<'_> {
    fn note<T: Default>(&mut self, outcome: anyhow::Result<T>) -> T {
        outcome.unwrap_or_else(|error| {
            self.failure.get_or_insert(error);
            T::default()
        })
    }
}

impl Store for Watched<'_> {
    fn plan(&mut self, tenant: &Tenant, digest: &Digest) -> Option<Arc<Plan>> {
        let key = (tenant.clone(), *digest);
        if let Some(plan) = self.beside.plans.get(&key) {
            return plan.clone();
        }
        let compiled = self.beside.compile(tenant, digest);
        let plan = self.note(compiled);
        if self.beside.plans.len() >= PLANS_MAX {
            self.beside.plans.clear();
        }
        self.beside.plans.insert(key, plan.clone());
        plan
    }

    fn has_blob(&mut self, tenant: &Tenant, digest: &Digest) -> bool {
        let found = self.beside.reader.has_blob(tenant, digest);
        self.note(found)
    }

    fn row(
        &mut self,
        partition: PartitionId,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Option<Row> {
        let found = self.beside.views.get(&partition)?.row(tenant, execution);
        self.note(found.map_err(anyhow::Error::from)).map(row)
    }
}

fn row(stored: StoredRow) -> Row {
    Row {
        state: frozen::thaw(&stored.state).map(|thawed| thawed.execution),
        tenant: stored.tenant,
        execution: stored.execution,
        status: stored.status,
    }
}

fn describe(report: &Report) -> anyhow::Result<()> {
    for partition in &report.partitions {
        output::line(partition_line(partition))?;
    }
    if let Some(latest) = &report.latest {
        let (ms, timer, execution) = (latest.ms.0, &latest.timer, &latest.execution);
        output::line(format!(
            "latest timer: {ms} ms after its time, {timer} of {}/{execution}",
            latest.tenant
        ))?;
    }
    if report.is_clean() {
        return output::line(style("every invariant holds").green());
    }
    output::line(style(format!("{} violations", report.found)).red().bold())?;
    for violation in &report.violations {
        output::line(format!("  {violation}"))?;
    }
    let more = report.found.saturating_sub(report.violations.len() as u64);
    if more > 0 {
        output::line(format!("  and {more} more"))?;
    }
    let mut broken: Vec<_> = report
        .violations
        .iter()
        .map(|found| found.invariant)
        .collect();
    broken.sort();
    broken.dedup();
    broken
        .iter()
        .try_for_each(|invariant| output::line(format!("{invariant}: {}", invariant.meaning())))
}

fn partition_line(partition: &PartitionReport) -> String {
    let executions: Vec<String> = partition
        .executions
        .iter()
        .map(|(status, count)| format!("{count} {}", status.as_str()))
        .collect();
    let executions = if executions.is_empty() {
        "no executions".to_owned()
    } else {
        executions.join(", ")
    };
    let view = partition.rows.map_or_else(
        || "no view to compare".to_owned(),
        |rows| format!("{rows} rows of the view compared"),
    );
    format!(
        "partition {}: {} records in {} epochs, {} events; {executions}; {view}",
        partition.partition, partition.records, partition.epochs, partition.events
    )
}
