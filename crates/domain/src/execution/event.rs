//! Events: what happened to an execution, in the past tense, never refused.
//!
//! They are the stored format, so they only ever grow: a field is added with a default, a meaning is never changed.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    error::Problem,
    ids::{AgentName, Attempt, Capability, Digest, TaskReference, WorkflowId},
    time::{DurationMs, Timestamp},
    value::Value,
};

/// One fact about one execution. Its sequence is its place, its time that of its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A start was accepted.
    ExecutionRequested(Requested),
    /// The first task is about to be activated.
    ExecutionStarted {
        /// The workflow's input after `input.from`, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
        /// How many steps of the outermost graph may run at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_parallel: Option<u32>,
    },
    /// It ended well.
    ExecutionCompleted {
        /// Its output.
        output: Content,
    },
    /// An error that nobody caught ended it.
    ExecutionFaulted {
        /// Whose `instance` is the task that raised it.
        error: Problem,
    },
    /// It took longer than it may.
    ExecutionTimedOut {
        /// Of the standard's type `timeout`.
        error: Problem,
    },
    /// Somebody asked to pause: from here on nothing new begins.
    ExecutionPauseRequested(Control),
    /// What was under way when the pause was asked for has run out.
    ExecutionSuspended {},
    /// Somebody asked to go on.
    ExecutionResumed(Control),
    /// Somebody asked to stop: from here on nothing new begins, and what is under way is cancelled.
    ExecutionStopRequested(Control),
    /// Stopped: everything that was under way is cancelled.
    ExecutionCancelled {},
    /// A sequence of tasks was entered.
    SequenceEntered {
        /// The task that it is.
        task: TaskReference,
        /// The container it stands in; none for the outermost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<TaskReference>,
        /// Its input after `input.from`.
        input: Content,
        /// How long it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<DurationMs>,
        /// Of a `try`: how long each of its attempts may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt_timeout: Option<DurationMs>,
    },
    /// Branches were entered, to run side by side.
    ForkEntered {
        /// The task that they are.
        task: TaskReference,
        /// The container it stands in; none for the outermost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<TaskReference>,
        /// Its input after `input.from`.
        input: Content,
        /// How long it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<DurationMs>,
        /// Whether the first to complete wins.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        compete: bool,
    },
    /// A `try` caught an error; its handler's turn begins.
    ErrorCaught {
        /// The `try`.
        task: TaskReference,
        /// The try of its tasks that failed.
        attempt: Attempt,
        /// The error.
        error: Problem,
    },
    /// A task began to let time pass.
    WaitStarted {
        /// Which.
        task: TaskReference,
        /// The container it stands in; none for the outermost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<TaskReference>,
        /// Its input after `input.from`.
        input: Content,
        /// How long.
        duration: DurationMs,
        /// How long it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<DurationMs>,
    },
    /// A task became ready to be performed.
    TaskScheduled {
        /// Which.
        task: TaskReference,
        /// The container it stands in; none for the outermost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<TaskReference>,
        /// Its first try.
        attempt: Attempt,
        /// Its input after `input.from`.
        input: Content,
        /// What is to be done.
        work: Work,
        /// How long it may take over all attempts.
        timeout: DurationMs,
        /// How long each attempt may wait for somebody to pick it up.
        start_within: DurationMs,
    },
    /// Somebody began an attempt.
    TaskStarted {
        /// Which.
        task: TaskReference,
        /// Which try.
        attempt: Attempt,
        /// Who.
        agent: AgentName,
    },
    /// An attempt failed, and there will be another.
    RetryScheduled {
        /// Which.
        task: TaskReference,
        /// The try that failed; the next has the next number.
        attempt: Attempt,
        /// How it failed.
        error: Problem,
        /// When the next one is due.
        at: Timestamp,
    },
    /// A retry became due: its attempt is ready to be performed; of a `try`, its tasks begin again.
    TimerFired {
        /// Which.
        task: TaskReference,
        /// The try that is ready now.
        attempt: Attempt,
    },
    /// A switch chose.
    BranchSelected {
        /// The switch.
        task: TaskReference,
        /// The container it stands in; none for the outermost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<TaskReference>,
        /// The case that held; none where no case did.
        case: Option<Arc<str>>,
    },
    /// A task ended well.
    TaskCompleted {
        /// Which.
        task: TaskReference,
        /// The container it stands in; none for the outermost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<TaskReference>,
        /// The try that brought it.
        attempt: Attempt,
        /// Its output after `output.as`.
        output: Content,
        /// The digest of what was brought, where `output.as` made something else of it: tells a repeat from a
        /// contradiction.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<Digest>,
        /// The new `$context`, where the task exports one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<Value>,
    },
    /// An error ended a task; there will be no further attempt.
    TaskFaulted {
        /// Which.
        task: TaskReference,
        /// The container it stands in; none for the outermost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<TaskReference>,
        /// The last try.
        attempt: Attempt,
        /// What went wrong.
        error: Problem,
        /// The digest of what was brought, where the attempt succeeded and `output.as` or `export.as` failed: tells a
        /// repeat from a contradiction.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<Digest>,
    },
    /// A task took longer than it may over all of its attempts.
    TaskTimedOut {
        /// Which.
        task: TaskReference,
        /// The last try.
        attempt: Attempt,
        /// Of the standard's type `timeout`.
        error: Problem,
    },
    /// A task was not run: its condition was false, or what it needs was skipped.
    TaskSkipped {
        /// Which.
        task: TaskReference,
        /// The container it stands in; none for the outermost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<TaskReference>,
    },
    /// A task was given up because something else ended.
    TaskCancelled {
        /// Which.
        task: TaskReference,
    },
}

/// What somebody says when they pause, resume or stop an execution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Why, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// What a start asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    /// The workflow by name.
    pub workflow: WorkflowId,
    /// The definition it is pinned to.
    pub digest: Digest,
    /// How its decisions are made: [`crate::plan::SEMANTICS_VERSION`] of that day.
    pub semantics: u32,
    /// The raw input.
    pub input: Value,
    /// How long it may take.
    pub timeout: DurationMs,
    /// Of what the caller sent: tells a repeat from a contradiction.
    pub fingerprint: Digest,
    /// Forwarded through every event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Arc<str>>,
    /// For people and filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// W3C trace context of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Arc<str>>,
    /// The id of the message that asked for the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<Arc<str>>,
}

/// A value, or where the same value is already written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A value of its own.
    Value(Value),
    /// The output of a task, whole.
    OutputOf(TaskReference),
    /// The input of a task, whole.
    InputOf(TaskReference),
    /// The workflow's input, whole.
    WorkflowInput,
}

/// What an attempt is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// For an agent.
    Agent {
        /// The queue.
        capability: Capability,
        /// What the agent gets; none for the task's input.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
        /// The longest silence between heartbeats.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heartbeat: Option<DurationMs>,
    },
    /// For the HTTP performer.
    Http {
        /// A [`crate::plan::HttpCall`].
        call: Value,
    },
    /// For the HTTP performer, at most once: whoever finds it begun neither knows nor tries again. The task's input is
    /// the [`crate::plan::HttpCall`].
    ServiceCall {},
}

impl Event {
    /// The type that histories show.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ExecutionRequested(_) => "execution_requested",
            Self::ExecutionStarted { .. } => "execution_started",
            Self::ExecutionCompleted { .. } => "execution_completed",
            Self::ExecutionFaulted { .. } => "execution_faulted",
            Self::ExecutionTimedOut { .. } => "execution_timed_out",
            Self::ExecutionPauseRequested(_) => "execution_pause_requested",
            Self::ExecutionSuspended {} => "execution_suspended",
            Self::ExecutionResumed(_) => "execution_resumed",
            Self::ExecutionStopRequested(_) => "execution_stop_requested",
            Self::ExecutionCancelled {} => "execution_cancelled",
            Self::SequenceEntered { .. } => "sequence_entered",
            Self::ForkEntered { .. } => "fork_entered",
            Self::ErrorCaught { .. } => "error_caught",
            Self::WaitStarted { .. } => "wait_started",
            Self::TaskScheduled { .. } => "task_scheduled",
            Self::TaskStarted { .. } => "task_started",
            Self::RetryScheduled { .. } => "retry_scheduled",
            Self::TimerFired { .. } => "timer_fired",
            Self::BranchSelected { .. } => "branch_selected",
            Self::TaskCompleted { .. } => "task_completed",
            Self::TaskFaulted { .. } => "task_faulted",
            Self::TaskTimedOut { .. } => "task_timed_out",
            Self::TaskSkipped { .. } => "task_skipped",
            Self::TaskCancelled { .. } => "task_cancelled",
        }
    }

    /// What went wrong, where it tells of an error.
    pub const fn error(&self) -> Option<&Problem> {
        match self {
            Self::ExecutionFaulted { error }
            | Self::ExecutionTimedOut { error }
            | Self::RetryScheduled { error, .. }
            | Self::ErrorCaught { error, .. }
            | Self::TaskFaulted { error, .. }
            | Self::TaskTimedOut { error, .. } => Some(error),
            Self::ExecutionRequested(_)
            | Self::ExecutionStarted { .. }
            | Self::ExecutionCompleted { .. }
            | Self::ExecutionPauseRequested(_)
            | Self::ExecutionSuspended {}
            | Self::ExecutionResumed(_)
            | Self::ExecutionStopRequested(_)
            | Self::ExecutionCancelled {}
            | Self::SequenceEntered { .. }
            | Self::ForkEntered { .. }
            | Self::WaitStarted { .. }
            | Self::TaskScheduled { .. }
            | Self::TaskStarted { .. }
            | Self::TimerFired { .. }
            | Self::BranchSelected { .. }
            | Self::TaskCompleted { .. }
            | Self::TaskSkipped { .. }
            | Self::TaskCancelled { .. } => None,
        }
    }

    /// Large values that must be stored before this event is.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        let (first, second) = match self {
            Self::ExecutionRequested(requested) => (Some(&requested.input), None),
            Self::ExecutionStarted { input, .. } => (input.as_ref(), None),
            Self::ExecutionCompleted { output } => (output.value(), None),
            Self::SequenceEntered { input, .. }
            | Self::ForkEntered { input, .. }
            | Self::WaitStarted { input, .. } => (input.value(), None),
            Self::TaskScheduled { input, work, .. } => (input.value(), work.value()),
            Self::TaskCompleted {
                output, context, ..
            } => (output.value(), context.as_ref()),
            Self::ExecutionFaulted { .. }
            | Self::ExecutionTimedOut { .. }
            | Self::ExecutionPauseRequested(_)
            | Self::ExecutionSuspended {}
            | Self::ExecutionResumed(_)
            | Self::ExecutionStopRequested(_)
            | Self::ExecutionCancelled {}
            | Self::ErrorCaught { .. }
            | Self::TaskStarted { .. }
            | Self::RetryScheduled { .. }
            | Self::TimerFired { .. }
            | Self::BranchSelected { .. }
            | Self::TaskFaulted { .. }
            | Self::TaskTimedOut { .. }
            | Self::TaskSkipped { .. }
            | Self::TaskCancelled { .. } => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl Content {
    /// The value, where it is one of its own.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Value(value) => Some(value),
            Self::OutputOf(_) | Self::InputOf(_) | Self::WorkflowInput => None,
        }
    }
}

impl Work {
    /// The value it holds, if any.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Agent { input, .. } => input.as_ref(),
            Self::Http { call } => Some(call),
            Self::ServiceCall {} => None,
        }
    }

    /// The value it holds, if any.
    pub(crate) fn value_mut(&mut self) -> Option<&mut Value> {
        match self {
            Self::Agent { input, .. } => input.as_mut(),
            Self::Http { call } => Some(call),
            Self::ServiceCall {} => None,
        }
    }
}
