//! What each fact does to the books, and what is wrong with it.

use eventflow_domain::{
    Attempt, DurationMs, TaskReference, Timestamp, execution::Status,
    limits::TASKS_PER_EXECUTION_MAX,
};

use super::{
    Account, Faults, Moment, order,
    task::{Container, Outcome, Stage},
};
use crate::{
    Invariant,
    fact::{Begun, Order},
};

impl Account {
    pub(super) fn start(&mut self, max_parallel: Option<u32>, faults: &mut Faults) {
        if self.is_started {
            faults.push((Invariant::I2, "it starts a second time".into()));
        }
        self.is_started = true;
        self.root.max_parallel = max_parallel;
    }

    pub(super) fn end(
        &mut self,
        status: Status,
        timed_out: bool,
        when: Moment,
        faults: &mut Faults,
    ) {
        if let Some((task, _)) = self.tasks.iter().find(|(_, task)| task.stage.is_open()) {
            faults.push((Invariant::I3, format!("it ends while {task} is under way")));
        }
        if timed_out {
            let due = self.requested_at.after(self.timeout);
            self.due("the execution's time-out", due, when, faults);
        }
        if status == Status::Completed {
            if !self.is_started {
                faults.push((Invariant::I2, "it completes without having started".into()));
            }
            if let Some(plan) = self.plan.clone() {
                faults.extend(
                    self.unfinished(&plan, None)
                        .map(|detail| (Invariant::I2, detail)),
                );
            }
        }
        if status == Status::Faulted && !timed_out && self.is_started {
            faults.extend(self.blameless(None));
        }
        if status == Status::Cancelled && self.held_back != Some(Order::Stop) {
            faults.push((
                Invariant::I10,
                "it was stopped, and no event says by whom".into(),
            ));
        }
    }

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
        if let Some((task, _)) = self
            .tasks
            .iter()
            .find(|(_, task)| task.stage == Stage::Taken)
        {
            faults.push((
                Invariant::I5,
                format!("it suspends while {task} is with somebody"),
            ));
        }
        self.is_suspended = true;
    }

    pub(super) fn enter(
        &mut self,
        begun: Begun<'_>,
        container: Container,
        timeout: Option<DurationMs>,
        at: Timestamp,
        faults: &mut Faults,
    ) {
        let task = self.begin(begun, Stage::Inside, faults);
        task.container = Some(container);
        task.deadline = timeout.map(|timeout| at.after(timeout));
        self.forget_below(begun.task);
    }

    pub(super) fn schedule(
        &mut self,
        begun: Begun<'_>,
        timeout: DurationMs,
        at: Timestamp,
        faults: &mut Faults,
    ) {
        let task = self.begin(begun, Stage::Held, faults);
        task.is_performed = true;
        task.timeout = Some(timeout);
        let has_place = self
            .container_mut(begun.within)
            .is_none_or(|container| container.take_place(begun.task));
        if has_place {
            self.release(begun.task, at);
        }
    }

    /// It has a place among those that run at once: its clock starts.
    pub(super) fn release(&mut self, reference: &TaskReference, at: Timestamp) {
        if let Some(task) = self.tasks.get_mut(reference) {
            task.stage = Stage::Ready;
            task.deadline = task.timeout.map(|timeout| at.after(timeout));
        }
    }

    pub(super) fn skip(&mut self, begun: Begun<'_>, faults: &mut Faults) {
        self.begin(begun, Stage::Ended(Outcome::Skipped), faults);
        // What is not run does not count against the limit.
        self.activations -= 1;
    }

    pub(super) fn taken(
        &mut self,
        reference: &TaskReference,
        attempt: Attempt,
        faults: &mut Faults,
    ) {
        if let Some(order) = self.held_back {
            let detail = format!(
                "attempt {attempt} of {reference} begins after a {}",
                order.as_str()
            );
            faults.push((Invariant::I5, detail));
        }
        let Some(task) = self.tasks.get_mut(reference) else {
            faults.push((
                Invariant::I2,
                format!("{reference} begins without having been scheduled"),
            ));
            return;
        };
        faults.extend(task.is_at(reference, attempt));
        match task.stage {
            Stage::Ready => task.stage = Stage::Taken,
            Stage::Held => faults.push((
                Invariant::I6,
                format!("{reference} begins although as many run as may run at once"),
            )),
            Stage::Taken => faults.push((
                Invariant::I4,
                format!("attempt {attempt} of {reference} begins a second time"),
            )),
            _ => faults.push((
                Invariant::I2,
                format!("attempt {attempt} of {reference} begins, but is not to be performed"),
            )),
        }
    }

    pub(super) fn retry(
        &mut self,
        reference: &TaskReference,
        attempt: Attempt,
        due: Timestamp,
        faults: &mut Faults,
    ) {
        let Some(task) = self.tasks.get_mut(reference) else {
            faults.push((
                Invariant::I2,
                format!("{reference} fails without having been scheduled"),
            ));
            return;
        };
        faults.extend(task.is_at(reference, attempt));
        faults.extend(task.has_outcome(reference));
        if task
            .container
            .as_ref()
            .is_some_and(|container| container.open > 0)
        {
            let detail =
                format!("{reference} is to be tried again while tasks in it are under way");
            faults.push((Invariant::I2, detail));
        }
        task.retries += 1;
        task.stage = Stage::Retrying { due };
        let retries = task.retries;
        let node = self.plan.as_ref().and_then(|plan| {
            let id = plan.find(&reference.pointer)?;
            Some(order::retries_max(&plan.node(id).kind))
        });
        if node.is_some_and(|max| retries > max) {
            let detail = format!("{reference} is tried again more often than its policy says");
            faults.push((Invariant::I6, detail));
        }
    }

    pub(super) fn fire(
        &mut self,
        reference: &TaskReference,
        attempt: Attempt,
        when: Moment,
        faults: &mut Faults,
    ) {
        let stage = self.stage(reference);
        let Some(Stage::Retrying { due }) = stage else {
            let detail = format!("a retry of {reference} is due, but none was scheduled");
            faults.push((Invariant::I2, detail));
            return;
        };
        self.due(&format!("the retry of {reference}"), due, when, faults);
        let Some(task) = self.tasks.get_mut(reference) else {
            return;
        };
        if attempt != task.attempt.next() {
            faults.push((
                Invariant::I4,
                format!(
                    "attempt {attempt} of {reference} follows attempt {}",
                    task.attempt
                ),
            ));
        }
        task.attempt = attempt;
        if let Some(container) = &mut task.container {
            container.again(false);
            task.stage = Stage::Inside;
            self.forget_below(reference);
        } else {
            task.stage = Stage::Ready;
        }
    }

    pub(super) fn catch(
        &mut self,
        reference: &TaskReference,
        attempt: Attempt,
        faults: &mut Faults,
    ) {
        let task = self.tasks.get_mut(reference);
        let Some((task, container)) = task.and_then(|task| {
            let container = task.container.take()?;
            Some((task, container))
        }) else {
            faults.push((
                Invariant::I2,
                format!("{reference} catches, but holds no tasks"),
            ));
            return;
        };
        faults.extend(task.is_at(reference, attempt));
        let mut container = container;
        if !container.is_closing || container.is_handling {
            faults.push((
                Invariant::I2,
                format!("{reference} catches, but nothing in it failed"),
            ));
        }
        if container.open > 0 {
            let detail = format!("{reference} catches while tasks in it are under way");
            faults.push((Invariant::I2, detail));
        }
        container.again(true);
        task.container = Some(container);
        task.stage = Stage::Inside;
        self.forget_below(reference);
    }

    pub(super) fn complete(&mut self, begun: Begun<'_>, when: Moment, faults: &mut Faults) {
        let reference = begun.task;
        self.check_reads(begun, faults);
        match self.stage(reference).filter(|stage| stage.is_open()) {
            None => {
                self.check_instant(reference, faults);
                self.begin(
                    Begun {
                        reads: None,
                        ..begun
                    },
                    Stage::Chosen,
                    faults,
                );
            }
            Some(Stage::Waiting { until }) => {
                self.due(&format!("the wait of {reference}"), until, when, faults);
            }
            Some(Stage::Inside) => {
                if let Some(plan) = self.plan.clone() {
                    let unfinished = self.unfinished(&plan, Some(reference));
                    faults.extend(unfinished.map(|detail| (Invariant::I2, detail)));
                    let passes_on = self.passes_the_end_on(&plan, reference);
                    if let Some(task) = self.tasks.get_mut(reference) {
                        task.ends_execution = passes_on;
                    }
                }
            }
            Some(_) => {}
        }
        if let Some(task) = self.tasks.get_mut(reference) {
            faults.extend(
                begun
                    .attempt
                    .and_then(|attempt| task.is_at(reference, attempt)),
            );
            faults.extend(task.has_outcome(reference));
            faults.extend(task.stands_in(begun));
            task.had_output = true;
        }
        self.close(reference, Outcome::Completed, when.at, faults);
    }

    pub(super) fn fault(
        &mut self,
        begun: Begun<'_>,
        has_result: bool,
        at: Timestamp,
        faults: &mut Faults,
    ) {
        let reference = begun.task;
        if self.stage(reference).is_none_or(|stage| !stage.is_open()) {
            if has_result {
                self.check_instant(reference, faults);
            }
            let before = self.activations;
            self.begin(begun, Stage::Chosen, faults);
            // The one above the limit is the fault that names it.
            if before >= TASKS_PER_EXECUTION_MAX {
                faults.retain(|(invariant, _)| *invariant != Invariant::I6);
                self.activations = before;
            }
        }
        if self.stage(reference) == Some(Stage::Inside) {
            faults.extend(self.blameless(Some(reference)));
        }
        if let Some(task) = self.tasks.get_mut(reference) {
            faults.extend(
                begun
                    .attempt
                    .and_then(|attempt| task.is_at(reference, attempt)),
            );
            faults.extend(task.has_outcome(reference));
            faults.extend(task.stands_in(begun));
        }
        self.close(reference, Outcome::Faulted, at, faults);
    }

    /// A container fails because a task in it failed, or at its end, where its output could not be made.
    fn blameless(&self, task: Option<&TaskReference>) -> Option<(Invariant, String)> {
        let container = self.container(task)?;
        let is_early = self.unfinished(self.plan.as_ref()?, task).is_some();
        (!container.is_closing && is_early).then(|| {
            let name = task.map_or_else(|| "the execution".to_owned(), ToString::to_string);
            (
                Invariant::I2,
                format!("{name} fails, but nothing in it failed"),
            )
        })
    }

    pub(super) fn time_out(
        &mut self,
        reference: &TaskReference,
        attempt: Attempt,
        when: Moment,
        faults: &mut Faults,
    ) {
        let task = self.tasks.get_mut(reference);
        let Some(task) = task.filter(|task| task.stage.is_open()) else {
            faults.push((
                Invariant::I2,
                format!("{reference} times out, but is not under way"),
            ));
            return;
        };
        faults.extend(task.is_at(reference, attempt));
        match task.deadline {
            Some(due) => self.due(&format!("the time-out of {reference}"), due, when, faults),
            None => faults.push((
                Invariant::I7,
                format!("{reference} times out, but has no time-out"),
            )),
        }
        self.close(reference, Outcome::Faulted, when.at, faults);
    }

    pub(super) fn cancel(&mut self, reference: &TaskReference, at: Timestamp, faults: &mut Faults) {
        if self.stage(reference).is_none_or(|stage| !stage.is_open()) {
            faults.push((
                Invariant::I2,
                format!("{reference} is given up, but is not under way"),
            ));
            return;
        }
        self.close(reference, Outcome::Cancelled, at, faults);
    }
}
