//! From wire to port and back: what came in is checked here, once, and what goes out gets its public form.

use eventflow_domain::Tenant;
use eventflow_ports::{
    Definition,
    inbound::{self, Fault, LeaseRequest},
};
use eventflow_wire::v1::{
    LEASE_TASKS_MAX, Problem, Time, WAIT_SECONDS_MAX,
    batch::lease_for,
    controls,
    executions::{ExecutionView, HistoryAnswer, HistoryEvent, ListAnswer, TaskView},
    shape::summary,
    system,
    tasks::{LeaseBody, LeasedTask},
    workflows::{Workflow, WorkflowDocument},
};

use crate::{query, trouble::Trouble};

/// Capabilities of one agent: it waits on a queue for each.
const CAPABILITIES_MAX: usize = 64;

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
    let lease_for = lease_for(body.lease_for).unwrap_or_else(|detail| {
        faults.push(Fault::at(format!("{base}/leaseFor"), detail));
        None
    });
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
        progress: view.progress.into(),
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
