//! What people see of an execution: the full view, its summary and its progress (requirement W8).

use std::sync::Arc;

use eventflow_domain::{
    Attempt, Digest, Json, Problem, Sequence, TaskReference, Timestamp, Value, WorkflowId,
    execution::{Execution, Status, Task, TaskStatus},
    plan::{Node, Plan},
};
use eventflow_ports::{
    ViewRow,
    inbound::{ExecutionView, Progress, TaskView},
};

/// The full view. Large values must be in memory; those that are not are left out.
pub(crate) fn view(execution: &Execution, plan: &Plan, now: Timestamp) -> ExecutionView {
    let tasks: Vec<_> = plan
        .nodes()
        .filter(|(id, _)| *id != plan.root)
        .flat_map(|(_, node)| task_views(execution, node))
        .collect();
    let progress = progress(&tasks);
    let requested = &execution.requested;
    ExecutionView {
        execution: execution.id.clone(),
        tenant: execution.tenant.clone(),
        workflow: requested.workflow.clone(),
        digest: requested.digest,
        correlation: requested.correlation.clone(),
        labels: requested.labels.clone(),
        status: status(execution),
        input: text(&requested.input).unwrap_or_else(Json::null),
        output: execution.output.as_ref().and_then(text),
        error: execution.error.clone(),
        created_at: execution.created_at,
        started_at: execution.started_at,
        ended_at: execution.ended_at,
        estimated_completion: estimate(execution, progress, now),
        progress,
        tasks,
        sequence: execution.sequence,
    }
}

/// The view without input, output and tasks.
pub(crate) fn summary_view(execution: &Execution, plan: &Plan, now: Timestamp) -> ExecutionView {
    ExecutionView {
        input: Json::null(),
        output: None,
        tasks: Vec::new(),
        ..view(execution, plan, now)
    }
}

/// Where it stands, waiting told apart from running.
pub(crate) fn status(execution: &Execution) -> Status {
    if execution.status != Status::Running {
        return execution.status;
    }
    let mut open = execution
        .tasks
        .values()
        .filter(|task| !task.status.is_ended() && task.container.is_none());
    let waits = |task: &Task| task.status == TaskStatus::Waiting;
    match open.next() {
        Some(first) if waits(first) && open.all(waits) => Status::Waiting,
        _ => Status::Running,
    }
}

/// A task as it stands; before it is activated, what the plan knows of it.
fn task_views(execution: &Execution, node: &Node) -> Vec<TaskView> {
    let reference = TaskReference {
        pointer: node.pointer.clone(),
        iteration: Vec::new(),
    };
    let Some(task) = execution.tasks.get(&reference) else {
        let status = if execution.is_ended() {
            TaskStatus::Skipped
        } else {
            TaskStatus::Pending
        };
        return vec![TaskView {
            reference,
            name: node.name.clone(),
            status,
            attempt: Attempt(0),
            agent: None,
            scheduled_at: None,
            started_at: None,
            ended_at: None,
            output: None,
            error: None,
        }];
    };
    vec![TaskView {
        reference,
        name: node.name.clone(),
        status: task.status,
        attempt: task.attempt,
        agent: task.agent.clone(),
        scheduled_at: Some(task.scheduled_at),
        started_at: task.started_at,
        ended_at: task.ended_at,
        output: task.output.as_ref().and_then(text),
        error: task
            .error
            .clone()
            .filter(|_| task.status != TaskStatus::Completed),
    }]
}

fn text(value: &Value) -> Option<Json> {
    value.json().cloned()
}

fn progress(tasks: &[TaskView]) -> Progress {
    let mut progress = Progress::default();
    for task in tasks {
        progress.total += 1;
        match task.status {
            TaskStatus::Completed | TaskStatus::Skipped => progress.completed += 1,
            TaskStatus::Running | TaskStatus::Waiting | TaskStatus::Suspended => {
                progress.running += 1;
            }
            TaskStatus::Pending if task.scheduled_at.is_some() => progress.running += 1,
            TaskStatus::Pending => progress.pending += 1,
            TaskStatus::Cancelled | TaskStatus::Faulted => {}
        }
    }
    progress
}

/// When it will end if the rest takes as long per task as what is done; when it ended, once it has.
fn estimate(execution: &Execution, progress: Progress, now: Timestamp) -> Option<Timestamp> {
    if execution.is_ended() {
        return execution.ended_at;
    }
    let done = u64::from(progress.completed);
    let left = u64::from(progress.running + progress.pending);
    let elapsed = now.since(execution.started_at?).0;
    let per_task = elapsed.checked_div(done)?;
    Some(now.after(eventflow_domain::DurationMs(per_task.saturating_mul(left))))
}

/// What a list shows of an execution, as the view stores it beside the row's own columns.
#[derive(serde::Serialize, serde::Deserialize)]
struct Summary {
    workflow: WorkflowId,
    digest: Digest,
    correlation: Option<Arc<str>>,
    error: Option<Problem>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    progress: [u32; 4],
    sequence: Sequence,
}

/// The summary of an execution, for its row.
pub(crate) fn summary(execution: &Execution, plan: &Plan) -> Json {
    let view = summary_view(execution, plan, execution.changed_at);
    let Progress {
        completed,
        running,
        pending,
        total,
    } = view.progress;
    Json::of(&Summary {
        workflow: view.workflow,
        digest: view.digest,
        correlation: view.correlation,
        error: view.error,
        started_at: view.started_at,
        ended_at: view.ended_at,
        progress: [completed, running, pending, total],
        sequence: view.sequence,
    })
}

/// A row as a list shows it.
pub(crate) fn from_row(row: ViewRow) -> Result<ExecutionView, serde_json::Error> {
    let summary: Summary = row.summary.read()?;
    let [completed, running, pending, total] = summary.progress;
    Ok(ExecutionView {
        execution: row.execution,
        tenant: row.tenant,
        workflow: summary.workflow,
        digest: summary.digest,
        correlation: summary.correlation,
        labels: row.labels,
        status: row.status,
        input: Json::null(),
        output: None,
        error: summary.error,
        created_at: row.created_at,
        started_at: summary.started_at,
        ended_at: summary.ended_at,
        estimated_completion: summary.ended_at,
        progress: Progress {
            completed,
            running,
            pending,
            total,
        },
        tasks: Vec::new(),
        sequence: summary.sequence,
    })
}
