//! What the outside owes an execution: attempts to hand out, and the time to come back.

use serde::{Deserialize, Serialize};

use super::{Execution, Task};
use crate::{
    ids::{Sequence, TaskReference},
    time::Timestamp,
};

/// Something that happens when its time has come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// An attempt has waited for its retry, or long enough for somebody to pick it up.
    Attempt(TaskReference),
    /// A task has taken too long.
    Task(TaskReference),
    /// The execution has taken too long.
    Execution,
}

/// An attempt that waits for somebody or is with somebody.
#[derive(Debug, Clone, Copy)]
pub struct Dispatch<'a> {
    /// The event that made it ready.
    pub sequence: Sequence,
    /// Which task.
    pub reference: &'a TaskReference,
    /// The task, whose `work` is to be done; `agent` is set where somebody has begun.
    pub task: &'a Task,
}

impl Execution {
    /// Attempts made ready after `after`, that have not ended: running passes the last sequence it performed, recovery
    /// passes 0. While the execution is paused or being stopped, only what somebody has begun; the rest becomes ready
    /// once more when it is resumed.
    pub fn owed(&self, after: Sequence) -> impl Iterator<Item = Dispatch<'_>> {
        let is_held = self.is_paused() || self.is_stopping;
        self.dispatches(after)
            .filter(move |owed| !is_held || owed.task.agent.is_some())
    }

    /// The same, held or not.
    pub(crate) fn dispatches(&self, after: Sequence) -> impl Iterator<Item = Dispatch<'_>> {
        let first = TaskReference {
            pointer: std::sync::Arc::default(),
            iteration: Vec::new(),
        };
        self.owed
            .range((after.next(), first)..)
            .filter_map(|(sequence, reference)| {
                Some(Dispatch {
                    sequence: *sequence,
                    reference,
                    task: self.tasks.get(reference)?,
                })
            })
    }

    /// When to come back with [`super::Command::FireTimers`].
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.first_deadline().map(|(at, _)| *at)
    }

    /// The first timer that is due.
    pub(crate) fn due(&self, now: Timestamp) -> Option<&Timer> {
        self.first_deadline()
            .filter(|(at, _)| *at <= now)
            .map(|(_, timer)| timer)
    }

    /// The timers of a paused execution keep their times and act when it is resumed, except its own; those of one that
    /// is being stopped never act.
    fn first_deadline(&self) -> Option<&(Timestamp, Timer)> {
        if self.is_stopping {
            return None;
        }
        if self.is_paused() {
            let own = self.created_at.after(self.requested.timeout);
            return self.deadlines.get(&(own, Timer::Execution));
        }
        self.deadlines.first()
    }
}
