//! Attempts that are ready, held or retracted, and the timers that go with them: the part of folding that decides what is
//! owed.

use super::{Execution, TaskStatus, Timer};
use crate::{
    ids::{Sequence, TaskReference},
    time::Timestamp,
};

impl Execution {
    pub(super) fn hold_or_release(&mut self, reference: &TaskReference, at: Timestamp) {
        let within = self.within(reference);
        let Some(container) = self.container_mut(within.as_ref()) else {
            return;
        };
        if container.has_room() {
            self.release(reference, at);
        } else {
            container.held.push_back(reference.clone());
        }
    }

    /// Gives a task its place among those that run: its clocks start now.
    pub(super) fn release(&mut self, reference: &TaskReference, at: Timestamp) {
        let within = self.within(reference);
        if let Some(container) = self.container_mut(within.as_ref()) {
            container.running += 1;
        }
        if let Some(timeout) = self.tasks.get(reference).and_then(|task| task.timeout) {
            self.set_deadline(reference, at.after(timeout));
        }
        self.make_ready(reference, at);
    }

    /// Makes the current attempt ready: it is owed from this event on.
    pub(super) fn make_ready(&mut self, reference: &TaskReference, at: Timestamp) {
        let sequence = self.sequence;
        let Some(task) = self.tasks.get_mut(reference) else {
            return;
        };
        task.status = TaskStatus::Pending;
        task.ready = Some(sequence);
        task.ready_at = Some(at);
        let deadline = at.after(task.start_within);
        self.owed.insert((sequence, reference.clone()));
        self.set_attempt_deadline(reference, Some(deadline));
    }

    /// The current attempt is over: nobody need perform it any more.
    pub(super) fn retract(&mut self, reference: &TaskReference) {
        if let Some(sequence) = self
            .tasks
            .get_mut(reference)
            .and_then(|task| task.ready.take())
        {
            self.owed.remove(&(sequence, reference.clone()));
        }
    }

    /// Gives the place of a performed task to the next that is held.
    pub(super) fn leave(
        &mut self,
        reference: &TaskReference,
        within: Option<&TaskReference>,
        at: Timestamp,
    ) {
        let Some(container) = self.container_mut(within) else {
            return;
        };
        if let Some(place) = container.held.iter().position(|held| held == reference) {
            container.held.remove(place);
            return;
        }
        container.running = container.running.saturating_sub(1);
        if container.has_room()
            && let Some(next) = container.held.pop_front()
        {
            self.release(&next, at);
        }
    }

    pub(super) fn set_deadline(&mut self, reference: &TaskReference, at: Timestamp) {
        if let Some(task) = self.tasks.get_mut(reference) {
            task.deadline = Some(at);
            self.deadlines.insert((at, Timer::Task(reference.clone())));
        }
    }

    pub(super) fn set_attempt_deadline(
        &mut self,
        reference: &TaskReference,
        at: Option<Timestamp>,
    ) {
        let Some(task) = self.tasks.get_mut(reference) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut task.attempt_deadline, at) {
            self.deadlines
                .remove(&(old, Timer::Attempt(reference.clone())));
        }
        if let Some(at) = at {
            self.deadlines
                .insert((at, Timer::Attempt(reference.clone())));
        }
    }

    /// The sequence of the event that made the current attempt of a task ready.
    pub fn ready_since(&self, reference: &TaskReference) -> Option<Sequence> {
        self.tasks.get(reference)?.ready
    }
}
