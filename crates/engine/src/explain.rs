//! What an execution waits for, since when, who holds it and what comes next (requirement X3): told from its state.

use eventflow_domain::{
    AgentName, TaskReference, Timestamp,
    execution::{Execution, Status, Task, TaskStatus, Work},
    plan::{Kind, Node, Plan},
};
use eventflow_ports::inbound::{Cause, Explanation, Wait};

use crate::{partition::Hold, render};

/// So many things are listed; the rest is counted, so that an answer stays readable.
const WAITS_MAX: usize = 100;

/// Explains an execution, given who holds its attempts until when.
pub(crate) fn explain(execution: &Execution, plan: &Plan, holds: &[Hold]) -> Explanation {
    let status = render::status(execution);
    let mut waits = if execution.is_ended() {
        Vec::new()
    } else {
        waits(execution, plan, holds)
    };
    // What holds the whole execution back first, then whatever waits longest.
    waits.sort_by_key(|wait| (wait.task.is_some(), wait.since));
    let more = waits.len().saturating_sub(WAITS_MAX);
    let summary = summary(execution, status, &waits);
    waits.truncate(WAITS_MAX);
    Explanation {
        execution: execution.id.clone(),
        status,
        summary,
        waits,
        more,
    }
}

fn summary(execution: &Execution, status: Status, waits: &[Wait]) -> String {
    match (status, waits) {
        (Status::Completed, _) => "it has completed".to_owned(),
        (Status::Cancelled, _) => "it was stopped".to_owned(),
        (Status::Faulted, _) => {
            let error = execution.error.as_ref();
            let title = error.and_then(|error| error.title.as_deref());
            let place = error.and_then(|error| error.instance.as_deref());
            format!(
                "it failed: {} at {}",
                title.unwrap_or("an error without a title"),
                place.unwrap_or("an unknown place")
            )
        }
        (_, []) => "it waits for nothing: this service is at it".to_owned(),
        (_, [only]) => only.detail.clone(),
        (_, [first, ..]) if first.task.is_none() => first.detail.clone(),
        (_, [first, rest @ ..]) => format!("{}; and {} more", first.detail, rest.len()),
    }
}

fn waits(execution: &Execution, plan: &Plan, holds: &[Hold]) -> Vec<Wait> {
    let mut waits = Vec::new();
    if execution.is_paused() {
        waits.push(paused(execution));
    } else if execution.is_stopping || execution.started_at.is_none() || execution.owes_advance() {
        waits.push(of_the_engine(execution));
    }
    for (reference, task) in &execution.tasks {
        let node = plan.find(&reference.pointer).map(|id| plan.node(id));
        let Some(node) = node.filter(|_| !task.status.is_ended()) else {
            continue;
        };
        let held_until = holds
            .iter()
            .find(|(held, _)| held == reference)
            .map(|(_, until)| *until);
        let waiting = Waiting {
            execution,
            reference,
            task,
            node,
            held_until,
        };
        waits.extend(waiting.explained());
    }
    waits
}

fn paused(execution: &Execution) -> Wait {
    let detail = match execution.status {
        Status::Suspending => "it is being paused: what has begun runs out",
        _ => "it is paused",
    };
    Wait {
        due: Some(execution.created_at.after(execution.requested.timeout)),
        next: "nothing new begins until it is resumed; only its own time-out goes on".to_owned(),
        ..of_the_execution(execution, Cause::Resume, detail)
    }
}

fn of_the_engine(execution: &Execution) -> Wait {
    let detail = if execution.is_stopping {
        "it is being stopped"
    } else {
        "this service is at it"
    };
    of_the_execution(execution, Cause::Engine, detail)
}

fn of_the_execution(execution: &Execution, cause: Cause, detail: &str) -> Wait {
    Wait {
        cause,
        task: None,
        attempt: None,
        since: execution.changed_at,
        held_by: None,
        held_until: None,
        due: None,
        detail: detail.to_owned(),
        next: "it goes on by itself".to_owned(),
    }
}

/// A task that is under way.
struct Waiting<'a> {
    execution: &'a Execution,
    reference: &'a TaskReference,
    task: &'a Task,
    node: &'a Node,
    held_until: Option<Timestamp>,
}

impl Waiting<'_> {
    /// What it waits for; nothing where that is told by the tasks it holds. Of what a pause holds back, nothing is due.
    fn explained(&self) -> Option<Wait> {
        let wait = self.as_it_stands()?;
        let is_held = self.execution.is_paused() && wait.held_by.is_none();
        Some(if is_held {
            Wait {
                due: None,
                next: "nothing, until the execution is resumed".to_owned(),
                ..wait
            }
        } else {
            wait
        })
    }

    fn as_it_stands(&self) -> Option<Wait> {
        let task = self.task;
        let name = &self.node.name;
        Some(match (task.status, &task.work) {
            (TaskStatus::Waiting, _) => self.timed(),
            (TaskStatus::Pending, Some(_)) if task.ready_at.is_none() => self.wait(
                Cause::Place,
                task.scheduled_at,
                format!("`{name}` waits for a place among the steps that may run at once"),
                "it begins when one of them ends".to_owned(),
            ),
            (TaskStatus::Pending | TaskStatus::Running, Some(work)) => match &task.agent {
                None => self.unclaimed(work),
                Some(agent) => self.begun(work, agent),
            },
            (TaskStatus::Pending | TaskStatus::Running, None)
            | (
                TaskStatus::Suspended
                | TaskStatus::Cancelled
                | TaskStatus::Faulted
                | TaskStatus::Completed
                | TaskStatus::Skipped,
                _,
            ) => return None,
        })
    }

    fn timed(&self) -> Wait {
        let name = &self.node.name;
        let due = self.task.next_time();
        let (cause, detail, next) = if matches!(self.node.kind, Kind::Wait(_)) {
            let next = "it goes on by itself".to_owned();
            (Cause::Timer, format!("`{name}` lets time pass"), next)
        } else {
            let error = self.task.error.as_ref();
            let title = error.and_then(|error| error.title.as_deref());
            let detail = format!(
                "`{name}` failed ({}) and waits for its next attempt",
                title.unwrap_or("without a title")
            );
            let next = format!("attempt {} begins", self.task.attempt.next());
            (Cause::Retry, detail, next)
        };
        let since = self.task.since();
        Wait {
            due,
            ..self.wait(cause, since, detail, next)
        }
    }

    fn unclaimed(&self, work: &Work) -> Wait {
        let name = &self.node.name;
        let since = self.task.ready_at.unwrap_or(self.task.scheduled_at);
        match work {
            Work::Agent { capability, .. } => Wait {
                due: self.task.next_time(),
                ..self.wait(
                    Cause::Agent,
                    since,
                    format!("`{name}` waits for an agent that serves `{capability}`"),
                    self.after_failure("if none takes it in time"),
                )
            },
            Work::Http { .. } | Work::ServiceCall {} => self.wait(
                Cause::Engine,
                since,
                format!("`{name}` is about to make its HTTP call"),
                "this service makes it".to_owned(),
            ),
        }
    }

    fn begun(&self, work: &Work, agent: &AgentName) -> Wait {
        let name = &self.node.name;
        let since = self.task.started_at.unwrap_or(self.task.scheduled_at);
        let (cause, detail, when) = match work {
            Work::Agent { .. } => (
                Cause::Result,
                format!("`{name}` is with {agent}"),
                "if it is silent for longer than its lease",
            ),
            Work::Http { .. } | Work::ServiceCall {} => (
                Cause::Response,
                format!("`{name}` waits for the answer to its HTTP call"),
                "if it fails",
            ),
        };
        Wait {
            held_by: Some(agent.clone()),
            held_until: self.held_until,
            due: self.task.deadline(),
            ..self.wait(cause, since, detail, self.after_failure(when))
        }
    }

    /// What follows if the current attempt fails.
    fn after_failure(&self, when: &str) -> String {
        let made = self.task.attempt.0 + 1 - self.task.first_attempt.0;
        let retries = match &self.node.kind {
            Kind::Invoke(invoke) => invoke.retry.retries,
            _ => 0,
        };
        if made <= retries {
            format!(
                "{when}, attempt {} of {} follows",
                made + 1,
                u64::from(retries) + 1
            )
        } else {
            format!("{when}, the task fails: this is its last attempt")
        }
    }

    fn wait(&self, cause: Cause, since: Timestamp, detail: String, next: String) -> Wait {
        Wait {
            cause,
            task: Some(self.reference.clone()),
            attempt: Some(self.task.attempt),
            since,
            held_by: None,
            held_until: None,
            due: None,
            detail,
            next,
        }
    }
}
