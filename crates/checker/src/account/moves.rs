//! What each fact does to the books, and what is wrong with it.

use eventflow_domain::{
    Attempt, DurationMs, TaskReference, Timestamp, execution::Status,
    limits::TASKS_PER_EXECUTION_MAX,
};

use super::{
    Account, Faults, Moment, order,
    task::{Container, Flow, Outcome, Stage},
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
            self.check_blame(None, when, faults);
        }
        if status == Status::Cancelled && self.held_back != Some(Order::Stop) {
            faults.push((
                Invariant::I10,
                "it was stopped, and no event says by whom".into(),
            ));
        }
    }

    pub(super) fn enter(
        &mut self,
        begun: Begun<'_>,
        container: Container,
        (timeout, attempt_timeout): (Option<DurationMs>, Option<DurationMs>),
        at: Timestamp,
        faults: &mut Faults,
    ) {
        let task = self.begin(begun, Stage::Inside, faults);
        task.container = Some(container);
        task.deadline = timeout.map(|timeout| at.after(timeout));
        task.attempt_timeout = attempt_timeout;
        task.try_tasks(at);
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
        when: Moment,
        faults: &mut Faults,
    ) {
        self.check_failed(reference, "is to be tried again", when, faults);
        let Some(task) = self.tasks.get_mut(reference) else {
            faults.push((
                Invariant::I2,
                format!("{reference} fails without having been scheduled"),
            ));
            return;
        };
        faults.extend(task.is_at(reference, attempt));
        faults.extend(task.has_outcome(reference));
        task.retries += 1;
        task.stage = Stage::Retrying { due };
        task.attempt_due = None;
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
            container.again(Flow::Together);
            task.stage = Stage::Inside;
            task.try_tasks(when.at);
            self.forget_below(reference);
        } else {
            task.stage = Stage::Ready;
        }
    }

    pub(super) fn catch(
        &mut self,
        reference: &TaskReference,
        attempt: Attempt,
        when: Moment,
        faults: &mut Faults,
    ) {
        self.check_failed(reference, "catches", when, faults);
        let task = self.tasks.get_mut(reference);
        let Some((task, mut container)) = task.and_then(|task| {
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
        container.again(Flow::Handler);
        task.container = Some(container);
        task.stage = Stage::Inside;
        task.attempt_due = None;
        self.forget_below(reference);
    }

    /// A `try` acts because a task in it failed, or because one of its attempts has taken too long.
    fn check_failed(
        &mut self,
        reference: &TaskReference,
        does: &str,
        when: Moment,
        faults: &mut Faults,
    ) {
        let task = self.tasks.get(reference);
        let Some((task, container)) = task.and_then(|task| Some((task, task.container.as_ref()?)))
        else {
            return;
        };
        if self.is_busy_inside(reference) {
            let detail = format!("{reference} {does} while tasks in it are under way");
            faults.push((Invariant::I2, detail));
        }
        if container.has_failed && !container.is_handling() {
            return;
        }
        match task.attempt_due {
            Some(due) => {
                let what = format!("the time-out of an attempt of {reference}");
                self.due(&what, due, when, faults);
            }
            None => faults.push((
                Invariant::I2,
                format!("{reference} {does}, but nothing in it failed"),
            )),
        }
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
                    let unwon = self.outrun(begun);
                    let wrong = unfinished.into_iter().chain(unwon);
                    faults.extend(wrong.map(|detail| (Invariant::I2, detail)));
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
        when: Moment,
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
            self.check_blame(Some(reference), when, faults);
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
        self.close(reference, Outcome::Faulted, when.at, faults);
    }

    /// A container fails because a task in it failed (of a race, all that could have won), because its attempt has taken
    /// too long, or at its end, where its output could not be made.
    fn check_blame(&mut self, task: Option<&TaskReference>, when: Moment, faults: &mut Faults) {
        let (Some(plan), Some(container)) = (self.plan.clone(), self.container(task)) else {
            return;
        };
        let has_failed = container.has_failed
            && (!container.is_race() || self.open_branch(&plan, task).is_none());
        if has_failed || self.unfinished(&plan, task).is_none() {
            return;
        }
        let attempt = task.and_then(|task| Some((task, self.tasks.get(task)?.attempt_due?)));
        if let Some((task, due)) = attempt {
            let what = format!("the time-out of an attempt of {task}");
            return self.due(&what, due, when, faults);
        }
        let name = task.map_or_else(|| "the execution".to_owned(), ToString::to_string);
        faults.push((
            Invariant::I2,
            format!("{name} fails, but nothing in it failed"),
        ));
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
        if !self.has_no_use(reference, at) {
            let detail = format!("{reference} is given up, but nothing else has ended");
            faults.push((Invariant::I2, detail));
        }
        self.close(reference, Outcome::Cancelled, at, faults);
    }

    /// Whether a task is no longer wanted: it is stopped, or something that it stands in is over.
    fn has_no_use(&self, reference: &TaskReference, at: Timestamp) -> bool {
        self.held_back == Some(Order::Stop)
            || at >= self.requested_at.after(self.timeout)
            || self.root.has_failed
            || self
                .around(reference)
                .any(|around| self.is_over(around, at))
    }

    /// Whether what is under way in a container counts for nothing any more.
    fn is_over(&self, reference: &TaskReference, at: Timestamp) -> bool {
        let Some(task) = self.tasks.get(reference) else {
            return false;
        };
        let is_decided = |container: &Container| {
            container.winner.is_some() || container.has_failed && !container.is_race()
        };
        task.stage == Stage::Ended(Outcome::Cancelled)
            || task.container.as_ref().is_some_and(is_decided)
            || task.due().is_some_and(|due| due <= at)
            || self
                .plan
                .as_ref()
                .is_none_or(|plan| self.passes_the_end_on(plan, reference))
    }
}
