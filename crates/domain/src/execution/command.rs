//! Commands: orders to an execution, which may be refused.

use super::{Control, Status};
use crate::{
    error::Problem,
    ids::{AgentName, Attempt, TaskReference},
    time::DurationMs,
    value::Value,
};

/// An order. A repeated one is `Ok` with no events, a contradictory one a [`Rejection`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Somebody took an attempt.
    BeginAttempt {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
        /// Who.
        agent: AgentName,
    },
    /// An attempt succeeded.
    CompleteAttempt {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
        /// What it brought.
        output: Value,
    },
    /// An attempt failed.
    FailAttempt {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
        /// How.
        error: Problem,
        /// Whether another try may help.
        retryable: bool,
        /// When the next try should be, at the earliest.
        retry_after: Option<DurationMs>,
    },
    /// The lease of an attempt passed without a sign of life.
    ExpireLease {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
    },
    /// Nothing new may begin; what is under way may end.
    Pause(Control),
    /// Go on after a pause.
    Resume(Control),
    /// Nothing new may begin, and what is under way is cancelled.
    Stop(Control),
    /// Time has passed: whatever is due happens.
    FireTimers,
    /// Consequences that a bound left over are drawn.
    Advance,
}

/// Why an order was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such task was ever activated.
    #[error("the execution has no task {0}")]
    UnknownTask(TaskReference),
    /// The attempt is over and another result stands.
    #[error("attempt {attempt} of {task} has already ended with another result")]
    OtherResult {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
    },
    /// A later attempt has taken its place, or it was cancelled.
    #[error("attempt {attempt} of {task} is no longer wanted: {reason}")]
    Superseded {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
        /// What happened instead.
        reason: &'static str,
    },
    /// The task has not come to this attempt.
    #[error("attempt {attempt} of {task} was never handed out")]
    NotScheduled {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
    },
    /// It has ended, so it can't be paused, resumed or stopped.
    #[error("the execution is {} already", .0.as_str())]
    Ended(Status),
    /// It is being stopped.
    #[error("the execution is being stopped")]
    Stopping,
    /// It is paused: nothing new begins before it is resumed.
    #[error("attempt {attempt} of {task} waits: the execution is paused")]
    Paused {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
    },
    /// Somebody else holds it.
    #[error("attempt {attempt} of {task} is held by {agent}")]
    Held {
        /// Which task.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
        /// By whom.
        agent: AgentName,
    },
}
