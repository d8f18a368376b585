//! The books on one execution: what its events say so far, and what is wrong with the next one.
//!
//! Its own small state machine over [`Fact`]s. It knows no value and evaluates nothing; where the flow depends on an
//! expression it takes the event's word for the choice and checks that the choice was there to be made.

mod held;
mod moves;
mod order;
mod task;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use eventflow_domain::{
    Attempt, DurationMs, Sequence, TaskReference, Timestamp,
    execution::{Content, Requested, Status},
    limits::TASKS_PER_EXECUTION_MAX,
    plan::Plan,
};

use self::task::{Container, Flow, Outcome, Stage, Task};
use crate::{
    Invariant,
    fact::{Begun, Fact, Order},
};

/// What is wrong with an event.
pub(crate) type Faults = Vec<(Invariant, String)>;

/// When an event happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Timestamp,
    /// Since when somebody reigned who could have acted.
    pub(crate) reign_since: Timestamp,
}

/// One open execution.
#[derive(Debug)]
pub(crate) struct Account {
    plan: Option<Arc<Plan>>,
    /// Of its last event.
    pub(crate) sequence: Sequence,
    /// Of its last event.
    pub(crate) changed_at: Timestamp,
    requested_at: Timestamp,
    timeout: DurationMs,
    is_started: bool,
    held_back: Option<Order>,
    is_suspended: bool,
    resumed_at: Timestamp,
    tasks: BTreeMap<TaskReference, Task>,
    root: Container,
    activations: u32,
    /// How late the latest timer of its last event was.
    pub(crate) late: Option<(DurationMs, String)>,
    /// An event was missing: what follows cannot be judged.
    pub(crate) is_blurred: bool,
}

impl Account {
    /// An execution as its start leaves it. Without its plan, the order of its tasks is not judged.
    pub(crate) fn requested(requested: &Requested, plan: Option<Arc<Plan>>, at: Timestamp) -> Self {
        Self {
            plan,
            sequence: Sequence(1),
            changed_at: at,
            requested_at: at,
            timeout: requested.timeout,
            is_started: false,
            held_back: None,
            is_suspended: false,
            resumed_at: at,
            tasks: BTreeMap::new(),
            root: Container::default(),
            activations: 0,
            late: None,
            is_blurred: false,
        }
    }

    /// An execution whose beginning is missing, from this event on.
    pub(crate) fn blurred(sequence: Sequence, at: Timestamp) -> Self {
        Self {
            plan: None,
            sequence,
            changed_at: at,
            requested_at: at,
            timeout: DurationMs(0),
            is_started: true,
            held_back: None,
            is_suspended: false,
            resumed_at: at,
            tasks: BTreeMap::new(),
            root: Container::default(),
            activations: 0,
            late: None,
            is_blurred: true,
        }
    }

    /// Where it stands.
    pub(crate) fn status(&self) -> Status {
        match (self.is_started, self.is_suspended, self.held_back) {
            (_, true, _) => Status::Suspended,
            (_, false, Some(Order::Pause)) => Status::Suspending,
            (true, ..) => Status::Running,
            (false, ..) => Status::Pending,
        }
    }

    /// Whether somebody or time will move it on; its own time-out is no life. A pause may last; until it has come to rest,
    /// somebody must be at it.
    pub(crate) fn is_alive(&self) -> bool {
        let mut stages = self.tasks.values().map(|task| task.stage);
        match self.held_back {
            Some(Order::Stop) => false,
            Some(_) => self.is_suspended || stages.any(|stage| stage == Stage::Taken),
            None => stages.any(Stage::is_alive),
        }
    }

    /// Attempts that are with somebody, or that somebody may take.
    pub(crate) fn owed(&self) -> impl Iterator<Item = (&TaskReference, Attempt)> {
        let is_owed = |stage| match stage {
            Stage::Ready => self.held_back.is_none(),
            stage => stage == Stage::Taken,
        };
        self.tasks
            .iter()
            .filter(move |(_, task)| is_owed(task.stage))
            .map(|(reference, task)| (reference, task.attempt))
    }

    /// For how long the earliest timer is overdue that could have acted, and whose it is.
    pub(crate) fn overdue(&self, now: Moment) -> Option<(DurationMs, &TaskReference)> {
        if self.held_back.is_some() {
            return None;
        }
        let due = |(reference, task): (_, &Task)| Some((task.due()?, reference));
        let (due, task) = self.tasks.iter().filter_map(due).min()?;
        Some((now.at.since(self.could_act(due, now)), task))
    }

    /// The first moment at which a timer could act: somebody reigned, and it was not paused.
    fn could_act(&self, due: Timestamp, now: Moment) -> Timestamp {
        due.max(now.reign_since).max(self.resumed_at)
    }

    /// Takes the next event in and says what is wrong with it.
    pub(crate) fn take(&mut self, fact: &Fact<'_>, when: Moment) -> Faults {
        self.sequence = self.sequence.next();
        self.changed_at = when.at;
        self.late = None;
        let mut faults = Faults::new();
        if self.is_blurred {
            return faults;
        }
        faults.extend(self.held_back_from(fact));
        match *fact {
            // A second one is I8, which the checker sees before this.
            Fact::Requested(_) => {}
            Fact::Started { max_parallel } => self.start(max_parallel, &mut faults),
            Fact::Ended { status, timed_out } => self.end(status, timed_out, when, &mut faults),
            Fact::Ordered(order) => self.order(order, when.at, &mut faults),
            Fact::Suspended => self.suspend(&mut faults),
            Fact::Entered {
                begun,
                timeout,
                attempt_timeout,
                is_race,
            } => {
                let flow = if is_race { Flow::Race } else { Flow::Together };
                let container = Container::of(flow);
                let timeouts = (timeout, attempt_timeout);
                self.enter(begun, container, timeouts, when.at, &mut faults);
            }
            Fact::Caught { task, attempt } => self.catch(task, attempt, when, &mut faults),
            Fact::WaitStarted {
                begun,
                duration,
                timeout,
            } => {
                let until = when.at.after(duration);
                let task = self.begin(begun, Stage::Waiting { until }, &mut faults);
                task.deadline = timeout.map(|timeout| when.at.after(timeout));
            }
            Fact::Scheduled { begun, timeout } => {
                self.schedule(begun, timeout, when.at, &mut faults);
            }
            Fact::Chosen { begun, case } => {
                let task = self.begin(begun, Stage::Chosen, &mut faults);
                task.case = case.map(str::to_owned);
            }
            Fact::Skipped { begun } => self.skip(begun, &mut faults),
            Fact::Taken { task, attempt } => self.taken(task, attempt, &mut faults),
            Fact::RetryScheduled { task, attempt, due } => {
                self.retry(task, attempt, due, when, &mut faults);
            }
            Fact::TimerFired { task, attempt } => self.fire(task, attempt, when, &mut faults),
            Fact::Completed { begun, .. } => self.complete(begun, when, &mut faults),
            Fact::Faulted { begun, result } => {
                self.fault(begun, result.is_some(), when, &mut faults);
            }
            Fact::TimedOut { task, attempt } => self.time_out(task, attempt, when, &mut faults),
            Fact::Cancelled { task } => self.cancel(task, when.at, &mut faults),
        }
        faults
    }

    /// Begins an activation; its events may say its attempt, which goes on counting.
    fn begin(&mut self, begun: Begun<'_>, stage: Stage, faults: &mut Faults) -> &mut Task {
        let reference = begun.task;
        let is_skipped = stage == Stage::Ended(Outcome::Skipped);
        if !self.is_started {
            faults.push((
                Invariant::I2,
                format!("{reference} begins before its execution"),
            ));
        }
        self.check_reads(begun, faults);
        let wrong = self
            .plan
            .as_ref()
            .and_then(|plan| self.out_of_order(plan, reference, begun.within, is_skipped));
        faults.extend(wrong.map(|detail| (Invariant::I2, detail)));
        self.activations += 1;
        if self.activations > TASKS_PER_EXECUTION_MAX && !is_skipped {
            let detail = format!("{reference} is more than {TASKS_PER_EXECUTION_MAX} tasks");
            faults.push((Invariant::I6, detail));
        }
        let earlier = self.tasks.get(reference);
        let expected = earlier.map_or(Attempt(0), |task| task.attempt).next();
        let had_output = earlier.is_some_and(|task| task.had_output);
        let was_open = earlier.is_some_and(|task| task.stage.is_open());
        if was_open {
            faults.push((
                Invariant::I2,
                format!("{reference} begins while it is under way"),
            ));
        }
        let attempt = begun.attempt.unwrap_or(expected);
        if attempt != expected {
            faults.push((
                Invariant::I4,
                format!("{reference} begins with attempt {attempt}, where {expected} was to come"),
            ));
        }
        let is_open = stage.is_open();
        if let Some(container) = self.container_mut(begun.within) {
            container.last = Some(reference.clone());
            container.open += usize::from(is_open && !was_open);
        }
        let task = Task {
            within: begun.within.cloned(),
            attempt,
            stage,
            is_performed: false,
            retries: 0,
            timeout: None,
            deadline: None,
            attempt_timeout: None,
            attempt_due: None,
            container: None,
            case: None,
            ends_execution: false,
            had_output,
        };
        self.tasks
            .entry(reference.clone())
            .insert_entry(task)
            .into_mut()
    }

    /// Ends an activation.
    fn close(
        &mut self,
        reference: &TaskReference,
        outcome: Outcome,
        at: Timestamp,
        faults: &mut Faults,
    ) {
        if self.stage(reference).is_none_or(|stage| !stage.is_open()) {
            return;
        }
        if outcome != Outcome::Cancelled && self.is_busy_inside(reference) {
            faults.push((
                Invariant::I2,
                format!("{reference} ends while tasks in it are under way"),
            ));
        }
        let Some(task) = self.tasks.get_mut(reference) else {
            return;
        };
        task.stage = Stage::Ended(outcome);
        task.deadline = None;
        task.attempt_due = None;
        let (is_performed, within) = (task.is_performed, task.within.clone());
        let Some(container) = self.container_mut(within.as_ref()) else {
            return;
        };
        container.open = container.open.saturating_sub(1);
        match outcome {
            Outcome::Completed if container.is_race() => {
                container.winner.get_or_insert_with(|| reference.clone());
            }
            Outcome::Completed | Outcome::Skipped => {}
            Outcome::Faulted => {
                container.has_failed = true;
                container.is_closing |= !container.is_race();
            }
            Outcome::Cancelled => container.is_closing = true,
        }
        let next = is_performed
            .then(|| container.give_place(reference))
            .flatten();
        if let Some(next) = next {
            self.release(&next, at);
        }
    }

    /// Only what needs nobody to perform it may end without having begun.
    fn check_instant(&self, reference: &TaskReference, faults: &mut Faults) {
        let Some(plan) = &self.plan else { return };
        let kind = plan.find(&reference.pointer).map(|id| &plan.node(id).kind);
        if kind.is_none_or(order::is_instant) {
            return;
        }
        let has_ended = matches!(self.stage(reference), Some(Stage::Ended(_)));
        faults.push(if has_ended {
            (Invariant::I4, format!("{reference} gets a second result"))
        } else {
            let detail = format!("{reference} gets a result without having been scheduled");
            (Invariant::I2, detail)
        });
    }

    /// What it reads must have been there.
    fn check_reads(&self, begun: Begun<'_>, faults: &mut Faults) {
        let missing = match begun.reads {
            Some(Content::OutputOf(source)) => {
                let has_output = self.tasks.get(source).is_some_and(|task| task.had_output);
                (!has_output).then(|| {
                    format!(
                        "{} reads the output of {source}, which has none",
                        begun.task
                    )
                })
            }
            Some(Content::InputOf(source)) => (!self.tasks.contains_key(source)
                && source != begun.task)
                .then(|| format!("{} reads the input of {source}, which has none", begun.task)),
            Some(Content::Value(_) | Content::WorkflowInput) | None => None,
        };
        faults.extend(missing.map(|detail| (Invariant::I2, detail)));
    }

    /// Something happens because its time has come: not before, and how long after.
    fn due(&mut self, what: &str, due: Timestamp, when: Moment, faults: &mut Faults) {
        if when.at < due {
            let early = due.since(when.at).0;
            faults.push((Invariant::I7, format!("{what} comes {early} ms early")));
        }
        let could = self.could_act(due, when);
        self.late = Some((when.at.since(could), what.to_owned()));
    }

    /// What happened below a container counts for nothing once it is entered again.
    fn forget_below(&mut self, container: &TaskReference) {
        let mut above = vec![container.clone()];
        while let Some(parent) = above.pop() {
            for (reference, task) in &mut self.tasks {
                if task.within.as_ref() == Some(&parent) && task.stage != Stage::Forgotten {
                    if !task.stage.is_open() {
                        task.stage = Stage::Forgotten;
                    }
                    above.push(reference.clone());
                }
            }
        }
    }

    /// The containers that a task stands in, from the innermost.
    fn around<'a>(
        &'a self,
        reference: &'a TaskReference,
    ) -> impl Iterator<Item = &'a TaskReference> {
        let within = |task| self.tasks.get(task).and_then(|task| task.within.as_ref());
        std::iter::successors(within(reference), move |task| within(*task))
    }

    /// Whether a task in it is under way, at any depth.
    fn is_busy_inside(&self, container: &TaskReference) -> bool {
        let holds = self.stage(container) == Some(Stage::Inside);
        let mut open = self.tasks.iter().filter(|(_, task)| task.stage.is_open());
        holds && open.any(|(task, _)| self.around(task).any(|around| around == container))
    }

    fn stage(&self, reference: &TaskReference) -> Option<Stage> {
        self.tasks.get(reference).map(|task| task.stage)
    }

    fn container(&self, within: Option<&TaskReference>) -> Option<&Container> {
        match within {
            None => Some(&self.root),
            Some(task) => self.tasks.get(task)?.container.as_ref(),
        }
    }

    fn container_mut(&mut self, within: Option<&TaskReference>) -> Option<&mut Container> {
        match within {
            None => Some(&mut self.root),
            Some(task) => self.tasks.get_mut(task)?.container.as_mut(),
        }
    }

    fn open_container(&self, within: Option<&TaskReference>) -> Option<&Container> {
        let is_open = within.is_none_or(|task| self.stage(task) == Some(Stage::Inside));
        is_open.then(|| self.container(within)).flatten()
    }
}

impl Task {
    /// An event of a task names its current attempt.
    fn is_at(&self, reference: &TaskReference, attempt: Attempt) -> Option<(Invariant, String)> {
        (attempt != self.attempt).then(|| {
            let detail = format!(
                "an event of attempt {attempt} of {reference}, whose current one is {}",
                self.attempt
            );
            (Invariant::I4, detail)
        })
    }

    /// An event that ends a task names the container that it began in.
    fn stands_in(&self, begun: Begun<'_>) -> Option<(Invariant, String)> {
        (self.within.as_ref() != begun.within).then(|| {
            let detail = format!("{} ends in another container than it began in", begun.task);
            (Invariant::I2, detail)
        })
    }

    /// An attempt has one outcome, and only once it may be performed.
    fn has_outcome(&self, reference: &TaskReference) -> Option<(Invariant, String)> {
        match self.stage {
            Stage::Held => Some((
                Invariant::I6,
                format!("{reference} has an outcome although as many run as may run at once"),
            )),
            Stage::Retrying { .. } => Some((
                Invariant::I4,
                format!(
                    "attempt {} of {reference} has a second outcome",
                    self.attempt
                ),
            )),
            Stage::Ended(_) | Stage::Forgotten => Some((
                Invariant::I4,
                format!("{reference} has an outcome after its end"),
            )),
            Stage::Ready | Stage::Taken | Stage::Inside | Stage::Chosen | Stage::Waiting { .. } => {
                None
            }
        }
    }
}
