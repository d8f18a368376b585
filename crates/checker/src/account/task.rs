//! One task of an execution, as far as the invariants care.

use std::collections::VecDeque;

use eventflow_domain::{Attempt, DurationMs, TaskReference, Timestamp};

/// A task that was activated at least once.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) within: Option<TaskReference>,
    /// Counts on over all activations.
    pub(crate) attempt: Attempt,
    pub(crate) stage: Stage,
    /// Whether somebody performs its attempts.
    pub(crate) is_performed: bool,
    /// Retries of this activation.
    pub(crate) retries: u32,
    pub(crate) timeout: Option<DurationMs>,
    pub(crate) deadline: Option<Timestamp>,
    /// Of a `try`: how long each of its attempts may take.
    pub(crate) attempt_timeout: Option<DurationMs>,
    /// Of a `try`: when its attempt that is under way has taken too long.
    pub(crate) attempt_due: Option<Timestamp>,
    pub(crate) container: Option<Container>,
    /// The case that a switch chose.
    pub(crate) case: Option<String>,
    /// Whether it ended because a task in it ended the execution.
    pub(crate) ends_execution: bool,
    /// Whether it has ever had an input, and an output.
    pub(crate) had_output: bool,
}

impl Task {
    /// Its own tasks begin, from the first.
    pub(crate) fn try_tasks(&mut self, at: Timestamp) {
        self.attempt_due = self.attempt_timeout.map(|timeout| at.after(timeout));
    }

    /// The earliest time at which something of it is due by itself.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let own = match self.stage {
            Stage::Retrying { due } => Some(due),
            Stage::Waiting { until } => Some(until),
            _ => self.attempt_due,
        };
        let deadline = self.deadline.filter(|_| self.stage.is_open());
        own.into_iter().chain(deadline).min()
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To be performed, once there is room for it.
    Held,
    /// To be performed.
    Ready,
    /// With somebody.
    Taken,
    /// Between two attempts.
    Retrying { due: Timestamp },
    /// Its own tasks run.
    Inside,
    /// A switch that has chosen.
    Chosen,
    /// Lets time pass.
    Waiting { until: Timestamp },
    /// Over.
    Ended(Outcome),
    /// What it was before its container was entered again counts for nothing.
    Forgotten,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Skipped,
    Faulted,
    Cancelled,
}

impl Stage {
    pub(crate) const fn is_open(self) -> bool {
        !matches!(self, Self::Ended(_) | Self::Forgotten)
    }

    /// Whether something outside of the execution moves it: somebody, or time.
    pub(crate) const fn is_alive(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Taken | Self::Retrying { .. } | Self::Waiting { .. }
        )
    }
}

/// How the tasks of a container belong together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Flow {
    /// A failure of one is a failure of all.
    #[default]
    Together,
    /// One that fails has only lost.
    Race,
    /// They handle an error that was caught.
    Handler,
}

/// The tasks of a task, or of the execution.
#[derive(Debug, Default)]
pub(crate) struct Container {
    /// The one that was begun last.
    pub(crate) last: Option<TaskReference>,
    /// How many are under way.
    pub(crate) open: usize,
    /// Whether one failed or was given up: then nothing more begins.
    pub(crate) is_closing: bool,
    /// Whether one failed.
    pub(crate) has_failed: bool,
    /// Of a race: the one that completed first.
    pub(crate) winner: Option<TaskReference>,
    pub(crate) flow: Flow,
    pub(crate) max_parallel: Option<u32>,
    running: u32,
    held: VecDeque<TaskReference>,
}

impl Container {
    /// An empty one.
    pub(crate) fn of(flow: Flow) -> Self {
        Self {
            flow,
            ..Self::default()
        }
    }

    /// Whether one that fails has only lost.
    pub(crate) fn is_race(&self) -> bool {
        self.flow == Flow::Race
    }

    /// Whether an error was caught.
    pub(crate) fn is_handling(&self) -> bool {
        self.flow == Flow::Handler
    }

    /// Takes a place for a performed task; false where it has to wait for one.
    pub(crate) fn take_place(&mut self, task: &TaskReference) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.running += 1;
        } else {
            self.held.push_back(task.clone());
        }
        has_room
    }

    /// Gives a performed task's place away; to whom.
    pub(crate) fn give_place(&mut self, task: &TaskReference) -> Option<TaskReference> {
        if let Some(place) = self.held.iter().position(|held| held == task) {
            self.held.remove(place);
            return None;
        }
        self.running = self.running.saturating_sub(1);
        let next = self.has_room().then(|| self.held.pop_front()).flatten()?;
        self.running += 1;
        Some(next)
    }

    fn has_room(&self) -> bool {
        !self.is_closing && self.max_parallel.is_none_or(|max| self.running < max)
    }

    /// Empty again, for another round of its tasks.
    pub(crate) fn again(&mut self, flow: Flow) {
        *self = Self {
            flow,
            max_parallel: self.max_parallel,
            ..Self::default()
        };
    }
}
