//! From wire to port and back: what came in is checked here, once, and what goes out gets its public form.

use std::sync::Arc;

use eventflow_domain::{Json, Tenant};
use eventflow_ports::{
    Definition, LifecycleEvent,
    inbound::{
        self, LeaseRequest, ResultOutcome, StartExecution, TaskFailure, TaskResult, TaskToken,
        TaskVerdict, WorkflowRef,
    },
};
use eventflow_wire::v1::{
    Fault, LEASE_TASKS_MAX, Problem, Time, WAIT_SECONDS_MAX, accept, controls,
    events::{CloudEvent, Lifecycle},
    executions::{
        ExecutionView, HistoryAnswer, HistoryEvent, ListAnswer, Progress, StartBody, Summary,
        TaskView, WorkflowChoice,
    },
    system,
    tasks::{FailError, HeartbeatAnswer, LeaseBody, LeasedTask, ResultAnswer, ResultItem},
    workflows::{Workflow, WorkflowDocument},
};

use crate::{query, trouble::Trouble};

/// Labels of one execution: every row of a list carries them.
const LABELS_MAX: usize = 32;
/// A label's key and value, and a correlation id: they stand in headers, rows and log lines.
const TEXT_BYTES_MAX: usize = 256;
/// Capabilities of one agent: it waits on a queue for each.
const CAPABILITIES_MAX: usize = 64;
/// An agent's words about an error. They stand in an event, which has no room for a log: what is longer is cut, since
/// refusing it would lose the failure itself.
const ERROR_TEXT_BYTES_MAX: usize = 4 * 1024;
/// The longest lease without a heartbeat, milliseconds: a day, as the longest execution.
const LEASE_FOR_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What came with a start besides its body.
pub(crate) struct StartHeaders {
    pub(crate) idempotency_key: Option<String>,
    pub(crate) traceparent: Option<Arc<str>>,
}

/// A start, checked.
pub(crate) fn start(
    tenant: &Tenant,
    body: StartBody,
    headers: StartHeaders,
) -> Result<StartExecution, Trouble> {
    if body.execution_id.is_some() && headers.idempotency_key.is_some() {
        return Err(Trouble::malformed(
            "give either `executionId` or the header `Idempotency-Key`, not both",
        ));
    }
    let mut faults = Vec::new();
    let workflow = match (body.workflow, body.definition) {
        (Some(workflow), None) => Some(WorkflowRef::Named {
            namespace: workflow
                .namespace
                .unwrap_or_else(|| WorkflowChoice::NAMESPACE.into()),
            name: workflow.name,
            version: workflow.version,
        }),
        (None, Some(definition)) => {
            sound(definition, "/definition", &mut faults).map(WorkflowRef::Inline)
        }
        (Some(_), Some(_)) => {
            let detail = "give either `workflow` or `definition`, not both";
            faults.push(Fault::at("/definition", detail));
            None
        }
        (None, None) => {
            let detail = "say what to start: give `workflow` with its `name`, or a `definition`";
            faults.push(Fault::at("", detail));
            None
        }
    };
    let input = body.input.unwrap_or_else(Json::null);
    let input = sound(input, "/input", &mut faults);
    if let Some(correlation) = &body.correlation_id {
        text("/correlationId", correlation, &mut faults);
    }
    if body.labels.len() > LABELS_MAX {
        let detail = format!("an execution has at most {LABELS_MAX} labels");
        faults.push(Fault::at("/labels", detail));
    }
    for (key, value) in &body.labels {
        let pointer = format!("/labels/{}", key.replace('~', "~0").replace('/', "~1"));
        text(&pointer, key, &mut faults);
        if !value.is_empty() {
            text(&pointer, value, &mut faults);
        }
    }
    match (workflow, input) {
        (Some(workflow), Some(input)) if faults.is_empty() => Ok(StartExecution {
            tenant: tenant.clone(),
            workflow,
            input,
            execution: body.execution_id,
            idempotency_key: headers.idempotency_key,
            correlation: body.correlation_id,
            labels: body.labels,
            traceparent: headers.traceparent,
        }),
        _ => Err(Trouble::invalid(faults)),
    }
}

/// A value that can be worked with, or a fault.
fn sound(json: Json, pointer: &str, faults: &mut Vec<Fault>) -> Option<Json> {
    accept(json)
        .map_err(|error| faults.push(Fault::at(pointer, error.to_string())))
        .ok()
}

fn text(pointer: &str, text: &str, faults: &mut Vec<Fault>) {
    let fits = (1..=TEXT_BYTES_MAX).contains(&text.len());
    if !fits || text.chars().any(char::is_control) {
        let detail = format!("use 1 to {TEXT_BYTES_MAX} bytes of text without control characters");
        faults.push(Fault::at(pointer, detail));
    }
}

/// What an agent asks for, checked and cut to what is allowed; `base` is where it stands in the body.
pub(crate) fn lease(body: LeaseBody, base: &str) -> Result<LeaseRequest, Trouble> {
    let mut faults = Vec::new();
    if !(1..=CAPABILITIES_MAX).contains(&body.capabilities.len()) {
        let detail = format!("name 1 to {CAPABILITIES_MAX} capabilities");
        faults.push(Fault::at(format!("{base}/capabilities"), detail));
    }
    if body.max == 0 {
        faults.push(Fault::at(
            format!("{base}/max"),
            "ask for at least one task",
        ));
    }
    let lease_for = body.lease_for.map(|span| span.0);
    if lease_for.is_some_and(|span| !(1..=LEASE_FOR_MS_MAX).contains(&span.0)) {
        let detail = "a lease is longer than nothing and no longer than 24 hours";
        faults.push(Fault::at(format!("{base}/leaseFor"), detail));
    }
    if !faults.is_empty() {
        return Err(Trouble::invalid(faults));
    }
    let wait_ms = body.wait.map_or(0, |span| span.0.0);
    Ok(LeaseRequest {
        agent: body.agent,
        capabilities: body.capabilities,
        max: body.max.min(LEASE_TASKS_MAX),
        wait: std::time::Duration::from_millis(wait_ms.min(WAIT_SECONDS_MAX * 1_000)),
        lease_for,
    })
}

/// One result of a batch.
///
/// `place` is that in a batch, `None` for a result that came alone.
pub(crate) fn result(item: ResultItem, place: Option<usize>) -> Result<TaskResult, Trouble> {
    let mut faults = Vec::new();
    let verdict = match (item.complete, item.fail, item.heartbeat) {
        (Some(complete), None, None) => accept(complete.output)
            .map_err(|error| {
                let pointer = place.map_or_else(
                    || "/output".to_owned(),
                    |place| format!("/results/{place}/complete/output"),
                );
                faults.push(Fault::at(pointer, error.to_string()));
            })
            .ok()
            .map(TaskVerdict::Complete),
        (None, Some(fail), None) => Some(TaskVerdict::Fail(TaskFailure {
            error: brief(fail.error).into(),
            retryable: fail.retryable,
            retry_after: fail.retry_after.map(|span| span.0),
        })),
        (None, None, Some(_)) => Some(TaskVerdict::Heartbeat),
        _ => {
            let detail = "give exactly one of `complete`, `fail` and `heartbeat`";
            let pointer = place.map_or_else(String::new, |place| format!("/results/{place}"));
            faults.push(Fault::at(pointer, detail));
            None
        }
    };
    let token = TaskToken(item.token);
    verdict
        .map(|verdict| TaskResult { token, verdict })
        .ok_or_else(|| Trouble::invalid(faults))
}

fn brief(error: FailError) -> FailError {
    let cut = |text: Option<String>| {
        text.map(|mut text| {
            text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
            text
        })
    };
    FailError {
        kind: cut(error.kind),
        title: cut(error.title),
        status: error.status,
        detail: cut(error.detail),
    }
}

/// The answer to one result of a batch.
pub(crate) fn outcome(token: Arc<str>, outcome: ResultOutcome) -> ResultAnswer {
    match outcome {
        ResultOutcome::Accepted => ResultAnswer {
            token,
            status: 200,
            heartbeat: None,
            problem: None,
        },
        ResultOutcome::Alive(heartbeat) => ResultAnswer {
            token,
            status: 200,
            heartbeat: Some(self::heartbeat(heartbeat)),
            problem: None,
        },
        ResultOutcome::Refused(refusal) => refused(token, Trouble::from(refusal).into_problem()),
    }
}

pub(crate) fn refused(token: Arc<str>, problem: Problem) -> ResultAnswer {
    ResultAnswer {
        token,
        status: problem.status,
        heartbeat: None,
        problem: Some(problem),
    }
}

pub(crate) fn heartbeat(heartbeat: inbound::Heartbeat) -> HeartbeatAnswer {
    HeartbeatAnswer {
        cancelled: heartbeat.cancelled,
        lease_until: heartbeat.lease_until.into(),
    }
}

pub(crate) fn leased(tenant: &Tenant, task: inbound::LeasedTask) -> LeasedTask {
    LeasedTask {
        idempotency_key: LeasedTask::key(&task.execution, &task.task, task.attempt),
        token: task.token.0,
        execution_id: task.execution,
        tenant: tenant.clone(),
        workflow: task.workflow.into(),
        task: task.task.pointer,
        iteration: task.task.iteration,
        capability: task.capability,
        attempt: task.attempt,
        input: task.input,
        deadline: task.deadline.into(),
        traceparent: task.traceparent,
    }
}

/// The full view in its public form: also for who shows an execution without HTTP.
pub fn view(view: inbound::ExecutionView) -> ExecutionView {
    ExecutionView {
        execution_id: view.execution,
        workflow: Workflow::new(view.workflow, view.digest),
        tenant: view.tenant,
        correlation_id: view.correlation,
        labels: view.labels,
        status: view.status,
        input: view.input,
        output: view.output,
        error: view.error.map(Problem::from),
        created_at: view.created_at.into(),
        started_at: view.started_at.map(Into::into),
        ended_at: view.ended_at.map(Into::into),
        estimated_completion: view.estimated_completion.map(Into::into),
        progress: progress(view.progress),
        tasks: view.tasks.into_iter().map(task).collect(),
    }
}

pub(crate) fn explanation(explanation: inbound::Explanation) -> controls::Explanation {
    controls::Explanation {
        execution_id: explanation.execution,
        status: explanation.status,
        summary: explanation.summary,
        waits_for: explanation.waits.into_iter().map(wait).collect(),
        more: explanation.more,
    }
}

fn wait(wait: inbound::Wait) -> controls::WaitsFor {
    let (task, iteration) = wait.task.map(|task| (task.pointer, task.iteration)).unzip();
    controls::WaitsFor {
        cause: wait.cause.as_str().to_owned(),
        task,
        iteration: iteration.unwrap_or_default(),
        attempt: wait.attempt,
        since: Time(wait.since),
        held_by: wait.held_by,
        held_until: wait.held_until.map(Time),
        due: wait.due.map(Time),
        detail: wait.detail,
        next: wait.next,
    }
}

pub(crate) fn summary(view: inbound::ExecutionView) -> Summary {
    Summary {
        execution_id: view.execution,
        workflow: Workflow::new(view.workflow, view.digest),
        tenant: view.tenant,
        correlation_id: view.correlation,
        labels: view.labels,
        status: view.status,
        error: view.error.map(Problem::from),
        created_at: view.created_at.into(),
        started_at: view.started_at.map(Into::into),
        ended_at: view.ended_at.map(Into::into),
        estimated_completion: view.estimated_completion.map(Into::into),
        progress: progress(view.progress),
    }
}

fn progress(progress: inbound::Progress) -> Progress {
    Progress {
        completed: progress.completed,
        running: progress.running,
        pending: progress.pending,
        total: progress.total,
    }
}

fn task(task: inbound::TaskView) -> TaskView {
    TaskView {
        reference: task.reference.pointer,
        name: task.name,
        iteration: task.reference.iteration,
        status: task.status,
        attempt: task.attempt,
        agent: task.agent,
        scheduled_at: task.scheduled_at.map(Into::into),
        started_at: task.started_at.map(Into::into),
        ended_at: task.ended_at.map(Into::into),
        output: task.output,
        error: task.error.map(Problem::from),
    }
}

pub(crate) fn list(page: inbound::ListPage) -> ListAnswer {
    ListAnswer {
        executions: page.executions.into_iter().map(summary).collect(),
        next: page.next.as_ref().map(query::cursor),
    }
}

pub(crate) fn history(page: inbound::HistoryPage) -> HistoryAnswer {
    HistoryAnswer {
        events: page.events.into_iter().map(history_event).collect(),
        next: page.next,
    }
}

pub(crate) fn history_event(event: inbound::HistoryEvent) -> HistoryEvent {
    HistoryEvent {
        sequence: event.sequence,
        kind: event.kind.into(),
        time: event.time.into(),
        data: event.data,
        hash: event.hash,
    }
}

pub(crate) fn event(event: LifecycleEvent) -> CloudEvent {
    CloudEvent::from(Lifecycle {
        id: event.id,
        kind: event.kind,
        tenant: event.tenant,
        execution: event.execution,
        workflow: event.workflow,
        sequence: event.sequence,
        time: event.time.into(),
        correlation: event.correlation,
        data: event.data,
    })
}

pub(crate) fn workflow(definition: Definition) -> Workflow {
    Workflow::new(definition.workflow, definition.digest)
}

pub(crate) fn document(definition: Definition) -> WorkflowDocument {
    WorkflowDocument {
        namespace: definition.workflow.namespace,
        name: definition.workflow.name,
        version: definition.workflow.version,
        digest: definition.digest,
        document: definition.document,
    }
}

pub(crate) fn system(view: inbound::SystemView) -> system::System {
    let partition = |partition: inbound::PartitionView| system::Partition {
        id: partition.id,
        leader: partition.leader,
        epoch: partition.epoch,
        position: partition.position,
        reason: partition.reason,
    };
    let limit = |(name, value): (&str, u64)| (name.to_owned(), value);
    system::System {
        version: view.version,
        backend: view.backend,
        partitions: view.partitions.into_iter().map(partition).collect(),
        limits: view.limits.into_iter().map(limit).collect(),
    }
}
