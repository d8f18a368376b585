//! What callers and agents send, in one line each.

use std::{collections::BTreeMap, time::Duration};

use eventflow_domain::{AgentName, Capability, ExecutionId, Json, Tenant};
use eventflow_engine::Engine;
use eventflow_ports::inbound::{
    LeaseRequest, LeasedTask, ResultOutcome, StartExecution, TaskResult, TaskVerdict, Tasks,
    WorkflowRef,
};
use serde_json::{Value, json};

/// The capability of every agent task here.
pub(crate) const WORK: &str = "work";
/// What has not come by then never will.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn tenant() -> Tenant {
    Tenant::default_tenant()
}

pub(crate) fn id(name: &str) -> ExecutionId {
    ExecutionId::parse(name).expect("a name")
}

/// A workflow of these tasks, one after the other.
pub(crate) fn workflow(name: &str, tasks: impl IntoIterator<Item = (String, Value)>) -> Json {
    let tasks: Vec<_> = tasks
        .into_iter()
        .map(|(name, task)| json!({ name: task }))
        .collect();
    Json::of(&json!({
        "document": {"dsl": "1.0.3", "namespace": "tests", "name": name, "version": "1.0.0"},
        "do": tasks,
    }))
}

/// A task for an agent; `with` is added to its arguments.
pub(crate) fn agent_task(with: &Value) -> Value {
    let mut arguments = json!({"capability": WORK});
    let fields = arguments.as_object_mut().expect("an object");
    fields.extend(with.as_object().expect("an object").clone());
    json!({"call": "agent:1.0.0@default", "with": arguments})
}

/// A workflow of one agent task.
pub(crate) fn one_task() -> Json {
    workflow("one", [("only".to_owned(), agent_task(&json!({})))])
}

/// A workflow that ends by itself.
pub(crate) fn set_only() -> Json {
    workflow("set", [("say".to_owned(), json!({"set": {"said": "so"}}))])
}

pub(crate) fn start(execution: &str, document: Json) -> StartExecution {
    StartExecution {
        tenant: tenant(),
        workflow: WorkflowRef::Inline(document),
        input: Json::of(&json!({})),
        execution: Some(id(execution)),
        idempotency_key: None,
        correlation: None,
        labels: BTreeMap::new(),
        traceparent: None,
        causation: None,
    }
}

/// A lease of up to so many tasks, waiting for the first as long as it takes.
pub(crate) fn lease(max: usize) -> LeaseRequest {
    LeaseRequest {
        agent: AgentName::parse("agent").expect("a name"),
        capabilities: vec![Capability::parse(WORK).expect("a name")],
        max,
        wait: PATIENCE,
        lease_for: None,
    }
}

/// The same, answered at once where there is nothing.
pub(crate) fn lease_now(max: usize) -> LeaseRequest {
    LeaseRequest {
        wait: Duration::ZERO,
        ..lease(max)
    }
}

/// The one task that comes next.
pub(crate) async fn next_task(engine: &Engine) -> LeasedTask {
    let mut leased = engine.lease(&tenant(), lease(1)).await.expect("leased");
    leased.pop().expect("a task within the patience")
}

pub(crate) fn completed(task: &LeasedTask) -> TaskResult {
    TaskResult {
        token: task.token.clone(),
        verdict: TaskVerdict::Complete(Json::of(&json!({"done": true}))),
    }
}

/// Brings one result.
pub(crate) async fn bring(engine: &Engine, result: TaskResult) -> ResultOutcome {
    let mut outcomes = engine.results(&tenant(), vec![result]).await;
    outcomes.pop().expect("one outcome for one result")
}

/// Brings the task's completion, which is accepted.
pub(crate) async fn complete(engine: &Engine, task: &LeasedTask) {
    let outcome = bring(engine, completed(task)).await;
    assert!(matches!(outcome, ResultOutcome::Accepted), "{outcome:?}");
}

/// Three agent steps, one after the other.
pub(crate) fn three_tasks() -> Json {
    workflow(
        "three",
        ["a", "b", "c"].map(|name| (name.to_owned(), agent_task(&json!({})))),
    )
}
