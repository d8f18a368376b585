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

/// One node activated. When it is activated again, this is replaced, and only the attempts go on counting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The container it stands in; none for the outermost.
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
    pub work: Option<Work>,
    /// Who holds or held the current attempt.
    pub agent: Option<AgentName>,
    /// When it was activated.
    pub scheduled_at: Timestamp,
    /// When the current attempt became ready.
    pub ready_at: Option<Timestamp>,
    /// When the first attempt was begun.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Once completed.
    pub output: Option<Value>,
    /// The digest of what was brought, where `output` is something else made of it.
    pub result: Option<Digest>,
    /// Of the last failed attempt.
    pub error: Option<Problem>,
    /// Which attempt `error` belongs to.
    pub failed_attempt: Option<Attempt>,
    /// The case that a switch chose.
    pub branch: Option<Arc<str>>,
    /// Where it holds tasks of its own.
    pub container: Option<Container>,
    pub(crate) timeout: Option<DurationMs>,
    pub(crate) start_within: DurationMs,
    /// The event that made the current attempt ready, while it is not ended.
    pub(crate) ready: Option<Sequence>,
    pub(crate) deadline: Option<Timestamp>,
    /// The one timer of the current attempt: to be picked up, or to be retried.
    pub(crate) attempt_deadline: Option<Timestamp>,
}

/// A sequence or graph that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The task of a sequence that was activated last.
    pub position: Option<TaskReference>,
    /// The raw input of a sequence's next task.
    pub flow: Content,
    /// Tasks of a graph that ended.
    pub ended: u32,
    /// Attempts that may be with somebody.
    pub running: u32,
    /// At most so many.
    pub max_parallel: Option<u32>,
    /// Tasks that are ready but above that.
    pub held: VecDeque<TaskReference>,
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
        }
    }

    /// Whether one more task may be performed.
    pub(crate) fn has_room(&self) -> bool {
        self.max_parallel.is_none_or(|max| self.running < max)
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
            timeout: None,
            start_within: DurationMs(0),
            ready: None,
            deadline: None,
            attempt_deadline: None,
        }
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
            Some(Work::Agent { input: None, .. }) | None => &self.input,
        }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        let flow = self
            .container
            .as_ref()
            .and_then(|container| container.flow.value());
        let work = self.work.as_ref().and_then(Work::value);
        std::iter::once(&self.input)
            .chain(&self.output)
            .chain(work)
            .chain(flow)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let flow = self
            .container
            .as_mut()
            .and_then(|container| match &mut container.flow {
                Content::Value(value) => Some(value),
                Content::OutputOf(_) | Content::InputOf(_) | Content::WorkflowInput => None,
            });
        let work = self.work.as_mut().and_then(Work::value_mut);
        std::iter::once(&mut self.input)
            .chain(&mut self.output)
            .chain(work)
            .chain(flow)
    }
}
