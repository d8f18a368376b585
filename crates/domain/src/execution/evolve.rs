//! Folding events into state: total, never fails, never evaluates an expression, never asks the plan.

use super::{
    Container, Content, Event, Execution, Status, Task, TaskStatus, Timer, Unsettled, task::Flow,
};
use crate::{
    ids::{Attempt, Sequence, TaskReference, Tenant},
    time::{DurationMs, Timestamp},
    value::Value,
};

impl Execution {
    /// Folds a whole history; `None` where it does not begin with a request.
    pub fn fold<'a>(
        tenant: Tenant,
        id: crate::ids::ExecutionId,
        events: impl IntoIterator<Item = (&'a Event, Timestamp)>,
    ) -> Option<Self> {
        let mut events = events.into_iter();
        let (Event::ExecutionRequested(requested), at) = events.next()? else {
            return None;
        };
        let mut execution = Self::requested(tenant, id, requested.clone(), at);
        for (event, at) in events {
            execution.evolve(event, at);
        }
        Some(execution)
    }

    /// Folds the next event.
    #[expect(clippy::too_many_lines, reason = "one arm per event, each a few lines")]
    pub fn evolve(&mut self, event: &Event, at: Timestamp) {
        self.sequence = self.sequence.next();
        self.changed_at = at;
        match event {
            // The first event made this execution; there is no second one.
            Event::ExecutionRequested(_) => {}
            Event::ExecutionStarted {
                input,
                max_parallel,
            } => {
                self.status = Status::Running;
                self.started_at = Some(at);
                if let Some(input) = input {
                    self.input = input.clone();
                }
                self.root.max_parallel = *max_parallel;
                self.unsettled.insert(Unsettled::Entered(None));
            }
            Event::ExecutionCompleted { output } => {
                self.output = Some(self.resolve(output));
                self.end(Status::Completed, at);
            }
            Event::ExecutionFaulted { error } | Event::ExecutionTimedOut { error } => {
                self.error = Some(error.clone());
                self.end(Status::Faulted, at);
            }
            Event::ExecutionPauseRequested(_) => self.status = Status::Suspending,
            Event::ExecutionSuspended {} => self.status = Status::Suspended,
            Event::ExecutionResumed(_) => self.resume(at),
            Event::ExecutionStopRequested(_) => {
                self.is_stopping = true;
                self.status = self.unpaused();
                self.unsettled.clear();
                self.unsettled.insert(Unsettled::Stopping);
            }
            Event::ExecutionCancelled {} => self.end(Status::Cancelled, at),
            Event::SequenceEntered {
                task,
                within,
                input,
                timeout,
                attempt_timeout,
            } => {
                let state = self.enter(task, within.as_ref(), input, *timeout, at);
                state.attempt_timeout = *attempt_timeout;
                self.begin_try(task, at);
            }
            Event::ForkEntered {
                task,
                within,
                input,
                timeout,
                compete,
            } => {
                let state = self.enter(task, within.as_ref(), input, *timeout, at);
                if let Some(container) = &mut state.container {
                    container.kind = if *compete { Flow::Race } else { Flow::Branches };
                }
            }
            Event::ErrorCaught {
                task,
                attempt,
                error,
            } => {
                self.set_attempt_deadline(task, None);
                if let Some(state) = self.tasks.get_mut(task) {
                    state.fail(*attempt, error);
                }
                self.enter_again(task, Flow::Handler);
            }
            Event::WaitStarted {
                task,
                within,
                input,
                duration,
                timeout,
            } => {
                let value = self.resolve(input);
                let state = self.activate(task, within.as_ref(), None, value, at);
                state.status = TaskStatus::Waiting;
                state.started_at = Some(at);
                if let Some(timeout) = timeout {
                    self.set_deadline(task, at.after(*timeout));
                }
                self.set_attempt_deadline(task, Some(at.after(*duration)));
            }
            Event::TaskScheduled {
                task,
                within,
                attempt,
                input,
                work,
                timeout,
                start_within,
            } => {
                let value = self.resolve(input);
                let state = self.activate(task, within.as_ref(), Some(*attempt), value, at);
                state.work = Some(work.clone());
                state.timeout = Some(*timeout);
                state.start_within = *start_within;
                self.hold_or_release(task, at);
            }
            Event::TaskStarted {
                task,
                attempt: _,
                agent,
            } => {
                self.set_attempt_deadline(task, None);
                if let Some(state) = self.tasks.get_mut(task) {
                    state.status = TaskStatus::Running;
                    state.agent = Some(agent.clone());
                    state.started_at.get_or_insert(at);
                }
            }
            Event::RetryScheduled {
                task,
                attempt,
                error,
                at: due,
            } => {
                self.retract(task);
                self.set_attempt_deadline(task, Some(*due));
                if let Some(state) = self.tasks.get_mut(task) {
                    state.status = TaskStatus::Waiting;
                    state.fail(*attempt, error);
                    // Of a `try`: nothing further begins in the round that failed.
                    if let Some(container) = &mut state.container {
                        container.closing = true;
                    }
                }
            }
            Event::TimerFired { task, attempt } => {
                let Some(state) = self.tasks.get_mut(task) else {
                    return;
                };
                state.earlier = state.remembered();
                state.attempt = *attempt;
                state.agent = None;
                if state.container.is_some() {
                    state.status = TaskStatus::Running;
                    self.enter_again(task, Flow::Together);
                    self.begin_try(task, at);
                } else {
                    self.make_ready(task, at);
                }
            }
            Event::BranchSelected { task, within, case } => {
                let state = self.activate(task, within.as_ref(), None, Value::null(), at);
                state.status = TaskStatus::Running;
                state.branch.clone_from(case);
            }
            Event::TaskCompleted {
                task,
                within,
                attempt,
                output,
                result,
                context,
            } => {
                let value = self.resolve(output);
                let state = self.open(task, within.as_ref(), *attempt, at);
                state.output = Some(value);
                state.result = *result;
                if let Some(context) = context {
                    self.export(task, context);
                }
                self.end_task(task, TaskStatus::Completed, at);
            }
            Event::TaskFaulted {
                task,
                within,
                attempt,
                error,
                result,
            } => {
                let state = self.open(task, within.as_ref(), *attempt, at);
                state.fail(*attempt, error);
                state.result = *result;
                self.end_task(task, TaskStatus::Faulted, at);
            }
            Event::TaskTimedOut {
                task,
                attempt,
                error,
            } => {
                if let Some(state) = self.tasks.get_mut(task) {
                    // It may have been waiting for its retry: what its last attempt brought is known all the same.
                    state.earlier = state.remembered();
                    state.fail(*attempt, error);
                }
                self.end_task(task, TaskStatus::Faulted, at);
            }
            Event::TaskSkipped { task, within } => {
                self.activate(task, within.as_ref(), None, Value::null(), at);
                // A task that is not run does not count against the limit.
                self.activations -= 1;
                self.end_task(task, TaskStatus::Skipped, at);
            }
            Event::TaskCancelled { task } => self.end_task(task, TaskStatus::Cancelled, at),
        }
    }

    /// Where it stands but for a pause.
    fn unpaused(&self) -> Status {
        match self.started_at {
            Some(_) => Status::Running,
            None => Status::Pending,
        }
    }

    /// Goes on after a pause: what nobody has begun becomes ready once more, since nobody could take it meanwhile.
    fn resume(&mut self, at: Timestamp) {
        self.status = self.unpaused();
        let held: Vec<TaskReference> = self
            .dispatches(Sequence(0))
            .filter(|owed| owed.task.agent.is_none())
            .map(|owed| owed.reference.clone())
            .collect();
        for task in &held {
            self.retract(task);
            self.make_ready(task, at);
        }
    }

    /// Activates a container.
    fn enter(
        &mut self,
        reference: &TaskReference,
        within: Option<&TaskReference>,
        input: &Content,
        timeout: Option<DurationMs>,
        at: Timestamp,
    ) -> &mut Task {
        let value = self.resolve(input);
        let state = self.activate(reference, within, None, value, at);
        state.status = TaskStatus::Running;
        state.started_at = Some(at);
        state
            .container
            .get_or_insert_with(|| Container::holding(Content::InputOf(reference.clone())));
        if let Some(timeout) = timeout {
            self.set_deadline(reference, at.after(timeout));
        }
        self.unsettled
            .insert(Unsettled::Entered(Some(reference.clone())));
        self.tasks
            .get_mut(reference)
            .expect("it was activated above")
    }

    /// Begins the tasks of a `try` from the first, or those of its handler.
    fn enter_again(&mut self, reference: &TaskReference, kind: Flow) {
        let flow = Content::InputOf(reference.clone());
        if let Some(container) = self.container_mut(Some(reference)) {
            *container = container.again(flow, kind);
        }
        self.unsettled
            .insert(Unsettled::Entered(Some(reference.clone())));
    }

    /// Starts the clock of one attempt of a `try`, where it has one; that of its retry has run.
    fn begin_try(&mut self, reference: &TaskReference, at: Timestamp) {
        let task = self.tasks.get(reference);
        let timeout = task.and_then(|task| task.attempt_timeout);
        self.set_attempt_deadline(reference, timeout.map(|timeout| at.after(timeout)));
    }

    /// The new `$context` of the branch that a task stands in or is, of the whole execution where there is none.
    fn export(&mut self, reference: &TaskReference, context: &Value) {
        let is_branch = |task: &Task| {
            let container = self.container(task.within.as_ref());
            container.is_some_and(Container::is_fork)
        };
        let branch = self
            .around(Some(reference))
            .find(|(_, task)| is_branch(task))
            .map(|(branch, _)| branch.clone());
        match branch.and_then(|branch| self.tasks.get_mut(&branch)) {
            Some(branch) => branch.context = Some(context.clone()),
            None => self.context = context.clone(),
        }
    }

    fn end(&mut self, status: Status, at: Timestamp) {
        self.status = status;
        self.ended_at = Some(at);
        self.deadlines.clear();
        self.owed.clear();
        self.unsettled.clear();
    }

    /// Begins an activation. Without a number the attempt is the one after the last of an earlier activation.
    fn activate(
        &mut self,
        reference: &TaskReference,
        within: Option<&TaskReference>,
        attempt: Option<Attempt>,
        input: Value,
        at: Timestamp,
    ) -> &mut Task {
        self.activations += 1;
        self.keep_flow(reference, within);
        let mut round = 0;
        if let Some(container) = self.container_mut(within) {
            container.position = Some(reference.clone());
            round = container.round;
        }
        let attempt = attempt.unwrap_or_else(|| self.next_attempt(reference));
        let mut task = Task::activated(within.cloned(), attempt, input, at);
        if let Some(before) = self.tasks.get(reference) {
            task.earlier = before.remembered();
            // Also where it is only skipped this time: no two rounds of a container have the same number.
            let again = |container: &Container| {
                container.again(Content::InputOf(reference.clone()), Flow::Together)
            };
            task.container = before.container.as_ref().map(again);
        }
        task.round = round;
        self.tasks
            .entry(reference.clone())
            .insert_entry(task)
            .into_mut()
    }

    /// Where the output of an earlier activation of this task is what flows, it must outlive the new activation, which
    /// may be skipped.
    fn keep_flow(&mut self, reference: &TaskReference, within: Option<&TaskReference>) {
        let flows = |container: &Container| matches!(&container.flow, Content::OutputOf(task) if task == reference);
        let value = self
            .container(within)
            .filter(|container| flows(container))
            .map(|container| self.resolve(&container.flow));
        if let Some(value) = value
            && let Some(container) = self.container_mut(within)
        {
            container.flow = Content::Value(value);
        }
    }

    /// The activation that is under way, or a new one for a task that begins and ends in one event.
    fn open(
        &mut self,
        reference: &TaskReference,
        within: Option<&TaskReference>,
        attempt: Attempt,
        at: Timestamp,
    ) -> &mut Task {
        if self
            .tasks
            .get(reference)
            .is_none_or(|task| task.status.is_ended())
        {
            self.activate(reference, within, Some(attempt), Value::null(), at);
        }
        self.tasks
            .get_mut(reference)
            .expect("it was activated above if it was not there")
    }

    /// The number of the first attempt of the next activation.
    pub(crate) fn next_attempt(&self, reference: &TaskReference) -> Attempt {
        self.tasks
            .get(reference)
            .map_or(Attempt(0), |task| task.attempt)
            .next()
    }

    pub(super) fn container_mut(
        &mut self,
        within: Option<&TaskReference>,
    ) -> Option<&mut Container> {
        match within {
            None => Some(&mut self.root),
            Some(task) => self.tasks.get_mut(task)?.container.as_mut(),
        }
    }

    pub(super) fn within(&self, reference: &TaskReference) -> Option<TaskReference> {
        self.tasks.get(reference)?.within.clone()
    }

    fn end_task(&mut self, reference: &TaskReference, status: TaskStatus, at: Timestamp) {
        self.retract(reference);
        self.set_attempt_deadline(reference, None);
        let Some(task) = self.tasks.get_mut(reference) else {
            return;
        };
        if let Some(deadline) = task.deadline.take() {
            self.deadlines
                .remove(&(deadline, Timer::Task(reference.clone())));
        }
        task.status = status;
        task.ended_at = Some(at);
        let performed = task.work.is_some();
        let within = task.within.clone();
        self.unsettled.insert(Unsettled::Ended(reference.clone()));
        let Some(container) = self.container_mut(within.as_ref()) else {
            return;
        };
        container.ended += 1;
        match status {
            TaskStatus::Completed => {
                container.flow = Content::OutputOf(reference.clone());
                if container.kind == Flow::Race {
                    container.winner.get_or_insert_with(|| reference.clone());
                }
            }
            // A branch that fails has only lost the race.
            TaskStatus::Faulted if container.kind == Flow::Race => {}
            TaskStatus::Faulted | TaskStatus::Cancelled => container.closing = true,
            TaskStatus::Pending
            | TaskStatus::Running
            | TaskStatus::Waiting
            | TaskStatus::Suspended
            | TaskStatus::Skipped => {}
        }
        if performed {
            self.leave(reference, within.as_ref(), at);
        }
    }
}
