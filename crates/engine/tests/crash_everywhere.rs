//! Every port call of a run fails once before and once after it took effect, and the process dies there: after a
//! restart the same execution comes to the same end (DESIGN section 12.6). On NATS, where another node takes over only
//! seconds after, every so many calls.

mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use eventflow_adapter_memory::{Faults, ManualClock, Script, When};
use eventflow_adapter_system::SystemClock;
use eventflow_domain::{
    AgentName, Capability, ExecutionId, Json, Problem, Tenant, error::ErrorKind,
};
use eventflow_engine::Engine;
use eventflow_ports::{
    Clock,
    inbound::{
        ExecutionView, Executions, LeaseRequest, LeasedTask, Refusal, ResultOutcome,
        StartExecution, TaskFailure, TaskResult, TaskVerdict, Tasks, WorkflowRef,
    },
};
use serde_json::json;
use support::{World, lives::Lives, manual_clock};

/// A run that has not come to its end by then never will.
const PATIENCE: Duration = Duration::from_secs(30);
/// Calls from one that fails to the next on NATS where `EVENTFLOW_CRASH_EVERY` says nothing.
const NATS_STRIDE: usize = 60;
const CAPABILITIES: [&str; 6] = ["charge", "ship", "flaky", "fetch", "summarise", "merge"];
const INVENTORY: &str = "http://inventory/stock";

struct Scenario {
    name: &'static str,
    document: &'static str,
    input: serde_json::Value,
}

fn scenarios() -> [Scenario; 4] {
    [
        Scenario {
            name: "order",
            document: include_str!("../../../fixtures/workflows/order.yaml"),
            input: json!({"orderId": "o-1", "amount": 42, "inventoryUrl": INVENTORY}),
        },
        Scenario {
            name: "clear-failure",
            document: include_str!("../../../fixtures/workflows/clear-failure.yaml"),
            input: json!({"amount": 42}),
        },
        Scenario {
            name: "retrying",
            document: include_str!("../../../fixtures/workflows/retrying.yaml"),
            // Beyond what stays inline, so that blobs are stored and loaded as well.
            input: json!({"text": "x".repeat(70_000)}),
        },
        Scenario {
            name: "n-shape",
            document: include_str!("../../../fixtures/workflows/n-shape.json"),
            input: json!({"left": "l", "right": "r", "reader": "Ada"}),
        },
    ]
}

/// What must be the same whatever crashed.
#[derive(Debug, PartialEq, Eq)]
struct End {
    status: &'static str,
    output: Option<Json>,
    error: Option<Problem>,
    tasks: Vec<(String, &'static str, Option<Json>)>,
}

impl From<ExecutionView> for End {
    fn from(view: ExecutionView) -> Self {
        let task = |task: eventflow_ports::inbound::TaskView| {
            (
                task.reference.to_string(),
                task.status.as_str(),
                task.output,
            )
        };
        Self {
            status: view.status.as_str(),
            output: view.output,
            error: view.error,
            tasks: view.tasks.into_iter().map(task).collect(),
        }
    }
}

/// Where a run keeps everything.
#[derive(Debug, Clone, Copy)]
enum Store {
    Memory,
    Sqlite,
    Nats,
}

impl Store {
    /// Its world, and its clock where the test moves that: leases on NATS are of real time.
    fn world(self) -> (World, Option<Arc<ManualClock>>) {
        let clock = manual_clock();
        match self {
            Self::Memory => (World::memory(clock.clone()), Some(clock)),
            Self::Sqlite => (World::sqlite(clock.clone()), Some(clock)),
            Self::Nats => (World::nats(Arc::new(SystemClock)), None),
        }
    }

    /// How many calls there are between one that fails and the next; `EVENTFLOW_CRASH_EVERY` says it for NATS.
    fn stride(self) -> usize {
        match (self, std::env::var("EVENTFLOW_CRASH_EVERY")) {
            (Self::Memory | Self::Sqlite, _) => 1,
            (Self::Nats, Ok(every)) => every.parse().expect("EVENTFLOW_CRASH_EVERY is a number"),
            (Self::Nats, Err(_)) => NATS_STRIDE,
        }
    }

    /// How long an agent waits for a task.
    fn lease_wait(self) -> Duration {
        Duration::from_millis(match self {
            Self::Memory | Self::Sqlite => 2,
            Self::Nats => 200,
        })
    }
}

/// One execution driven to its end through any number of the engine's lives.
struct Run<'a> {
    scenario: &'a Scenario,
    store: Store,
    clock: Option<Arc<ManualClock>>,
    lives: Lives,
    /// Leased and not yet answered for good.
    held: Vec<LeasedTask>,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, store: Store, faults: Faults) -> Self {
        let (world, clock) = store.world();
        world
            .http
            .on(INVENTORY, Script::respond(200, r#"{"inStock": true}"#));
        Self {
            scenario,
            store,
            clock,
            lives: Lives::of(world, faults),
            held: Vec::new(),
        }
    }

    async fn finish(mut self) -> End {
        let began = Instant::now();
        loop {
            assert!(
                began.elapsed() < PATIENCE,
                "{}: no end after {} lives",
                self.scenario.name,
                self.lives.count
            );
            self.lives.revive().await;
            if let Some(view) = self.turn().await {
                return view.into();
            }
        }
    }

    /// Starts (again and again, which is harmless), performs what there is, and looks whether it has ended.
    async fn turn(&mut self) -> Option<ExecutionView> {
        let life = async |engine: &Engine| {
            let document =
                eventflow_dsl::parse(self.scenario.document).expect("a fixture can be read");
            let started = engine.start(start(document, &self.scenario.input)).await;
            let started = answered(started)?;
            if started.view.status.is_ended() {
                return Ok(Some(started.view));
            }
            self.held.extend(answered(
                engine
                    .lease(&tenant(), lease(self.store.lease_wait()))
                    .await,
            )?);
            let results = self.held.iter().map(perform).collect();
            let outcomes = engine.results(&tenant(), results).await;
            let mut outcomes = outcomes.into_iter();
            self.held.retain(|task| match outcomes.next() {
                Some(ResultOutcome::Accepted) => false,
                Some(ResultOutcome::Refused(
                    Refusal::Unavailable { .. } | Refusal::Busy { .. },
                )) => true,
                other => panic!(
                    "{}: the result of {task:?} got {other:?}",
                    self.scenario.name
                ),
            });
            Ok::<_, Gone>(None)
        };
        let outcome = self.lives.live(life).await?;
        if let Ok(Some(view)) = outcome {
            return Some(view);
        }
        // Let everything that is ready happen, then let time pass to whatever waits for it.
        tokio::time::sleep(Duration::from_millis(3)).await;
        if let Some(clock) = &self.clock
            && let Some(next) = clock.next_sleeper()
        {
            clock.set(next.max(clock.now()));
        }
        None
    }
}

/// The engine did not answer: it has crashed, or will have in a moment.
struct Gone;

fn answered<T>(answer: Result<T, Refusal>) -> Result<T, Gone> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(Refusal::Unavailable { .. }) => Err(Gone),
        Err(refusal) => panic!("refused: {refusal}"),
    }
}

fn tenant() -> Tenant {
    Tenant::default_tenant()
}

fn start(document: Json, input: &serde_json::Value) -> StartExecution {
    StartExecution {
        tenant: tenant(),
        workflow: WorkflowRef::Inline(document),
        input: Json::of(input),
        execution: Some(ExecutionId::parse("the-one").expect("a name")),
        idempotency_key: None,
        correlation: None,
        labels: BTreeMap::new(),
        traceparent: None,
        causation: None,
    }
}

fn lease(wait: Duration) -> LeaseRequest {
    LeaseRequest {
        agent: AgentName::parse("agent").expect("a name"),
        capabilities: CAPABILITIES
            .map(|name| Capability::parse(name).expect("a name"))
            .into(),
        max: 10,
        wait,
        lease_for: None,
    }
}

/// The same answer to the same attempt, always: `flaky` fails twice, everything else says what it was given.
fn perform(task: &LeasedTask) -> TaskResult {
    let verdict = if task.capability.as_str() == "flaky" && task.attempt.0 <= 2 {
        let error = Problem::new(
            ErrorKind::Runtime,
            "Flaky",
            format!("attempt {} fails", task.attempt),
        );
        TaskVerdict::Fail(TaskFailure {
            error,
            retryable: true,
            retry_after: None,
        })
    } else {
        let answer = json!({
            "by": task.capability.as_str(),
            "text": format!("{} of {}", task.task, task.input.as_str().len()),
            "summary": "short",
        });
        TaskVerdict::Complete(Json::of(&answer))
    };
    TaskResult {
        token: task.token.clone(),
        verdict,
    }
}

async fn crash_everywhere(scenario: &Scenario, store: Store) {
    let counting = Faults::new();
    let undisturbed = Run::new(scenario, store, counting.clone()).finish().await;
    let calls = counting.calls();
    println!("{} on {store:?}: N = {calls}", scenario.name);
    for ((port, method), count) in counting.counts() {
        println!("  {port}::{method} {count}");
    }
    let mut crashes = BTreeMap::new();
    for call in (1..=calls).step_by(store.stride()) {
        for when in [When::Before, When::After] {
            let faults = Faults::new();
            faults.fail_at(call, when);
            let end = Run::new(scenario, store, faults.clone()).finish().await;
            assert_eq!(
                end,
                undisturbed,
                "{} on {store:?}, call {call} {when:?}: {:?}",
                scenario.name,
                faults.hit()
            );
            if let Some((port, _)) = faults.hit() {
                *crashes.entry(port).or_insert(0) += 1;
            }
        }
    }
    let total: usize = crashes.values().sum();
    println!("  {total} crashes survived: {crashes:?}");
    assert!(total > 0, "nothing crashed");
}

macro_rules! crash_everywhere {
    ($($name:ident: $index:literal on $store:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                crash_everywhere(&scenarios()[$index], Store::$store).await;
            }
        )+
    };
}

crash_everywhere!(
    order_on_memory: 0 on Memory,
    clear_failure_on_memory: 1 on Memory,
    retrying_on_memory: 2 on Memory,
    n_shape_on_memory: 3 on Memory,
    order_on_sqlite: 0 on Sqlite,
    clear_failure_on_sqlite: 1 on Sqlite,
    retrying_on_sqlite: 2 on Sqlite,
    n_shape_on_sqlite: 3 on Sqlite,
    order_on_nats: 0 on Nats,
    clear_failure_on_nats: 1 on Nats,
    retrying_on_nats: 2 on Nats,
    n_shape_on_nats: 3 on Nats,
);
