//! Laws: generated plans, agents that do anything, orders that make no sense, and a crash after every step.

use eventflow_domain::{
    AgentName, Attempt, DurationMs, Json, Sequence, TaskReference, Value,
    execution::{Command, Control, Event, Execution, Rejection, Status, TaskStatus, decide},
    plan::Plan,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::json;

use std::collections::BTreeSet;

use crate::support::{
    Outcome, Run,
    generate::{agents, compiled, documents},
    laws::{check, check_at_rest},
    problem, resume,
    run::{Job, fold},
};

fn begun(plan: &Plan) -> Run<'_> {
    let mut run = Run::requested(plan, Json::of(&json!({"n": 5})));
    run.advance();
    run
}

/// An order that may make no sense.
#[derive(Debug, Clone)]
struct Nonsense {
    kind: u8,
    task: Index,
    /// Off the task's own attempt by so much: mostly right, sometimes late or early.
    off: i8,
    result: u8,
    milliseconds: u64,
}

fn nonsense() -> impl Strategy<Value = Nonsense> {
    let off = prop_oneof![6 => Just(0_i8), 1 => Just(-1), 1 => Just(1)];
    let milliseconds = prop_oneof![4 => Just(0), 4 => 0_u64..2_000, 1 => 0_u64..100_000_000];
    (0_u8..12, any::<Index>(), off, 0_u8..3, milliseconds).prop_map(
        |(kind, task, off, result, milliseconds)| Nonsense {
            kind,
            task,
            off,
            result,
            milliseconds,
        },
    )
}

impl Nonsense {
    fn command(&self, plan: &Plan, execution: &Execution) -> Command {
        let owed: Vec<&TaskReference> = execution
            .owed(Sequence(0))
            .map(|dispatch| dispatch.reference)
            .collect();
        // Half of the time for something that is owed, else for any node, the root included.
        let task = if self.kind.is_multiple_of(2) && !owed.is_empty() {
            owed[self.task.index(owed.len())].clone()
        } else {
            let pointers: Vec<_> = plan.nodes().map(|(_, node)| node.pointer.clone()).collect();
            TaskReference::at(&pointers[self.task.index(pointers.len())])
        };
        let current = execution.tasks.get(&task).map_or(1, |task| task.attempt.0);
        let attempt = Attempt(current.saturating_add_signed(i32::from(self.off)));
        match self.kind {
            0 | 1 => {
                let agent = AgentName::parse(&format!("worker-{}", self.result)).expect("a name");
                Command::BeginAttempt {
                    task,
                    attempt,
                    agent,
                }
            }
            2..=4 => {
                let output = Value::new(Json::of(&json!({"n": self.result})));
                Command::CompleteAttempt {
                    task,
                    attempt,
                    output,
                }
            }
            5 => Command::FailAttempt {
                task,
                attempt,
                error: problem(&format!("failure {}", self.result)),
                retryable: self.result > 0,
                retry_after: (self.result > 1).then_some(DurationMs(u64::from(u32::MAX))),
            },
            6 => Command::ExpireLease { task, attempt },
            7 => Command::FireTimers,
            9 => Command::Pause(Control::default()),
            10 => Command::Resume(Control::default()),
            // Not too often: nothing comes after it.
            11 if self.result == 0 => Command::Stop(Control::default()),
            _ => Command::Advance,
        }
    }
}

fn same_end(one: &Execution, other: &Execution) -> Result<(), TestCaseError> {
    prop_assert_eq!(one.status, other.status);
    prop_assert_eq!(&one.output, &other.output);
    prop_assert_eq!(&one.error, &other.error);
    prop_assert_eq!(&one.context, &other.context);
    Ok(())
}

/// Where two histories part.
fn differs(one: &Run<'_>, other: &Run<'_>) -> String {
    let mut pairs = one.history.iter().zip(&other.history);
    let place = pairs.position(|(one, other)| one != other);
    let place = place.unwrap_or_else(|| one.history.len().min(other.history.len()));
    let (one, other) = (one.history.get(place), other.history.get(place));
    format!("at {place} {one:?} instead of {other:?}")
}

/// Agents that take whatever there is: how long an attempt may wait for one begins anew on resume, which a pause may
/// change the end by.
fn busy(seed: u64) -> impl Fn(&Job) -> Outcome {
    let agents = agents(seed);
    move |job| match agents(job) {
        Outcome::Nobody => Outcome::Silence,
        outcome => outcome,
    }
}

/// A pause after so many attempts, that the next of them runs through or not.
fn pause() -> impl Strategy<Value = (usize, bool)> {
    (0_usize..8, any::<bool>())
}

/// Carries an execution on to its end; it is paused on the way, for no time.
fn carry_on_with_pauses(run: &mut Run<'_>, seed: u64, pauses: &[(usize, bool)]) {
    let order = |run: &mut Run<'_>, command: Command| {
        if !run.execution.is_ended() {
            run.command(&command)
                .expect("what is open can be paused and resumed");
            run.advance();
        }
    };
    let mut performed = BTreeSet::new();
    let mut worker = busy(seed);
    for (after, runs_through) in pauses {
        for _ in 0..*after {
            run.wait(DurationMs(0));
            if !run.execution.is_ended() && !run.perform_one(&mut performed, &mut worker) {
                run.next_deadline();
            }
        }
        run.wait(DurationMs(0));
        if *runs_through {
            let pausing = |job: &Job| worker(job);
            perform_while_paused(run, &mut performed, pausing);
        } else {
            order(run, Command::Pause(Control::default()));
        }
        order(run, Command::Resume(Control::default()));
    }
    run.carry_on(worker);
}

/// Begins the next attempt, pauses, and lets it bring its result.
fn perform_while_paused(
    run: &mut Run<'_>,
    performed: &mut BTreeSet<(TaskReference, Attempt)>,
    worker: impl Fn(&Job) -> Outcome,
) {
    let owed = run.execution.owed(Sequence(0));
    let open = owed.map(|owed| (owed.reference.clone(), owed.task.attempt));
    let Some((task, attempt)) = open.filter(|one| !performed.contains(one)).min() else {
        return;
    };
    let agent = AgentName::parse("worker-1").expect("a name");
    let begin = Command::BeginAttempt {
        task,
        attempt,
        agent,
    };
    let mut before = run.clone();
    // Where nobody picks it up there is nothing to run through.
    if !before.perform_one(&mut performed.clone(), &mut |job| worker(job))
        || before.history.len() == run.history.len()
    {
        return;
    }
    run.command(&begin).expect("what is owed can be begun");
    run.command(&Command::Pause(Control::default()))
        .expect("what is open can be paused");
    assert_eq!(run.execution.status, Status::Suspending);
    run.perform_one(performed, &mut |job| worker(job));
    assert!(run.execution.status == Status::Suspended);
}

/// Fires what is due, and draws all consequences.
fn come_to_rest(run: &mut Run<'_>) {
    run.advance();
    run.wait(DurationMs(0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_ends_with_any_agents_and_every_law_holds(document in documents(), seed in any::<u64>()) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        check_at_rest(&run);
        run.finish(agents(seed));
        check(&plan, &run.history);
        check_at_rest(&run);
    }

    #[test]
    fn no_order_breaks_a_law(document in documents(), orders in vec(nonsense(), 1..40)) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        for order in orders {
            run.now = run.now.after(DurationMs(order.milliseconds));
            let command = order.command(&plan, &run.execution);
            let before = run.execution.clone();
            if run.command(&command).is_err() {
                prop_assert_eq!(&run.execution, &before, "a refusal changes nothing");
            } else {
                if command == Command::FireTimers {
                    come_to_rest(&mut run);
                } else {
                    run.advance();
                }
                let again = decide(&run.execution, &plan, &command, run.now);
                match again {
                    // It had its effect, and the end came after it.
                    Err(Rejection::Ended(status)) => prop_assert_eq!(status, run.execution.status),
                    again => prop_assert_eq!(again, Ok(Vec::new()), "{:?} again", command),
                }
            }
            check_at_rest(&run);
        }
        check(&plan, &run.history);
    }

    /// A step is appended as one, so a crash falls between two of them.
    #[test]
    fn a_crash_after_any_step_changes_nothing(
        document in documents(), seed in any::<u64>(), crashes in vec(any::<Index>(), 1..8),
    ) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        run.carry_on(agents(seed));
        for crash in crashes {
            let length = run.steps[crash.index(run.steps.len())];
            let mut recovered = Run::recovered(&plan, &run.history[..length]);
            recovered.carry_on(agents(seed));
            prop_assert!(recovered.history == run.history, "a history differs: {}", differs(&recovered, &run));
            prop_assert_eq!(&recovered.execution, &run.execution);
        }
    }

    /// Were it to fall between two events, those that were decided together would not all be there, and the end would still
    /// be the same.
    #[test]
    fn a_crash_after_any_event_changes_nothing_of_the_end(
        document in documents(), seed in any::<u64>(), crashes in vec(any::<Index>(), 1..8),
    ) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        run.carry_on(agents(seed));
        for crash in crashes {
            let length = 1 + crash.index(run.history.len());
            // A choice and the end of its switch are one decision, in one record.
            if matches!(run.history[length - 1].0, Event::BranchSelected { .. }) {
                continue;
            }
            let mut recovered = Run::recovered(&plan, &run.history[..length]);
            recovered.carry_on(agents(seed));
            check(&plan, &recovered.history);
            same_end(&recovered.execution, &run.execution)?;
        }
    }

    #[test]
    fn pausing_and_resuming_at_any_time_changes_nothing_of_the_end(
        document in documents(), seed in any::<u64>(), pauses in vec(pause(), 1..6),
    ) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        run.carry_on(busy(seed));
        let mut paused = begun(&plan);
        carry_on_with_pauses(&mut paused, seed, &pauses);
        check(&plan, &paused.history);
        same_end(&paused.execution, &run.execution)?;
        prop_assert_eq!(paused.execution.activations, run.execution.activations);
    }

    #[test]
    fn what_is_stopped_at_any_time_ends_cancelled(document in documents(), seed in any::<u64>(), before in 0_usize..40) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        let mut performed = BTreeSet::new();
        for _ in 0..before {
            if !run.execution.is_ended() && !run.perform_one(&mut performed, &mut agents(seed)) {
                run.next_deadline();
            }
        }
        if run.execution.is_ended() {
            return Ok(());
        }
        run.command(&Command::Stop(Control::default())).expect("what is open can be stopped");
        run.advance();
        check(&plan, &run.history);
        prop_assert_eq!(run.execution.status, Status::Cancelled);
    }

    #[test]
    fn recovery_owes_what_running_owed(
        document in documents(), seed in any::<u64>(), mut pauses in vec(1_usize..6, 0..4),
    ) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        let mut worker = agents(seed);
        // What running was told of, each once.
        let mut told: Vec<(Sequence, TaskReference, Attempt)> = Vec::new();
        let (mut since_pause, is_paused) = (0, !pauses.is_empty());
        loop {
            let after = told.last().map_or(Sequence(0), |(sequence, ..)| *sequence);
            let new = run.execution.owed(after);
            told.extend(new.map(|dispatch| (dispatch.sequence, dispatch.reference.clone(), dispatch.task.attempt)));
            let recovered = fold(&run.history);
            let owed: Vec<_> = recovered
                .owed(Sequence(0))
                .map(|dispatch| (dispatch.sequence, dispatch.reference.clone(), dispatch.task.attempt))
                .collect();
            prop_assert!(owed.iter().all(|one| told.contains(one)), "recovery owes what running did not");
            let still_open = |(sequence, task, attempt): &&(Sequence, TaskReference, Attempt)| {
                let state = &run.execution.tasks[task];
                let ready = matches!(state.status, TaskStatus::Pending | TaskStatus::Running);
                let since = run.execution.ready_since(task) == Some(*sequence);
                let is_held = run.execution.is_paused() && state.agent.is_none();
                state.attempt == *attempt && ready && since && !is_held
            };
            prop_assert_eq!(told.iter().filter(still_open).count(), owed.len());
            if run.execution.is_ended() {
                break;
            }
            if run.execution.is_paused() {
                run.order(&resume()).expect("what is paused can be resumed");
                run.advance();
                continue;
            }
            if pauses.last() == Some(&since_pause) {
                pauses.pop();
                since_pause = 0;
                run.order(&crate::support::pause()).expect("what is open can be paused");
                continue;
            }
            since_pause += 1;
            if !run.perform(&mut worker) {
                prop_assert!(run.next_deadline());
            }
        }
        let attempts: std::collections::BTreeSet<_> = told.iter().map(|(_, task, attempt)| (task.to_string(), *attempt)).collect();
        let twice = attempts.len() != told.len();
        prop_assert!(!twice || is_paused, "no attempt is handed out twice but for a pause");
    }

    #[test]
    fn an_execution_survives_being_written_down(document in documents(), seed in any::<u64>(), at in any::<Index>()) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        run.finish(agents(seed));
        let length = 1 + at.index(run.history.len());
        let execution = fold(&run.history[..length]);
        let written = serde_json::to_string(&execution).expect("an execution serialises");
        let read: Execution = serde_json::from_str(&written).expect("what was written is read");
        prop_assert_eq!(&read, &execution);
        prop_assert_eq!(serde_json::to_string(&read).expect("an execution serialises"), written);
        let history = serde_json::to_string(&run.history).expect("events serialise");
        let events: Vec<(Event, eventflow_domain::Timestamp)> = serde_json::from_str(&history).expect("events are read");
        prop_assert_eq!(&events, &run.history);
    }

    #[test]
    fn any_events_in_any_order_fold_without_a_panic(
        document in documents(), seed in any::<u64>(), picks in vec(any::<Index>(), 0..60), again in vec(nonsense(), 0..5),
    ) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        run.finish(agents(seed));
        let shuffled = picks.iter().map(|pick| run.history[pick.index(run.history.len())].clone());
        let history: Vec<_> = run.history[..1].iter().cloned().chain(shuffled).collect();
        let mut broken = Run::recovered(&plan, &history);
        for order in again {
            let command = order.command(&plan, &broken.execution);
            let _ = broken.command(&command);
        }
    }
}
