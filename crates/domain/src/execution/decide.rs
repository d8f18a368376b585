//! What a command means: events, nothing for a repeat, or a rejection.

use super::{
    Command, Content, Control, Event, Execution, Rejection, Status, Task, TaskStatus, Timer,
    activate::{Activation, bounded},
    catch::caught,
    settle::{below_cancelled, close},
    task::{digest_of_failure, digest_of_output},
};
use crate::{
    error::{ErrorKind, Problem},
    ids::{AgentName, Attempt, Digest, TaskReference},
    plan::{Kind, Plan},
    retry::RetryPolicy,
    time::{DurationMs, Timestamp},
    value::Value,
};

/// Decides one command at a time `at`. Of what is due, decides the first: `step` comes back for more.
pub fn decide(
    execution: &Execution,
    plan: &Plan,
    command: &Command,
    at: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::BeginAttempt {
            task,
            attempt,
            agent,
        } => {
            let state = current(execution, task, *attempt)?;
            begin(execution, state, task, *attempt, agent)
        }
        Command::CompleteAttempt {
            task,
            attempt,
            output,
        } => {
            if is_repeat_of_earlier(execution, task, *attempt, || digest_of_output(output)) {
                return Ok(Vec::new());
            }
            let state = current(execution, task, *attempt)?;
            complete(execution, plan, state, task, *attempt, output)
        }
        Command::FailAttempt {
            task,
            attempt,
            error,
            retryable,
            retry_after,
        } => {
            let failure = Failure {
                error: bounded(error.clone().at(task.to_string())),
                retryable: *retryable,
                retry_after: *retry_after,
            };
            if is_repeated_failure(execution, task, *attempt, &failure.error)
                || is_repeat_of_earlier(execution, task, *attempt, || {
                    digest_of_failure(&failure.error)
                })
            {
                return Ok(Vec::new());
            }
            let state = current(execution, task, *attempt)?;
            undecided(state, task, *attempt)?;
            wanted(execution, task, *attempt)?;
            Ok(vec![fail(execution, plan, state, task, failure, at)])
        }
        // An attempt that nobody began has no lease, one that has ended since needs none.
        Command::ExpireLease { task, attempt } => Ok(current(execution, task, *attempt)
            .ok()
            .filter(|state| state.is_ready() && state.agent.is_some() && !execution.is_stopping)
            .map(|state| fail(execution, plan, state, task, Failure::silence(task), at))
            .into_iter()
            .collect()),
        Command::Pause(control) => pause(execution, control),
        Command::Resume(control) => resume(execution, control),
        Command::Stop(control) => stop(execution, control),
        Command::FireTimers => Ok(fire(execution, plan, at)),
        Command::Advance => Ok(Vec::new()),
    }
}

/// The task, where this is its current attempt.
fn current<'a>(
    execution: &'a Execution,
    task: &TaskReference,
    attempt: Attempt,
) -> Result<&'a Task, Rejection> {
    let state = execution
        .tasks
        .get(task)
        .ok_or_else(|| Rejection::UnknownTask(task.clone()))?;
    match attempt.cmp(&state.attempt) {
        std::cmp::Ordering::Equal => Ok(state),
        std::cmp::Ordering::Greater => Err(Rejection::NotScheduled {
            task: task.clone(),
            attempt,
        }),
        std::cmp::Ordering::Less => Err(Rejection::Superseded {
            task: task.clone(),
            attempt,
            reason: "a later attempt took its place",
        }),
    }
}

/// Refuses what comes for an attempt that has no result to wait for.
fn undecided(state: &Task, task: &TaskReference, attempt: Attempt) -> Result<(), Rejection> {
    let superseded = |reason| {
        Err(Rejection::Superseded {
            task: task.clone(),
            attempt,
            reason,
        })
    };
    match state.status {
        TaskStatus::Pending | TaskStatus::Running if state.is_ready() => Ok(()),
        TaskStatus::Pending | TaskStatus::Running | TaskStatus::Suspended => {
            Err(Rejection::NotScheduled {
                task: task.clone(),
                attempt,
            })
        }
        TaskStatus::Waiting | TaskStatus::Completed | TaskStatus::Faulted => {
            Err(Rejection::OtherResult {
                task: task.clone(),
                attempt,
            })
        }
        TaskStatus::Cancelled => superseded("the task was cancelled"),
        TaskStatus::Skipped => superseded("the task was skipped"),
    }
}

/// Refuses a result where everything that is under way is being cancelled.
fn wanted(execution: &Execution, task: &TaskReference, attempt: Attempt) -> Result<(), Rejection> {
    if !execution.is_stopping {
        return Ok(());
    }
    Err(Rejection::Superseded {
        task: task.clone(),
        attempt,
        reason: "the execution is being stopped",
    })
}

fn pause(execution: &Execution, control: &Control) -> Result<Vec<Event>, Rejection> {
    match execution.status {
        Status::Suspending | Status::Suspended => Ok(Vec::new()),
        Status::Completed | Status::Faulted | Status::Cancelled => {
            Err(Rejection::Ended(execution.status))
        }
        Status::Pending | Status::Running | Status::Waiting if execution.is_stopping => {
            Err(Rejection::Stopping)
        }
        Status::Pending | Status::Running | Status::Waiting => {
            Ok(vec![Event::ExecutionPauseRequested(control.clone())])
        }
    }
}

fn resume(execution: &Execution, control: &Control) -> Result<Vec<Event>, Rejection> {
    match execution.status {
        Status::Suspending | Status::Suspended => {
            // The step in which it came to rest may have had no room left to say so.
            let suspended = execution
                .has_drained()
                .then_some(Event::ExecutionSuspended {});
            let resumed = Event::ExecutionResumed(control.clone());
            Ok(suspended.into_iter().chain([resumed]).collect())
        }
        Status::Completed | Status::Faulted | Status::Cancelled => {
            Err(Rejection::Ended(execution.status))
        }
        Status::Pending | Status::Running | Status::Waiting if execution.is_stopping => {
            Err(Rejection::Stopping)
        }
        Status::Pending | Status::Running | Status::Waiting => Ok(Vec::new()),
    }
}

fn stop(execution: &Execution, control: &Control) -> Result<Vec<Event>, Rejection> {
    match execution.status {
        Status::Cancelled => Ok(Vec::new()),
        Status::Completed | Status::Faulted => Err(Rejection::Ended(execution.status)),
        Status::Pending
        | Status::Running
        | Status::Waiting
        | Status::Suspending
        | Status::Suspended
            if execution.is_stopping =>
        {
            Ok(Vec::new())
        }
        Status::Pending
        | Status::Running
        | Status::Waiting
        | Status::Suspending
        | Status::Suspended => Ok(vec![Event::ExecutionStopRequested(control.clone())]),
    }
}

fn begin(
    execution: &Execution,
    state: &Task,
    task: &TaskReference,
    attempt: Attempt,
    agent: &AgentName,
) -> Result<Vec<Event>, Rejection> {
    undecided(state, task, attempt)?;
    match &state.agent {
        None if execution.is_paused() => Err(Rejection::Paused {
            task: task.clone(),
            attempt,
        }),
        None if execution.is_stopping => Err(Rejection::Stopping),
        None => Ok(vec![Event::TaskStarted {
            task: task.clone(),
            attempt,
            agent: agent.clone(),
        }]),
        Some(holder) if holder == agent => Ok(Vec::new()),
        Some(holder) => Err(Rejection::Held {
            task: task.clone(),
            attempt,
            agent: holder.clone(),
        }),
    }
}

fn complete(
    execution: &Execution,
    plan: &Plan,
    state: &Task,
    task: &TaskReference,
    attempt: Attempt,
    output: &Value,
) -> Result<Vec<Event>, Rejection> {
    if is_same_result(state, output) {
        return Ok(Vec::new());
    }
    undecided(state, task, attempt)?;
    wanted(execution, task, attempt)?;
    let Some(node) = plan.find(&task.pointer) else {
        return Err(Rejection::UnknownTask(task.clone()));
    };
    let activation = Activation::new(execution, plan, plan.node(node), state.within.clone());
    Ok(vec![activation.end(attempt, &state.input, output.clone())])
}

/// Whether this is what the attempt has brought. A task faults with a result where its `output.as` failed.
fn is_same_result(state: &Task, output: &Value) -> bool {
    match (&state.result, state.status) {
        (Some(result), TaskStatus::Completed | TaskStatus::Faulted) => {
            digest_of_output(output) == *result
        }
        (None, TaskStatus::Completed) => state.output.as_ref() == Some(output),
        _ => false,
    }
}

/// Whether an attempt before the current one brought this: its sender has not heard that it was accepted.
fn is_repeat_of_earlier(
    execution: &Execution,
    task: &TaskReference,
    attempt: Attempt,
    brought: impl FnOnce() -> Digest,
) -> bool {
    let state = execution.tasks.get(task);
    let earlier = state.and_then(|state| state.earlier.iter().find(|(past, _)| *past == attempt));
    earlier.is_some_and(|(_, result)| *result == brought())
}

fn is_repeated_failure(
    execution: &Execution,
    task: &TaskReference,
    attempt: Attempt,
    error: &Problem,
) -> bool {
    execution.tasks.get(task).is_some_and(|state| {
        state.failed_attempt == Some(attempt) && state.error.as_ref() == Some(error)
    })
}

/// How an attempt failed.
struct Failure {
    error: Problem,
    retryable: bool,
    retry_after: Option<DurationMs>,
}

impl Failure {
    fn timeout(task: &TaskReference, title: &str, detail: String) -> Self {
        let error = Problem::new(ErrorKind::Timeout, title, detail).at(task.to_string());
        Self {
            error,
            retryable: true,
            retry_after: None,
        }
    }

    fn silence(task: &TaskReference) -> Self {
        let detail =
            "the agent sent neither a result nor a heartbeat before its lease ended".to_owned();
        Self::timeout(task, "Lease expired", detail)
    }
}

/// The end of an attempt: another one, or the end of the task.
fn fail(
    execution: &Execution,
    plan: &Plan,
    state: &Task,
    task: &TaskReference,
    failure: Failure,
    at: Timestamp,
) -> Event {
    let attempt = state.attempt;
    let policy = match plan.find(&task.pointer).map(|node| &plan.node(node).kind) {
        Some(Kind::Invoke(invoke)) => invoke.retry,
        _ => RetryPolicy::NEVER,
    };
    let delay = policy.delay_before(state.next_retry(), &execution.id, task, attempt);
    match delay.filter(|_| failure.retryable) {
        Some(delay) => Event::RetryScheduled {
            task: task.clone(),
            attempt,
            error: failure.error,
            at: at.after(
                failure
                    .retry_after
                    .map_or(delay, |wished| wished.max(delay)),
            ),
        },
        None => Event::TaskFaulted {
            task: task.clone(),
            within: state.within.clone(),
            attempt,
            error: failure.error,
            result: None,
        },
    }
}

/// What the first due timer brings about.
fn fire(execution: &Execution, plan: &Plan, at: Timestamp) -> Vec<Event> {
    match execution.due(at) {
        None => Vec::new(),
        Some(Timer::Execution) => close(execution, || Event::ExecutionTimedOut {
            error: Problem::new(
                ErrorKind::Timeout,
                "Execution timed out",
                format!(
                    "it took longer than {} s",
                    execution.requested.timeout.0 / 1000
                ),
            ),
        }),
        Some(Timer::Task(task)) => task_timed_out(execution, task),
        Some(Timer::Attempt(task)) => execution.tasks.get(task).map_or_else(Vec::new, |state| {
            attempt_due(execution, plan, state, task, at)
        }),
    }
}

fn task_timed_out(execution: &Execution, task: &TaskReference) -> Vec<Event> {
    let Some(state) = execution.tasks.get(task) else {
        return Vec::new();
    };
    let below = below_cancelled(execution, task);
    if !below.is_empty() {
        return below;
    }
    let detail = "the task took longer than it may over all of its attempts".to_owned();
    let error = Failure::timeout(task, "Task timed out", detail).error;
    vec![Event::TaskTimedOut {
        task: task.clone(),
        attempt: state.attempt,
        error,
    }]
}

/// What the one timer of an attempt brings about.
fn attempt_due(
    execution: &Execution,
    plan: &Plan,
    state: &Task,
    task: &TaskReference,
    at: Timestamp,
) -> Vec<Event> {
    let Some(node) = plan.find(&task.pointer).map(|id| plan.node(id)) else {
        return Vec::new();
    };
    match (&node.kind, state.status) {
        (Kind::Wait(_), _) => {
            let activation = Activation::new(execution, plan, node, state.within.clone());
            vec![activation.end_container(state.attempt, &Content::InputOf(task.clone()))]
        }
        (_, TaskStatus::Waiting) => vec![Event::TimerFired {
            task: task.clone(),
            attempt: state.attempt.next(),
        }],
        (Kind::Try(_), _) => {
            let below = below_cancelled(execution, task);
            if !below.is_empty() {
                return below;
            }
            let detail = "this try took longer than one attempt may".to_owned();
            let error = Failure::timeout(task, "Attempt timed out", detail).error;
            vec![caught(execution, plan, task, error, at)]
        }
        _ => {
            let detail = format!("no agent took it within {} s", state.start_within.0 / 1000);
            let failure = Failure::timeout(task, "Nobody picked the task up", detail);
            vec![fail(execution, plan, state, task, failure, at)]
        }
    }
}
