//! What the store must be after a power loss: open, sound, with everything that was acknowledged, and able to go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use eventflow_adapter_memory::{MemoryTaskQueue, ScriptedHttpClient};
use eventflow_adapter_sqlite::SqliteStore;
use eventflow_adapter_system::{SystemClock, UuidIds};
use eventflow_domain::{
    AgentName, Capability, DurationMs, ExecutionId, Json, Tenant, Timestamp,
    execution::{Status, TaskStatus},
};
use eventflow_engine::{Backend, Config, Engine};
use eventflow_ports::{
    Clock, ListQuery,
    inbound::{
        ExecutionView, Executions, LeaseRequest, LeasedTask, ResultOutcome, StartExecution,
        TaskResult, TaskToken, TaskVerdict, TaskView, Tasks, WorkflowRef, Workflows,
    },
};

use super::{
    chains,
    load::{self, PARTITIONS},
    trace::{Acknowledged, Entry, Trace},
};

/// What has not happened by then never will.
const PATIENCE: Duration = Duration::from_secs(10);
/// Documents are large, and slow to read: of all that were acknowledged, the last ones are at risk.
const DOCUMENTS_READ: usize = 2;
/// More than the load has.
const PAGE: usize = 500;

/// What was acknowledged before the loss, and what agents knew.
#[derive(Default)]
pub(crate) struct Expected {
    is_ready: bool,
    documents: BTreeSet<usize>,
    started: BTreeSet<String>,
    /// Execution and task.
    completed: BTreeSet<(String, String)>,
    /// Of the whole run: an agent may know more than it had told when the power failed.
    tokens: BTreeMap<(String, String), String>,
    /// When the run began, milliseconds since 1970.
    began_at: i64,
}

/// What was found, for the figures.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: usize,
    pub(crate) executions: usize,
    pub(crate) ended_before: usize,
    /// Whether the service had ended well before, so that recovery does not begin at the first record.
    pub(crate) has_closed_view: bool,
}

impl Expected {
    /// After so many entries of the trace.
    pub(crate) fn after(trace: &Trace, entries: usize) -> Self {
        let mut expected = Self::default();
        for (index, entry) in trace.entries.iter().enumerate() {
            let Entry::Acknowledged(acknowledged) = entry else {
                continue;
            };
            let is_before = index < entries;
            match acknowledged.clone() {
                Acknowledged::Leased {
                    execution,
                    task,
                    token,
                } => {
                    expected.tokens.insert((execution, task), token);
                }
                Acknowledged::Ready { at } => {
                    expected.began_at = if expected.began_at == 0 {
                        at
                    } else {
                        expected.began_at
                    };
                    expected.is_ready |= is_before;
                }
                Acknowledged::Registered { document } if is_before => {
                    expected.documents.insert(document);
                }
                Acknowledged::Started { execution } if is_before => {
                    expected.started.insert(execution);
                }
                Acknowledged::Completed { execution, task } if is_before => {
                    expected.completed.insert((execution, task));
                }
                _ => {}
            }
        }
        expected
    }
}

/// Opens the store in `directory` and holds it against what is expected.
pub(crate) fn check(
    runtime: &tokio::runtime::Runtime,
    directory: &Path,
    expected: &Expected,
) -> anyhow::Result<Found> {
    let said = std::fs::read_to_string(directory.join("view-0.db-boot"));
    let store = SqliteStore::open(directory, PARTITIONS).context("the store does not open")?;
    let checked = runtime.block_on(check_open(&store, expected));
    drop(store);
    let mut found = checked?;
    found.has_closed_view = said.is_ok_and(|said| said == "closed");
    Ok(found)
}

async fn check_open(store: &SqliteStore, expected: &Expected) -> anyhow::Result<Found> {
    let journal = store.journal();
    let records = chains::verify(&*journal).await?;
    let backend = Backend {
        name: "sqlite",
        journal: journal.clone(),
        view: store.view(),
        queue: Arc::new(MemoryTaskQueue::default()),
        definitions: store.definitions(),
        blobs: store.blobs(),
        keys: store.keys(),
        http: Arc::new(ScriptedHttpClient::default()),
        publisher: None,
        clock: Arc::new(ClockOfTheRun::at(expected.began_at)?),
        ids: Arc::new(UuidIds),
        cluster: None,
    };
    let config = Config {
        partitions: PARTITIONS,
        ..Config::default()
    };
    let engine = Engine::start(backend, config)
        .await
        .context("the engine does not start")?;
    let survivor = Survivor { engine, expected };
    let found = survivor.all().await?;
    let ended_before = found.iter().filter(|view| view.status.is_ended()).count();
    survivor.holds_what_was_acknowledged().await?;
    survivor.goes_on(&found).await?;
    survivor.takes_new_work().await?;
    survivor.engine.abort();
    let after = chains::verify(&*journal).await?;
    ensure!(after > records, "nothing was written after the loss");
    Ok(Found {
        records,
        executions: found.len(),
        ended_before,
        has_closed_view: false,
    })
}

/// An attempt that somebody can complete.
struct Attempt {
    execution: String,
    task: String,
    token: TaskToken,
}

struct Survivor<'a> {
    engine: Engine,
    expected: &'a Expected,
}

impl Survivor<'_> {
    async fn holds_what_was_acknowledged(&self) -> anyhow::Result<()> {
        let expected = self.expected;
        let newest = expected.documents.iter().rev().take(DOCUMENTS_READ);
        let mut names: Vec<_> = newest.map(|number| load::document_name(*number)).collect();
        if expected.is_ready {
            names.extend(["now", "later"].map(str::to_owned));
        }
        for name in names {
            let found = self
                .engine
                .definitions()
                .get(&tenant(), "default", &name, None)
                .await;
            found.with_context(|| format!("the document {name} was acknowledged"))?;
        }
        for execution in &expected.started {
            let view = self
                .view(execution)
                .await
                .with_context(|| format!("the start of {execution} was acknowledged"))?;
            let number = execution.trim_start_matches("e-").parse()?;
            ensure!(
                view.input.as_str() == &*load::input(number).to_string(),
                "{execution} has another input"
            );
        }
        for (execution, task) in &expected.completed {
            let view = self.view(execution).await?;
            let found = view
                .tasks
                .iter()
                .find(|found| found.reference.to_string() == *task);
            let found = found.with_context(|| format!("{execution} has no {task}"))?;
            ensure!(
                found.status == TaskStatus::Completed,
                "{task} of {execution} is {:?}, but its result was acknowledged",
                found.status
            );
        }
        Ok(())
    }

    /// Whatever is there can come to its end, with every task's right output.
    async fn goes_on(&self, found: &[ExecutionView]) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let mut attempts = self.ready().await?;
            let mut all_ended = true;
            for view in self.all().await? {
                all_ended &= view.status.is_ended();
                if !view.status.is_ended() {
                    attempts.extend(self.begun(&view.execution).await?);
                }
            }
            if all_ended || began.elapsed() > PATIENCE {
                break;
            }
            self.complete(&attempts).await?;
        }
        for view in found {
            self.has_ended_well(&view.execution)
                .await
                .with_context(|| view.execution.to_string())?;
        }
        Ok(())
    }

    /// What can be leased.
    async fn ready(&self) -> anyhow::Result<Vec<Attempt>> {
        let request = lease(&["now", "later"], Duration::from_millis(5));
        let leased = self.engine.lease(&tenant(), request).await?;
        let attempt = |task: LeasedTask| Attempt {
            execution: task.execution.to_string(),
            task: task.task.to_string(),
            token: task.token,
        };
        Ok(leased.into_iter().map(attempt).collect())
    }

    /// What an agent had begun when the power failed: it comes with its token.
    async fn begun(&self, execution: &ExecutionId) -> anyhow::Result<Vec<Attempt>> {
        let view = self.view(execution.as_str()).await?;
        let is_begun =
            |task: &&TaskView| task.status == TaskStatus::Running && task.agent.is_some();
        let attempt = |task: &TaskView| {
            let (execution, task) = (execution.to_string(), task.reference.to_string());
            let token = self
                .expected
                .tokens
                .get(&(execution.clone(), task.clone()))?;
            Some(Attempt {
                execution,
                task,
                token: TaskToken(token.as_str().into()),
            })
        };
        let begun = view.tasks.iter().filter(is_begun);
        Ok(begun.filter_map(attempt).collect())
    }

    async fn complete(&self, attempts: &[Attempt]) -> anyhow::Result<()> {
        let mut results = Vec::new();
        for attempt in attempts {
            let output = load::output(&attempt.execution, &attempt.task)?;
            results.push(TaskResult {
                token: attempt.token.clone(),
                verdict: TaskVerdict::Complete(Json::of(&output)),
            });
        }
        let outcomes = self.engine.results(&tenant(), results).await;
        for (outcome, attempt) in outcomes.iter().zip(attempts) {
            let ResultOutcome::Accepted = outcome else {
                let Attempt {
                    execution, task, ..
                } = attempt;
                bail!("the result of {task} of {execution} was answered {outcome:?}")
            };
        }
        Ok(())
    }

    async fn has_ended_well(&self, execution: &ExecutionId) -> anyhow::Result<()> {
        let view = self.view(execution.as_str()).await?;
        ensure!(
            view.status == Status::Completed,
            "it is {:?} after all of its tasks: {:?}",
            view.status,
            view.tasks
        );
        for task in &view.tasks {
            let right = load::output(execution.as_str(), &task.reference.to_string())?;
            let output = task.output.as_ref().map(Json::as_str);
            ensure!(
                output == Some(&right.to_string()),
                "{} has another output",
                task.reference
            );
        }
        Ok(())
    }

    async fn takes_new_work(&self) -> anyhow::Result<()> {
        let id = ExecutionId::parse("after-the-loss")?;
        let request = StartExecution {
            tenant: tenant(),
            workflow: WorkflowRef::Inline(Json::of(&load::workflow("new"))),
            input: Json::null(),
            execution: Some(id.clone()),
            idempotency_key: None,
            correlation: None,
            labels: BTreeMap::new(),
            traceparent: None,
            causation: None,
        };
        self.engine
            .start(request)
            .await
            .context("a new start is refused")?;
        for _ in 0..2 {
            let leased = self
                .engine
                .lease(&tenant(), lease(&["new"], PATIENCE))
                .await?;
            let task = leased.first().context("new work is not handed out")?;
            let verdict = TaskVerdict::Complete(Json::null());
            let result = TaskResult {
                token: task.token.clone(),
                verdict,
            };
            let outcomes = self.engine.results(&tenant(), vec![result]).await;
            ensure!(
                matches!(outcomes[..], [ResultOutcome::Accepted]),
                "{outcomes:?}"
            );
        }
        let view = self.view(id.as_str()).await?;
        ensure!(
            view.status == Status::Completed,
            "new work is {:?}",
            view.status
        );
        Ok(())
    }

    async fn view(&self, execution: &str) -> anyhow::Result<ExecutionView> {
        Ok(self
            .engine
            .view(&tenant(), &ExecutionId::parse(execution)?)
            .await?)
    }

    async fn all(&self) -> anyhow::Result<Vec<ExecutionView>> {
        let query = ListQuery {
            tenant: tenant(),
            statuses: Vec::new(),
            workflow: None,
            labels: Vec::new(),
            started_after: None,
            started_before: None,
            limit: PAGE,
            before: None,
        };
        Ok(self.engine.list(query).await?.executions)
    }
}

fn tenant() -> Tenant {
    Tenant::default_tenant()
}

fn lease(capabilities: &[&str], wait: Duration) -> LeaseRequest {
    let capability = |name: &&str| Capability::parse(name).expect("a name");
    LeaseRequest {
        agent: AgentName::parse("survivor").expect("a name"),
        capabilities: capabilities.iter().map(capability).collect(),
        max: PAGE,
        wait,
        lease_for: Some(DurationMs::from_secs(60)),
    }
}

/// The real clock, set to a while after the run began: a trace that is kept stays as good as it was.
struct ClockOfTheRun {
    behind_ms: i64,
}

impl ClockOfTheRun {
    fn at(began_at: i64) -> anyhow::Result<Self> {
        /// Longer than the run, shorter than any of its time-outs.
        const LATER_MS: i64 = 60_000;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Ok(Self {
            behind_ms: i64::try_from(now)? - began_at - LATER_MS,
        })
    }
}

#[async_trait]
impl Clock for ClockOfTheRun {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 - self.behind_ms)
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed()
    }

    async fn sleep_until(&self, at: Timestamp) {
        SystemClock
            .sleep_until(Timestamp(at.0 + self.behind_ms))
            .await;
    }
}
