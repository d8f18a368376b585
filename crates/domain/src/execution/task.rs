//! A task of an execution: one node activated, with all of its attempts.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Content, TaskStatus, Work};
use crate::{
    error::Problem,
    ids::{AgentName, Attempt, Digest, Sequence, TaskReference},
    time::{DurationMs, Timestamp},
    value::Value,
};

/// Of so many attempts before the current one a task remembers what they brought. A sender repeats because an answer
/// was lost, so the last few are enough; it must not grow with every round of a loop.
const EARLIER_RESULTS_MAX: usize = 16;

/// One node activated. When it is activated again, this is replaced, and only the attempts go on counting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The container it stands in; none for the outermost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<TaskReference>,
    /// Where it stands.
    pub status: TaskStatus,
    /// The current or last try.
    pub attempt: Attempt,
    /// The first try of this activation.
    pub first_attempt: Attempt,
    /// Its input after `input.from`.
    pub input: Value,
    /// What its attempts are to do, where somebody performs them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Who holds or held the current attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// When it was activated.
    pub scheduled_at: Timestamp,
    /// When the current attempt became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// When the first attempt was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The digest of what was brought, where `output` or `error` is something else made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Digest>,
    /// Of the last failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Which attempt `error` belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_attempt: Option<Attempt>,
    /// The case that a switch chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Arc<str>>,
    /// Where it holds tasks of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Of a branch: `$context` as it has exported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<Value>,
    /// The round of its container that it was activated in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) round: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<DurationMs>,
    /// Of a `try`: how long each attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt_timeout: Option<DurationMs>,
    pub(crate) start_within: DurationMs,
    /// The event that made the current attempt ready, while it is not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<Sequence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timestamp>,
    /// The one timer of the current attempt: to be picked up, to be retried, to have waited, or, of a `try`, to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt_deadline: Option<Timestamp>,
    /// What attempts before the current one brought: tells a late repeat from a contradiction.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) earlier: VecDeque<(Attempt, Digest)>,
}

/// Whether a counter need not be written.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A sequence, graph, fork or try that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The task of a sequence that was activated last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<TaskReference>,
    /// The raw input of a sequence's next task.
    pub flow: Content,
    /// Tasks of a graph that ended.
    pub ended: u32,
    /// Attempts that may be with somebody.
    pub running: u32,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// Tasks that are ready but above that.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub held: VecDeque<TaskReference>,
    /// Whether a task in it faulted or was cancelled: what is under way ends, nothing further begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
    /// How often it was entered before, and how often its tasks began again: tells its tasks of now from earlier ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) round: u32,
    /// What runs in it.
    #[serde(default, skip_serializing_if = "Flow::is_together")]
    pub(crate) kind: Flow,
    /// Of a race: the branch that completed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<TaskReference>,
}

/// How the tasks of a container belong together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flow {
    /// They share `$context`.
    #[default]
    Together,
    /// Branches of a fork, each with its own.
    Branches,
    /// The same, of which the first to complete wins.
    Race,
    /// The handler of a `try` that has caught an error.
    Handler,
}

impl Flow {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_together(&self) -> bool {
        *self == Self::Together
    }
}

impl Default for Container {
    fn default() -> Self {
        Self::holding(Content::WorkflowInput)
    }
}

impl Container {
    /// A container whose first task gets this.
    pub(crate) fn holding(flow: Content) -> Self {
        Self {
            position: None,
            flow,
            ended: 0,
            running: 0,
            max_parallel: None,
            held: VecDeque::new(),
            closing: false,
            round: 0,
            kind: Flow::Together,
            winner: None,
        }
    }

    /// The same container, its tasks to begin from the first.
    pub(crate) fn again(&self, flow: Content, kind: Flow) -> Self {
        Self {
            round: self.round + 1,
            kind,
            ..Self::holding(flow)
        }
    }

    /// Whether its tasks are branches of a fork.
    pub(crate) fn is_fork(&self) -> bool {
        matches!(self.kind, Flow::Branches | Flow::Race)
    }

    /// The value it holds itself, if any.
    pub(crate) fn value(&self) -> Option<&Value> {
        self.flow.value()
    }

    /// The value it holds itself, if any.
    pub(crate) fn value_mut(&mut self) -> Option<&mut Value> {
        match &mut self.flow {
            Content::Value(value) => Some(value),
            Content::OutputOf(_) | Content::InputOf(_) | Content::WorkflowInput => None,
        }
    }

    /// Whether one more task may be performed.
    pub(crate) fn has_room(&self) -> bool {
        !self.closing && self.max_parallel.is_none_or(|max| self.running < max)
    }
}

impl Task {
    pub(crate) fn activated(
        within: Option<TaskReference>,
        attempt: Attempt,
        input: Value,
        at: Timestamp,
    ) -> Self {
        Self {
            within,
            status: TaskStatus::Pending,
            attempt,
            first_attempt: attempt,
            input,
            work: None,
            agent: None,
            scheduled_at: at,
            ready_at: None,
            started_at: None,
            ended_at: None,
            output: None,
            result: None,
            error: None,
            failed_attempt: None,
            branch: None,
            container: None,
            context: None,
            round: 0,
            timeout: None,
            attempt_timeout: None,
            start_within: DurationMs(0),
            ready: None,
            deadline: None,
            attempt_deadline: None,
            earlier: VecDeque::new(),
        }
    }

    /// Notes how an attempt failed.
    pub(super) fn fail(&mut self, attempt: Attempt, error: &Problem) {
        self.error = Some(error.clone());
        self.failed_attempt = Some(attempt);
    }

    /// Whether the current attempt may be handed out or is with somebody.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// How many retries of this activation the next attempt would be.
    pub(crate) fn next_retry(&self) -> u32 {
        self.attempt.0.saturating_sub(self.first_attempt.0) + 1
    }

    /// Whether an agent has to do it, as opposed to the engine.
    pub fn is_for_agent(&self) -> bool {
        matches!(self.work, Some(Work::Agent { .. }))
    }

    /// What the current attempt brought, if it has: the digest of an output or of a failure.
    fn brought(&self) -> Option<Digest> {
        self.work.as_ref()?;
        let failure = || {
            let error = self.error.as_ref()?;
            (self.failed_attempt == Some(self.attempt)).then(|| digest_of_failure(error))
        };
        match self.status {
            TaskStatus::Completed => self
                .result
                .or_else(|| self.output.as_ref().map(digest_of_output)),
            TaskStatus::Faulted => self.result.or_else(failure),
            // Given up, perhaps while it waited for its retry.
            TaskStatus::Waiting | TaskStatus::Cancelled => failure(),
            TaskStatus::Pending
            | TaskStatus::Running
            | TaskStatus::Suspended
            | TaskStatus::Skipped => None,
        }
    }

    /// What the attempts up to the current one brought, for the one that takes its place.
    pub(crate) fn remembered(&self) -> VecDeque<(Attempt, Digest)> {
        let mut earlier = self.earlier.clone();
        earlier.extend(self.brought().map(|result| (self.attempt, result)));
        let surplus = earlier.len().saturating_sub(EARLIER_RESULTS_MAX);
        earlier.drain(..surplus);
        earlier
    }

    /// What its attempts work on.
    pub fn work_input(&self) -> &Value {
        match &self.work {
            Some(
                Work::Agent {
                    input: Some(input), ..
                }
                | Work::Http { call: input },
            ) => input,
            Some(Work::Agent { input: None, .. } | Work::ServiceCall {}) | None => &self.input,
        }
    }

    /// When the one timer of its current attempt is due: to be picked up, to be retried or to have waited.
    pub fn next_time(&self) -> Option<Timestamp> {
        self.attempt_deadline
    }

    /// Since when the current attempt stands as it does, as far as the state tells.
    pub fn since(&self) -> Timestamp {
        self.ready_at
            .or(self.started_at)
            .unwrap_or(self.scheduled_at)
    }

    /// When it times out, over all of its attempts.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        let flow = self.container.as_ref().and_then(Container::value);
        let work = self.work.as_ref().and_then(Work::value);
        std::iter::once(&self.input)
            .chain(&self.output)
            .chain(&self.context)
            .chain(work)
            .chain(flow)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let flow = self.container.as_mut().and_then(Container::value_mut);
        let work = self.work.as_mut().and_then(Work::value_mut);
        std::iter::once(&mut self.input)
            .chain(&mut self.output)
            .chain(&mut self.context)
            .chain(work)
            .chain(flow)
    }
}

/// The digest of an output's text.
pub(crate) fn digest_of_output(output: &Value) -> Digest {
    match output {
        Value::Inline(json) => Digest::of(json.as_str().as_bytes()),
        Value::Ref { digest, .. } => *digest,
    }
}

/// The digest of a failure.
pub(crate) fn digest_of_failure(error: &Problem) -> Digest {
    Digest::of(&serde_json::to_vec(error).expect("a problem serialises"))
}
