//! A driver: carries an execution from its start to its end, as the engine does, and records its history.

use std::collections::{BTreeMap, BTreeSet};

use eventflow_domain::{
    AgentName, Attempt, Digest, DurationMs, ExecutionId, Json, Problem, Sequence, TaskReference,
    Tenant, Timestamp, Value,
    execution::{Command, Dispatch, Event, Execution, Rejection, Requested, Stepped, Task, step},
    plan::{Plan, SEMANTICS_VERSION},
};

use super::{Order, name_of, problem, reference};

/// When executions of these tests begin.
pub(crate) const START: Timestamp = Timestamp(1_700_000_000_000);
/// A run of these tests takes fewer rounds; more is one that never ends.
const ROUNDS_MAX: usize = 20_000;

/// What comes of an attempt.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It brings this.
    Done(Value),
    /// It fails, and another try may help.
    Failed(Problem),
    /// It fails, and no other try will help.
    FailedForGood(Problem),
    /// Somebody begins it and is not heard of again.
    Silence,
    /// Nobody picks it up.
    Nobody,
}

impl Outcome {
    pub(crate) fn done(output: &serde_json::Value) -> Self {
        Self::Done(Value::new(Json::of(output)))
    }

    pub(crate) fn failed(title: &str) -> Self {
        Self::Failed(problem(title))
    }
}

/// An attempt to be performed.
pub(crate) struct Job {
    pub(crate) task: String,
    pub(crate) attempt: Attempt,
    /// Which try it is of its activation, and the tries of those around it that it stands in, from the innermost.
    pub(crate) round: Vec<u32>,
}

/// One run of a plan.
#[derive(Clone)]
pub(crate) struct Run<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) execution: Execution,
    pub(crate) now: Timestamp,
    /// Every event with its time, from the first on.
    pub(crate) history: Vec<(Event, Timestamp)>,
    /// How long the history was after each step: where a crash may fall, since a step is appended as one.
    pub(crate) steps: Vec<usize>,
    /// The last sequence whose effects were performed, and those of its tasks that were: after a pause, many become
    /// ready at once.
    performed: (Sequence, BTreeSet<TaskReference>),
}

impl<'p> Run<'p> {
    /// An execution that was asked for and accepted, no more.
    pub(crate) fn requested(plan: &'p Plan, input: Json) -> Self {
        let (tenant, id) = identity();
        let requested = Requested {
            workflow: plan.workflow.clone(),
            digest: plan.digest,
            semantics: SEMANTICS_VERSION,
            input: Value::new(input),
            timeout: plan.timeout,
            fingerprint: Digest::of(b"a start"),
            correlation: None,
            labels: BTreeMap::new(),
            traceparent: None,
            causation: None,
        };
        let execution = Execution::requested(tenant, id, requested.clone(), START);
        Self {
            plan,
            execution,
            now: START,
            history: vec![(Event::ExecutionRequested(requested), START)],
            steps: vec![1],
            performed: (Sequence(0), BTreeSet::new()),
        }
    }

    /// What is left of a run after a crash: so much of its history, folded again.
    pub(crate) fn recovered(plan: &'p Plan, history: &[(Event, Timestamp)]) -> Self {
        let mut execution = fold(history);
        execution.unsettle();
        Self {
            plan,
            now: execution.changed_at,
            history: history.to_vec(),
            steps: vec![history.len()],
            execution,
            performed: (Sequence(0), BTreeSet::new()),
        }
    }

    /// Carries out one command now.
    pub(crate) fn command(&mut self, command: &Command) -> Result<Vec<Event>, Rejection> {
        let Stepped { events, .. } = self.step(command)?;
        Ok(events)
    }

    /// The same, with the size of what came.
    pub(crate) fn step(&mut self, command: &Command) -> Result<Stepped, Rejection> {
        let stepped = step(&mut self.execution, self.plan, command, self.now)?;
        self.history
            .extend(stepped.events.iter().map(|event| (event.clone(), self.now)));
        self.steps.push(self.history.len());
        Ok(stepped)
    }

    pub(crate) fn order(&mut self, order: &Order) -> Result<Vec<Event>, Rejection> {
        self.command(&order.command(self.plan))
    }

    /// Draws all consequences that are left.
    pub(crate) fn advance(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.execution.owes_advance() {
                return;
            }
            self.command(&Command::Advance)
                .expect("an advance is never refused");
        }
        panic!("consequences never end: {:?}", self.history.last());
    }

    /// Moves on to the next deadline and fires what is due; `false` where there is none.
    pub(crate) fn next_deadline(&mut self) -> bool {
        let Some(deadline) = self.execution.next_deadline() else {
            return false;
        };
        self.now = self.now.max(deadline);
        self.fire();
        true
    }

    /// Lets this much time pass, firing every timer at its time.
    pub(crate) fn wait(&mut self, span: DurationMs) {
        let until = self.now.after(span);
        while self
            .execution
            .next_deadline()
            .is_some_and(|deadline| deadline <= until)
        {
            self.next_deadline();
        }
        self.now = until;
    }

    fn fire(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.command(&Command::FireTimers)
                .expect("timers are never refused");
            self.advance();
            if self
                .execution
                .next_deadline()
                .is_none_or(|deadline| deadline > self.now)
            {
                return;
            }
        }
        panic!("timers never end: {:?}", self.history.last());
    }

    /// Performs what became owed since the last time, in order; `false` where there was nothing.
    pub(crate) fn perform(&mut self, worker: &mut impl FnMut(&Job) -> Outcome) -> bool {
        let (last, done) = &self.performed;
        let before = Sequence(last.0.saturating_sub(1));
        let is_done = |owed: &Dispatch<'_>| owed.sequence == *last && done.contains(owed.reference);
        let next = self.execution.owed(before).find(|owed| !is_done(owed));
        let Some(owed) = next else {
            return false;
        };
        let (sequence, task, attempt) = (owed.sequence, owed.reference.clone(), owed.task.attempt);
        if sequence != self.performed.0 {
            self.performed = (sequence, BTreeSet::new());
        }
        self.performed.1.insert(task.clone());
        self.perform_this((task, attempt), worker);
        true
    }

    fn perform_this(
        &mut self,
        (task, attempt): (TaskReference, Attempt),
        worker: &mut impl FnMut(&Job) -> Outcome,
    ) {
        let outcome = worker(&Job {
            task: name_of(self.plan, &task),
            attempt,
            round: self.round_of(&task),
        });
        if !matches!(outcome, Outcome::Nobody) {
            let agent = AgentName::parse("worker-1").expect("a name");
            self.accepted(&Command::BeginAttempt {
                task: task.clone(),
                attempt,
                agent,
            });
        }
        match outcome {
            Outcome::Done(output) => self.accepted(&Command::CompleteAttempt {
                task,
                attempt,
                output,
            }),
            Outcome::Failed(error) => self.accepted(&failure(task, attempt, error, true)),
            Outcome::FailedForGood(error) => self.accepted(&failure(task, attempt, error, false)),
            Outcome::Silence => self.accepted(&Command::ExpireLease { task, attempt }),
            Outcome::Nobody => {}
        }
    }

    fn round_of(&self, task: &TaskReference) -> Vec<u32> {
        let state = |reference: &TaskReference| self.execution.tasks.get(reference);
        let around = std::iter::successors(state(task), |task| state(task.within.as_ref()?));
        around
            .map(|task| task.attempt.0 - task.first_attempt.0)
            .collect()
    }

    fn accepted(&mut self, command: &Command) {
        self.command(command)
            .unwrap_or_else(|rejection| panic!("{command:?}: {rejection}"));
        self.advance();
    }

    /// Performs one of the attempts that are owed, the first by its task and each once: whatever happened on the way here
    /// makes no difference. `false` where there is none.
    pub(crate) fn perform_one(
        &mut self,
        performed: &mut BTreeSet<(TaskReference, Attempt)>,
        worker: &mut impl FnMut(&Job) -> Outcome,
    ) -> bool {
        let owed = self.execution.owed(Sequence(0));
        let open = owed.map(|owed| (owed.reference.clone(), owed.task.attempt));
        let Some(next) = open.filter(|one| !performed.contains(one)).min() else {
            return false;
        };
        performed.insert(next.clone());
        self.perform_this(next, worker);
        true
    }

    /// Carries the execution on until it ends, as any other way to the same place would: what is due happens first, then
    /// attempts are performed in the order of their tasks, then time passes.
    pub(crate) fn carry_on(&mut self, mut worker: impl FnMut(&Job) -> Outcome) -> &Execution {
        let mut performed = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            self.advance();
            self.wait(DurationMs(0));
            if self.execution.is_ended() {
                return &self.execution;
            }
            if !self.perform_one(&mut performed, &mut worker) {
                assert!(self.next_deadline(), "an open execution waits for nothing");
            }
        }
        panic!("the execution never ends: {:?}", self.history.last());
    }

    /// Carries the execution on until it ends: performs what is owed, and where nothing is, moves the time.
    pub(crate) fn finish(&mut self, mut worker: impl FnMut(&Job) -> Outcome) -> &Execution {
        self.advance();
        for _ in 0..ROUNDS_MAX {
            if self.execution.is_ended() {
                return &self.execution;
            }
            if !self.perform(&mut worker) {
                assert!(self.next_deadline(), "an open execution waits for nothing");
            }
        }
        panic!("the execution never ends: {:?}", self.history.last());
    }

    /// Names of tasks whose attempts are owed, in order.
    pub(crate) fn owed(&self) -> Vec<String> {
        let owed = self.execution.owed(Sequence(0));
        owed.map(|dispatch| name_of(self.plan, dispatch.reference))
            .collect()
    }

    #[track_caller]
    pub(crate) fn task(&self, name: &str) -> &Task {
        let task = self.execution.tasks.get(&reference(self.plan, name));
        task.unwrap_or_else(|| panic!("{name} was never activated"))
    }
}

fn failure(task: TaskReference, attempt: Attempt, error: Problem, retryable: bool) -> Command {
    Command::FailAttempt {
        task,
        attempt,
        error,
        retryable,
        retry_after: None,
    }
}

/// Whose the executions of these tests are.
pub(crate) fn identity() -> (Tenant, ExecutionId) {
    (
        Tenant::default_tenant(),
        ExecutionId::parse("execution-1").expect("a name"),
    )
}

/// The state that a history leaves.
pub(crate) fn fold(history: &[(Event, Timestamp)]) -> Execution {
    let (tenant, id) = identity();
    let events = history.iter().map(|(event, at)| (event, *at));
    Execution::fold(tenant, id, events).expect("a history begins with a request")
}
