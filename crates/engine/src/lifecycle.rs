//! Public events: what the world outside is told of an execution's journal (INTERFACES section 3, requirements E3, E4).

use eventflow_domain::{
    Json, Sequence, TaskReference, Timestamp, Value, event_id,
    execution::Event,
    service_call::{CALL_ID, is_service_call},
};
use eventflow_ports::LifecycleEvent;
use serde_json::{Map, json};

use crate::folded::Folded;

/// The types after which nothing follows.
pub(crate) fn is_terminal(kind: &str) -> bool {
    matches!(
        kind,
        "workflow_execution_completed"
            | "workflow_execution_failed"
            | "workflow_execution_cancelled"
            | "workflow_execution_timed_out"
    )
}

/// The public event of a journal event, given its execution right after it; none where only the history shows it.
pub(crate) fn lifecycle(
    folded: &Folded,
    sequence: Sequence,
    event: &Event,
    time: Timestamp,
) -> Option<LifecycleEvent> {
    let (kind, mut data) = described(folded, event)?;
    let execution = &folded.execution;
    let requested = &execution.requested;
    if is_service_call(&requested.workflow)
        && let Some(call) = requested.labels.get(CALL_ID)
    {
        data.insert(CALL_ID.to_owned(), json!(call));
    }
    Some(LifecycleEvent {
        id: event_id(&execution.tenant, &execution.id, sequence, time),
        kind,
        tenant: execution.tenant.clone(),
        execution: execution.id.clone(),
        workflow: requested.workflow.clone(),
        sequence,
        time,
        correlation: requested.correlation.clone(),
        causation: requested.causation.clone(),
        traceparent: requested.traceparent.clone(),
        data: Json::of(&data),
    })
}

type Described = (&'static str, Map<String, serde_json::Value>);

fn described(folded: &Folded, event: &Event) -> Option<Described> {
    let execution = &folded.execution;
    let since =
        |from: Option<Timestamp>| json!(from.map(|from| execution.changed_at.since(from).0));
    let whole = || since(Some(execution.created_at));
    Some(match event {
        Event::ExecutionRequested(requested) => (
            "workflow_execution_requested",
            fields([("labels", json!(requested.labels))]),
        ),
        Event::ExecutionStarted { .. } => ("workflow_execution_started", Map::new()),
        Event::ExecutionCompleted { .. } => {
            let mut data = fields([("durationMs", whole())]);
            data.extend(execution.output.as_ref().map(shown));
            ("workflow_execution_completed", data)
        }
        Event::ExecutionFaulted { error } => (
            "workflow_execution_failed",
            fields([("error", json!(error)), ("durationMs", whole())]),
        ),
        Event::ExecutionTimedOut { error } => (
            "workflow_execution_timed_out",
            fields([("error", json!(error)), ("durationMs", whole())]),
        ),
        Event::ExecutionSuspended {} => ("workflow_execution_suspended", Map::new()),
        Event::ExecutionResumed(control) => (
            "workflow_execution_resumed",
            fields([("reason", json!(control.reason))]),
        ),
        Event::ExecutionCancelled {} => (
            "workflow_execution_cancelled",
            fields([("durationMs", whole())]),
        ),
        // Only the history shows what was asked for, chosen or caught; what comes of it is told.
        Event::ExecutionPauseRequested(_)
        | Event::ExecutionStopRequested(_)
        | Event::ErrorCaught { .. }
        | Event::BranchSelected { .. } => return None,
        Event::SequenceEntered { task, .. }
        | Event::ForkEntered { task, .. }
        | Event::WaitStarted { task, .. } => ("task_started", task_fields(folded, task)),
        Event::TaskScheduled { task, .. } | Event::TimerFired { task, .. } => {
            ("task_scheduled", task_fields(folded, task))
        }
        Event::TaskStarted { task, agent, .. } => {
            let mut data = task_fields(folded, task);
            data.insert("agent".to_owned(), json!(agent.as_str()));
            ("task_started", data)
        }
        Event::RetryScheduled {
            task,
            attempt,
            error,
            at,
        } => {
            let mut data = task_fields(folded, task);
            data.insert("attempt".to_owned(), json!(attempt.0));
            data.insert("error".to_owned(), json!(error));
            data.insert(
                "retryInMs".to_owned(),
                json!(at.since(execution.changed_at).0),
            );
            ("task_retried", data)
        }
        Event::TaskCompleted { task, .. } => {
            let mut data = task_fields(folded, task);
            let state = execution.tasks.get(task);
            data.insert(
                "durationMs".to_owned(),
                since(state.map(|state| state.scheduled_at)),
            );
            data.extend(state.and_then(|state| state.output.as_ref()).map(shown));
            ("task_completed", data)
        }
        Event::TaskFaulted { task, error, .. } => ("task_failed", with_error(folded, task, error)),
        Event::TaskTimedOut { task, error, .. } => {
            ("task_timed_out", with_error(folded, task, error))
        }
        Event::TaskSkipped { task, .. } => ("task_skipped", task_fields(folded, task)),
        Event::TaskCancelled { task } => ("task_cancelled", task_fields(folded, task)),
    })
}

fn with_error(
    folded: &Folded,
    task: &TaskReference,
    error: &eventflow_domain::Problem,
) -> Map<String, serde_json::Value> {
    let mut data = task_fields(folded, task);
    let execution = &folded.execution;
    let scheduled_at = execution.tasks.get(task).map(|state| state.scheduled_at);
    data.insert("error".to_owned(), json!(error));
    data.insert(
        "durationMs".to_owned(),
        json!(scheduled_at.map(|at| execution.changed_at.since(at).0)),
    );
    data
}

fn task_fields(folded: &Folded, task: &TaskReference) -> Map<String, serde_json::Value> {
    let mut data = fields([("task", json!(task.to_string()))]);
    if let Some(node) = folded.plan.find(&task.pointer) {
        let name = &folded.plan.node(node).name;
        data.insert("name".to_owned(), json!(name));
    }
    if let Some(state) = folded.execution.tasks.get(task) {
        data.insert("attempt".to_owned(), json!(state.attempt.0));
        data.extend(
            state
                .agent
                .as_ref()
                .map(|agent| ("agent".to_owned(), json!(agent.as_str()))),
        );
    }
    data
}

fn fields<const N: usize>(pairs: [(&str, serde_json::Value); N]) -> Map<String, serde_json::Value> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// An output, or where a large one can be found.
fn shown(output: &Value) -> (String, serde_json::Value) {
    match output {
        // What no parser reads (a number beyond all bounds) is shown as its text.
        Value::Inline(json) => {
            let output = json.read().unwrap_or_else(|_| json!(json.as_str()));
            ("output".to_owned(), output)
        }
        Value::Ref { digest, size, .. } => (
            "outputReference".to_owned(),
            json!({"digest": digest.to_string(), "bytes": size}),
        ),
    }
}
