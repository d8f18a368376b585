//! Pause, resume and stop: somebody orders them (I10), and until their end nothing new begins (I5).

use eventflow_domain::{TaskReference, Timestamp, execution::Status};

use super::{Account, Faults, task::Stage};
use crate::{
    Invariant,
    fact::{Begun, Fact, Order},
};

impl Account {
    pub(super) fn order(&mut self, order: Order, at: Timestamp, faults: &mut Faults) {
        match (self.held_back, order) {
            (None, Order::Resume) => {
                faults.push((
                    Invariant::I10,
                    "it resumes without having been paused".into(),
                ));
            }
            (Some(Order::Stop), _) => {
                faults.push((
                    Invariant::I3,
                    format!("a {} after its stop", order.as_str()),
                ));
            }
            (_, Order::Resume) => {
                if !self.is_suspended && self.taken_by_somebody().is_none() {
                    let detail = "it resumes, and no event says that its pause had come to rest";
                    faults.push((Invariant::I5, detail.into()));
                }
                self.held_back = None;
                self.is_suspended = false;
                self.resumed_at = at;
            }
            (_, order) => {
                self.held_back = Some(order);
                self.is_suspended = false;
            }
        }
    }

    pub(super) fn suspend(&mut self, faults: &mut Faults) {
        if self.held_back != Some(Order::Pause) {
            faults.push((
                Invariant::I10,
                "it suspends, and nobody asked for it".into(),
            ));
        }
        if let Some(task) = self.taken_by_somebody() {
            faults.push((
                Invariant::I5,
                format!("it suspends while {task} is with somebody"),
            ));
        }
        self.is_suspended = true;
    }

    /// What may not happen before it is resumed, or in the midst of its being stopped.
    pub(super) fn held_back_from(&self, fact: &Fact<'_>) -> Option<(Invariant, String)> {
        let order = self.held_back?;
        let what = match *fact {
            Fact::Requested(_) | Fact::Ordered(_) | Fact::Suspended | Fact::Cancelled { .. } => {
                return None;
            }
            // A stop has an end of its own; in a pause the execution's own time-out goes on.
            Fact::Ended {
                status: Status::Cancelled,
                ..
            } if order == Order::Stop => return None,
            Fact::Ended {
                timed_out: true, ..
            } if order == Order::Pause => return None,
            Fact::Ended { status, .. } => format!("it ends {}", status.as_str()),
            Fact::Started { .. } => "it starts".into(),
            Fact::Entered { begun, .. }
            | Fact::WaitStarted { begun, .. }
            | Fact::Scheduled { begun, .. }
            | Fact::Chosen { begun, .. }
            | Fact::Skipped { begun } => format!("{} begins", begun.task),
            Fact::Taken { task, attempt } => format!("attempt {attempt} of {task} begins"),
            Fact::TimerFired { task, attempt } => {
                format!("attempt {attempt} of {task} becomes ready")
            }
            Fact::Caught { task, .. } => format!("the handler of {task} begins"),
            Fact::TimedOut { task, .. } => format!("{task} times out"),
            Fact::Completed {
                begun: Begun { task, .. },
                ..
            }
            | Fact::Faulted {
                begun: Begun { task, .. },
                ..
            }
            | Fact::RetryScheduled { task, .. } => match self.stage(task) {
                // Its result is kept; what follows from it waits.
                Some(Stage::Ready | Stage::Taken) if order == Order::Pause => return None,
                Some(stage) if stage.is_open() => format!("{task} ends or fails"),
                _ => format!("{task} begins"),
            },
        };
        Some((Invariant::I5, format!("{what} after a {}", order.as_str())))
    }

    /// A task whose attempt is with somebody.
    fn taken_by_somebody(&self) -> Option<&TaskReference> {
        let mut tasks = self.tasks.iter();
        tasks
            .find(|(_, task)| task.stage == Stage::Taken)
            .map(|(task, _)| task)
    }
}
