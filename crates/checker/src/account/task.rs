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
    pub(crate) container: Option<Container>,
    /// The case that a switch chose.
    pub(crate) case: Option<String>,
    /// Whether it ended because a task in it ended the execution.
    pub(crate) ends_execution: bool,
    /// Whether it has ever had an input, and an output.
    pub(crate) had_output: bool,
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

/// The tasks of a task, or of the execution.
#[derive(Debug, Default)]
pub(crate) struct Container {
    /// The one that was begun last.
    pub(crate) last: Option<TaskReference>,
    /// How many are under way.
    pub(crate) open: usize,
    /// Whether one failed or was given up: then nothing more begins.
    pub(crate) is_closing: bool,
    /// Whether an error was caught: its handler's tasks run.
    pub(crate) is_handling: bool,
    /// Whether its tasks race: one that fails has only lost.
    pub(crate) is_race: bool,
    pub(crate) max_parallel: Option<u32>,
    running: u32,
    held: VecDeque<TaskReference>,
}

impl Container {
    /// An empty one.
    pub(crate) fn of(is_race: bool) -> Self {
        Self {
            is_race,
            ..Self::default()
        }
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
    pub(crate) fn again(&mut self, is_handling: bool) {
        *self = Self {
            is_handling,
            is_race: self.is_race,
            max_parallel: self.max_parallel,
            ..Self::default()
        };
    }
}
