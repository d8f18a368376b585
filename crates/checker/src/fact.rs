//! An event in the checker's own words: **the one place that knows the domain's events.**
//!
//! The domain has more ways to begin or to end something than the invariants tell apart; each is an arm here.

use eventflow_domain::{
    Attempt, Digest, DurationMs, TaskReference, Timestamp, Value,
    execution::{Content, Event, Requested, Status},
};
use serde::{Deserialize, Serialize};

/// What an event says, as far as the invariants care.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fact<'a> {
    /// A start was accepted.
    Requested(&'a Requested),
    /// Tasks may begin.
    Started {
        /// How many steps of the outermost graph may run at once.
        max_parallel: Option<u32>,
    },
    /// It is over.
    Ended {
        /// How.
        status: Status,
        /// Whether its own time-out ended it.
        timed_out: bool,
    },
    /// Somebody ordered something.
    Ordered(Order),
    /// A pause has come to rest.
    Suspended,
    /// A task that holds tasks was entered.
    Entered {
        /// The beginning.
        begun: Begun<'a>,
        /// How long it may take.
        timeout: Option<DurationMs>,
        /// How long each of its attempts may take, where its tasks are tried again.
        attempt_timeout: Option<DurationMs>,
        /// Whether its tasks race: one that fails has only lost.
        is_race: bool,
    },
    /// A task that holds tasks has caught an error: its handler's tasks come next.
    Caught {
        /// Which.
        task: &'a TaskReference,
        /// The try that failed.
        attempt: Attempt,
    },
    /// A task lets time pass.
    WaitStarted {
        /// The beginning.
        begun: Begun<'a>,
        /// How much.
        duration: DurationMs,
        /// How long it may take.
        timeout: Option<DurationMs>,
    },
    /// An attempt is to be performed by somebody.
    Scheduled {
        /// The beginning.
        begun: Begun<'a>,
        /// How long it may take over all of its attempts.
        timeout: DurationMs,
    },
    /// A switch chose.
    Chosen {
        /// The beginning.
        begun: Begun<'a>,
        /// The case, if any held.
        case: Option<&'a str>,
    },
    /// A task was not run.
    Skipped {
        /// Where it stands.
        begun: Begun<'a>,
    },
    /// Somebody took an attempt.
    Taken {
        /// Which task.
        task: &'a TaskReference,
        /// Which try.
        attempt: Attempt,
    },
    /// An attempt failed, and there will be another.
    RetryScheduled {
        /// Which task.
        task: &'a TaskReference,
        /// The try that failed.
        attempt: Attempt,
        /// When the next is due.
        due: Timestamp,
    },
    /// The next attempt is due.
    TimerFired {
        /// Which task.
        task: &'a TaskReference,
        /// The next try.
        attempt: Attempt,
    },
    /// A task ended well.
    Completed {
        /// Which; what needs nobody to perform it begins and ends in one.
        begun: Begun<'a>,
        /// Its output, where it is written here.
        output: Option<&'a Value>,
        /// Of what the attempt brought, where the output is something else made of it.
        result: Option<&'a Digest>,
    },
    /// An error ended a task, perhaps before it had begun.
    Faulted {
        /// Which.
        begun: Begun<'a>,
        /// Of what the attempt brought, where that was no failure.
        result: Option<&'a Digest>,
    },
    /// A task took too long.
    TimedOut {
        /// Which.
        task: &'a TaskReference,
        /// The last try.
        attempt: Attempt,
    },
    /// A task was given up because something else ended.
    Cancelled {
        /// Which.
        task: &'a TaskReference,
    },
}

/// A task that begins, or has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun<'a> {
    /// Which.
    pub(crate) task: &'a TaskReference,
    /// The container it stands in; none for the outermost.
    pub(crate) within: Option<&'a TaskReference>,
    /// Its try, where the event says it.
    pub(crate) attempt: Option<Attempt>,
    /// What it reads, where that is not written here.
    pub(crate) reads: Option<&'a Content>,
}

/// What somebody ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Begin nothing new.
    Pause,
    /// Go on.
    Resume,
    /// Give up.
    Stop,
}

impl Order {
    /// The word that people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
        }
    }
}

impl<'a> Fact<'a> {
    /// What this event says.
    #[expect(clippy::too_many_lines, reason = "one arm per event, each a few lines")]
    pub(crate) fn of(event: &'a Event) -> Self {
        match event {
            Event::ExecutionRequested(requested) => Self::Requested(requested),
            Event::ExecutionStarted { max_parallel, .. } => Self::Started {
                max_parallel: *max_parallel,
            },
            Event::ExecutionCompleted { .. } => Self::ended(Status::Completed),
            Event::ExecutionFaulted { .. } => Self::ended(Status::Faulted),
            Event::ExecutionTimedOut { .. } => Self::Ended {
                status: Status::Faulted,
                timed_out: true,
            },
            Event::ExecutionPauseRequested(_) => Self::Ordered(Order::Pause),
            Event::ExecutionResumed(_) => Self::Ordered(Order::Resume),
            Event::ExecutionStopRequested(_) => Self::Ordered(Order::Stop),
            Event::ExecutionSuspended {} => Self::Suspended,
            Event::ExecutionCancelled {} => Self::ended(Status::Cancelled),
            Event::ForkEntered {
                task,
                within,
                input,
                timeout,
                compete,
            } => Self::Entered {
                begun: Begun::new(task, within.as_ref()).reading(input),
                timeout: *timeout,
                attempt_timeout: None,
                is_race: *compete,
            },
            Event::ErrorCaught { task, attempt, .. } => Self::Caught {
                task,
                attempt: *attempt,
            },
            Event::WaitStarted {
                task,
                within,
                input,
                duration,
                timeout,
            } => Self::WaitStarted {
                begun: Begun::new(task, within.as_ref()).reading(input),
                duration: *duration,
                timeout: *timeout,
            },
            Event::SequenceEntered {
                task,
                within,
                input,
                timeout,
                attempt_timeout,
            } => Self::Entered {
                begun: Begun::new(task, within.as_ref()).reading(input),
                timeout: *timeout,
                attempt_timeout: *attempt_timeout,
                is_race: false,
            },
            Event::TaskScheduled {
                task,
                within,
                attempt,
                input,
                timeout,
                ..
            } => Self::Scheduled {
                begun: Begun::new(task, within.as_ref())
                    .reading(input)
                    .at(*attempt),
                timeout: *timeout,
            },
            Event::TaskStarted { task, attempt, .. } => Self::Taken {
                task,
                attempt: *attempt,
            },
            Event::RetryScheduled {
                task, attempt, at, ..
            } => Self::RetryScheduled {
                task,
                attempt: *attempt,
                due: *at,
            },
            Event::TimerFired { task, attempt } => Self::TimerFired {
                task,
                attempt: *attempt,
            },
            Event::BranchSelected { task, within, case } => Self::Chosen {
                begun: Begun::new(task, within.as_ref()),
                case: case.as_deref(),
            },
            Event::TaskCompleted {
                task,
                within,
                attempt,
                output,
                result,
                ..
            } => Self::Completed {
                begun: Begun::new(task, within.as_ref())
                    .reading(output)
                    .at(*attempt),
                output: output.value(),
                result: result.as_ref(),
            },
            Event::TaskFaulted {
                task,
                within,
                attempt,
                result,
                ..
            } => Self::Faulted {
                begun: Begun::new(task, within.as_ref()).at(*attempt),
                result: result.as_ref(),
            },
            Event::TaskTimedOut { task, attempt, .. } => Self::TimedOut {
                task,
                attempt: *attempt,
            },
            Event::TaskSkipped { task, within } => Self::Skipped {
                begun: Begun::new(task, within.as_ref()),
            },
            Event::TaskCancelled { task } => Self::Cancelled { task },
        }
    }

    const fn ended(status: Status) -> Self {
        Self::Ended {
            status,
            timed_out: false,
        }
    }
}

impl<'a> Begun<'a> {
    /// A task in its container.
    pub(crate) const fn new(task: &'a TaskReference, within: Option<&'a TaskReference>) -> Self {
        Self {
            task,
            within,
            attempt: None,
            reads: None,
        }
    }

    /// With the number of its try.
    #[must_use]
    pub(crate) const fn at(self, attempt: Attempt) -> Self {
        Self {
            attempt: Some(attempt),
            ..self
        }
    }

    /// With what it reads.
    #[must_use]
    pub(crate) const fn reading(self, content: &'a Content) -> Self {
        Self {
            reads: Some(content),
            ..self
        }
    }
}
