//! The clauses of the inbound ports, for an engine over any adapters.

pub mod calls;
pub mod controls;
pub mod events;
pub mod executions;
pub mod system;
pub mod tasks;
pub mod workflows;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{
    AgentName, Capability, DurationMs, ExecutionId, Json, Problem, Tenant, error::ErrorKind,
    execution::Status,
};
use eventflow_ports::{
    ListQuery,
    inbound::{
        Calls, Controls, Events, ExecutionView, Executions, LeaseRequest, LeasedTask, Refusal,
        ResultOutcome, StartExecution, Started, System, TaskFailure, TaskResult, TaskVerdict,
        Tasks, WorkflowRef, Workflows,
    },
};
use serde_json::{Value, json};

use crate::{
    http_site::{self, Served, Site},
    samples::{execution, tenant},
};

/// Real time after which something that must happen counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// A wait that is used up.
const SHORT: Duration = Duration::from_millis(150);
/// How far time is moved between two looks at something that must happen.
const STEP: DurationMs = DurationMs(250);

/// One engine with stores of its own, empty and ready when the fixture is made.
#[async_trait]
pub trait EngineFixture: Send + Sync {
    /// The running engine's executions.
    fn executions(&self) -> Arc<dyn Executions>;
    /// The running engine's controls.
    fn controls(&self) -> Arc<dyn Controls>;
    /// The running engine's definitions.
    fn workflows(&self) -> Arc<dyn Workflows>;
    /// The running engine's tasks.
    fn tasks(&self) -> Arc<dyn Tasks>;
    /// The running engine's way in for events.
    fn events(&self) -> Arc<dyn Events>;
    /// The running engine's service calls.
    fn calls(&self) -> Arc<dyn Calls>;
    /// Serves a site that the engine's HTTP client can reach: on a real socket, where the fixture says nothing else.
    async fn serve(&self, site: Site) -> Served {
        http_site::serve(site).await
    }
    /// The running engine itself.
    fn system(&self) -> Arc<dyn System>;
    /// Ends the engine without a warning, as a crash does, and starts another one on the same stores. Returns once it
    /// is ready.
    async fn restart(&self);
    /// From now on no store answers, for good.
    async fn cut_off(&self);
    /// Lets the engine's time pass: waits where it passes by itself, moves the clock where it is moved by hand.
    async fn pass(&self, span: DurationMs) {
        tokio::time::sleep(Duration::from_millis(span.0)).await;
    }
}

/// A workflow of one task for an agent that can `charge`, which is tried again once, a second later.
fn one_task() -> Json {
    let retry = json!({"limit": {"attempt": {"count": 1}}, "delay": "PT1S"});
    Json::of(&json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "order", "version": "1.0.0"},
        "do": [{"charge": agent(&json!({"capability": "charge", "retry": retry}))}],
    }))
}

/// Two tasks one after the other: `charge`, then `ship`.
fn two_tasks() -> Json {
    Json::of(&json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "deliver", "version": "1.0.0"},
        "do": [
            {"charge": agent(&json!({"capability": "charge"}))},
            {"ship": agent(&json!({"capability": "ship"}))},
        ],
    }))
}

/// Two tasks beside each other: where `charge` fails for good, `ship` is cancelled.
fn pair() -> Json {
    let step = |name: &str| json!({"id": name, "uses": "agent", "with": {"capability": name}});
    Json::of(&json!({
        "dag": "1.0", "namespace": "default", "name": "pair", "version": "1.0.0",
        "steps": [step("charge"), step("ship")],
    }))
}

/// A document with a fault in each of its two tasks.
fn invalid() -> Json {
    Json::of(&json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "wrong", "version": "1.0.0"},
        "do": [
            {"one": agent(&json!({}))},
            {"two": agent(&json!({"capability": "no blanks allowed"}))},
        ],
    }))
}

fn agent(with: &Value) -> Value {
    json!({"call": "agent:1.0.0@default", "with": with})
}

/// A start of an inline document by `acme`.
fn request(document: Json) -> StartExecution {
    StartExecution {
        tenant: tenant("acme"),
        workflow: WorkflowRef::Inline(document),
        input: Json::of(&json!({"amount": 5})),
        execution: None,
        idempotency_key: None,
        correlation: None,
        labels: BTreeMap::new(),
        traceparent: None,
        causation: None,
    }
}

/// The same with an id.
fn request_as(id: &str, document: Json) -> StartExecution {
    StartExecution {
        execution: Some(execution(id)),
        ..request(document)
    }
}

async fn start(fixture: &impl EngineFixture, request: StartExecution) -> Started {
    fixture.executions().start(request).await.expect("accepted")
}

async fn view(fixture: &impl EngineFixture, id: &ExecutionId) -> ExecutionView {
    fixture
        .executions()
        .view(&tenant("acme"), id)
        .await
        .expect("a view")
}

/// The view once it ended, which must happen without any more time passing.
async fn ended(fixture: &impl EngineFixture, id: &ExecutionId) -> ExecutionView {
    let (executions, owner) = (fixture.executions(), tenant("acme"));
    let wait = executions.wait(&owner, id, PATIENCE * 10);
    let view = tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("nobody is told that {id} has ended"))
        .expect("a view");
    assert!(
        view.status.is_ended(),
        "{id} is still {}",
        view.status.as_str()
    );
    view
}

/// The status once it is ended, with time passing meanwhile.
async fn comes_to(fixture: &impl EngineFixture, id: &ExecutionId, status: Status) {
    let reached = async || (view(fixture, id).await.status == status).then_some(());
    until(fixture, status.as_str(), reached).await;
}

/// Lets time pass until there is something, or fails.
async fn until<T, F: Future<Output = Option<T>>>(
    fixture: &impl EngineFixture,
    what: &str,
    look: impl Fn() -> F,
) -> T {
    let started = tokio::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for: {what}");
        fixture.pass(STEP).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn lease_request(capabilities: &[&str], max: usize, wait: Duration) -> LeaseRequest {
    LeaseRequest {
        agent: AgentName::parse("worker-1").expect("a name"),
        capabilities: capabilities
            .iter()
            .map(|name| Capability::parse(name).expect("a name"))
            .collect(),
        max,
        wait,
        lease_for: None,
    }
}

async fn lease(
    fixture: &impl EngineFixture,
    owner: &Tenant,
    capabilities: &[&str],
    max: usize,
    wait: Duration,
) -> Vec<LeasedTask> {
    fixture
        .tasks()
        .lease(owner, lease_request(capabilities, max, wait))
        .await
        .expect("leased")
}

/// The one task that an agent of `acme` gets, with time passing until it is there.
async fn lease_one(fixture: &impl EngineFixture, capability: &str) -> LeasedTask {
    let look = async || {
        lease(fixture, &tenant("acme"), &[capability], 1, SHORT)
            .await
            .pop()
    };
    until(fixture, "a task to lease", look).await
}

async fn result(
    fixture: &impl EngineFixture,
    task: &LeasedTask,
    verdict: TaskVerdict,
) -> ResultOutcome {
    let result = TaskResult {
        token: task.token.clone(),
        verdict,
    };
    let mut outcomes = fixture.tasks().results(&tenant("acme"), vec![result]).await;
    assert_eq!(outcomes.len(), 1, "one answer for one result");
    outcomes.remove(0)
}

/// Brings a result that must be taken.
async fn accepted(fixture: &impl EngineFixture, task: &LeasedTask, verdict: TaskVerdict) {
    let outcome = result(fixture, task, verdict).await;
    assert!(matches!(outcome, ResultOutcome::Accepted), "{outcome:?}");
}

/// Brings a result that contradicts what happened.
async fn contradicts(fixture: &impl EngineFixture, task: &LeasedTask, verdict: TaskVerdict) {
    let outcome = result(fixture, task, verdict).await;
    assert!(
        matches!(outcome, ResultOutcome::Refused(Refusal::Contradiction(_))),
        "{outcome:?}"
    );
}

fn complete(output: &Value) -> TaskVerdict {
    TaskVerdict::Complete(Json::of(output))
}

fn fail(retryable: bool) -> TaskVerdict {
    TaskVerdict::Fail(TaskFailure {
        error: Problem::new(ErrorKind::Runtime, "broken", "it does not work"),
        retryable,
        retry_after: None,
    })
}

fn everything_of(owner: &str) -> ListQuery {
    ListQuery {
        tenant: tenant(owner),
        statuses: Vec::new(),
        workflow: None,
        labels: Vec::new(),
        started_after: None,
        started_before: None,
        limit: 100,
        before: None,
    }
}

/// Ids as a list gives them.
async fn listed(fixture: &impl EngineFixture, query: ListQuery) -> Vec<String> {
    let page = fixture.executions().list(query).await.expect("a list");
    page.executions
        .iter()
        .map(|view| view.execution.to_string())
        .collect()
}
