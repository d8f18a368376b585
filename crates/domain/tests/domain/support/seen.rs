//! Events in the words of a test: their kind, their task's name and what matters of the rest.

use eventflow_domain::{TaskReference, execution::Event, plan::Plan};

/// An event as a test writes it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seen(String);

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Seen {
    pub(crate) fn of(plan: &Plan, event: &Event) -> Self {
        let kind = event.kind();
        let name_of = |task| name_of(plan, task);
        Self(match event {
            Event::ExecutionRequested(_)
            | Event::ExecutionStarted { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFaulted { .. }
            | Event::ExecutionTimedOut { .. }
            | Event::ExecutionPauseRequested(_)
            | Event::ExecutionSuspended {}
            | Event::ExecutionResumed(_)
            | Event::ExecutionStopRequested(_)
            | Event::ExecutionCancelled {} => kind.to_owned(),
            Event::SequenceEntered { task, .. }
            | Event::ForkEntered { task, .. }
            | Event::WaitStarted { task, .. }
            | Event::TaskScheduled { task, .. }
            | Event::TaskCompleted { task, .. }
            | Event::TaskFaulted { task, .. }
            | Event::TaskTimedOut { task, .. }
            | Event::TaskSkipped { task, .. }
            | Event::TaskCancelled { task } => format!("{kind} {}", name_of(task)),
            Event::TaskStarted { task, agent, .. } => format!("{kind} {} {agent}", name_of(task)),
            Event::RetryScheduled { task, attempt, .. }
            | Event::ErrorCaught { task, attempt, .. }
            | Event::TimerFired { task, attempt } => {
                format!("{kind} {} {attempt}", name_of(task))
            }
            Event::BranchSelected { task, case, .. } => {
                format!(
                    "{kind} {} {}",
                    name_of(task),
                    case.as_deref().unwrap_or("none")
                )
            }
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The task that an event is about.
pub(crate) fn task_of(event: &Event) -> Option<&TaskReference> {
    match event {
        Event::SequenceEntered { task, .. }
        | Event::ForkEntered { task, .. }
        | Event::ErrorCaught { task, .. }
        | Event::WaitStarted { task, .. }
        | Event::TaskScheduled { task, .. }
        | Event::TaskStarted { task, .. }
        | Event::RetryScheduled { task, .. }
        | Event::TimerFired { task, .. }
        | Event::BranchSelected { task, .. }
        | Event::TaskCompleted { task, .. }
        | Event::TaskFaulted { task, .. }
        | Event::TaskTimedOut { task, .. }
        | Event::TaskSkipped { task, .. }
        | Event::TaskCancelled { task } => Some(task),
        Event::ExecutionRequested(_)
        | Event::ExecutionStarted { .. }
        | Event::ExecutionCompleted { .. }
        | Event::ExecutionFaulted { .. }
        | Event::ExecutionTimedOut { .. }
        | Event::ExecutionPauseRequested(_)
        | Event::ExecutionSuspended {}
        | Event::ExecutionResumed(_)
        | Event::ExecutionStopRequested(_)
        | Event::ExecutionCancelled {} => None,
    }
}

/// The name that the task's author gave it.
pub(crate) fn name_of(plan: &Plan, task: &TaskReference) -> String {
    let node = plan.find(&task.pointer);
    node.map_or_else(|| task.to_string(), |node| plan.node(node).name.to_string())
}

macro_rules! seen {
    ($($name:ident = $kind:literal),+ $(,)?) => {
        $(pub(crate) fn $name(task: &str) -> Seen {
            Seen(format!("{} {task}", $kind))
        })+
    };
}

seen! {
    entered = "sequence_entered",
    forked = "fork_entered",
    waits = "wait_started",
    scheduled = "task_scheduled",
    completed = "task_completed",
    faulted = "task_faulted",
    timed_out = "task_timed_out",
    skipped = "task_skipped",
    cancelled = "task_cancelled",
}

pub(crate) fn started(task: &str, agent: &str) -> Seen {
    Seen(format!("task_started {task} {agent}"))
}

/// The attempt that failed.
pub(crate) fn retried(task: &str, attempt: u32) -> Seen {
    Seen(format!("retry_scheduled {task} {attempt}"))
}

/// The attempt that is ready now.
pub(crate) fn ready(task: &str, attempt: u32) -> Seen {
    Seen(format!("timer_fired {task} {attempt}"))
}

pub(crate) fn chose(task: &str, case: &str) -> Seen {
    Seen(format!("branch_selected {task} {case}"))
}

/// The try of its tasks that failed.
pub(crate) fn caught(task: &str, attempt: u32) -> Seen {
    Seen(format!("error_caught {task} {attempt}"))
}

macro_rules! seen_of_the_execution {
    ($($name:ident = $kind:literal),+ $(,)?) => {
        $(pub(crate) fn $name() -> Seen {
            Seen($kind.to_owned())
        })+
    };
}

seen_of_the_execution! {
    execution_completed = "execution_completed",
    execution_faulted = "execution_faulted",
    execution_timed_out = "execution_timed_out",
    pause_requested = "execution_pause_requested",
    suspended = "execution_suspended",
    resumed = "execution_resumed",
    stop_requested = "execution_stop_requested",
    execution_cancelled = "execution_cancelled",
}
