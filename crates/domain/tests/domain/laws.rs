//! Laws: generated plans, agents that do anything, orders that make no sense, and a crash after every step.

use eventflow_domain::{
    AgentName, Attempt, DurationMs, Json, Sequence, TaskReference, Value,
    execution::{Command, Event, Execution, TaskStatus, decide},
    plan::Plan,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::json;

use crate::support::{
    Run,
    generate::{agents, compiled, documents},
    laws::{check, check_at_rest},
    problem,
    run::fold,
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
    (0_u8..9, any::<Index>(), off, 0_u8..3, milliseconds).prop_map(
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
            _ => Command::Advance,
        }
    }
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
                prop_assert_eq!(again, Ok(Vec::new()), "{:?} again", command);
            }
            check_at_rest(&run);
        }
        check(&plan, &run.history);
    }

    #[test]
    fn a_crash_after_any_step_changes_nothing_of_the_end(
        document in documents(), seed in any::<u64>(), crashes in vec(any::<Index>(), 1..8),
    ) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        run.finish(agents(seed));
        for crash in crashes {
            let length = run.steps[crash.index(run.steps.len())];
            let mut recovered = Run::recovered(&plan, &run.history[..length]);
            recovered.finish(agents(seed));
            check(&plan, &recovered.history);
            prop_assert_eq!(recovered.execution.status, run.execution.status);
            prop_assert_eq!(&recovered.execution.output, &run.execution.output);
        }
    }

    #[test]
    fn a_crash_after_any_event_changes_nothing_of_the_end_either(
        document in documents(), seed in any::<u64>(), crashes in vec(any::<Index>(), 1..8),
    ) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        run.finish(agents(seed));
        for crash in crashes {
            let length = 1 + crash.index(run.history.len());
            // A choice and the end of its switch are one decision, in one record.
            if matches!(run.history[length - 1].0, Event::BranchSelected { .. }) {
                continue;
            }
            let mut recovered = Run::recovered(&plan, &run.history[..length]);
            recovered.finish(agents(seed));
            check(&plan, &recovered.history);
            prop_assert_eq!(recovered.execution.status, run.execution.status);
            prop_assert_eq!(&recovered.execution.output, &run.execution.output);
        }
    }

    #[test]
    fn recovery_owes_what_running_owed(document in documents(), seed in any::<u64>()) {
        let plan = compiled(&document);
        let mut run = begun(&plan);
        let mut worker = agents(seed);
        // What running was told of, each once.
        let mut told: Vec<(Sequence, TaskReference, Attempt)> = Vec::new();
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
            let still_open = |(_, task, attempt): &&(Sequence, TaskReference, Attempt)| {
                let task = &run.execution.tasks[task];
                let ready = matches!(task.status, TaskStatus::Pending | TaskStatus::Running);
                task.attempt == *attempt && ready
            };
            prop_assert_eq!(told.iter().filter(still_open).count(), owed.len());
            if run.execution.is_ended() {
                break;
            }
            if !run.perform(&mut worker) {
                prop_assert!(run.next_deadline());
            }
        }
        let attempts: std::collections::BTreeSet<_> = told.iter().map(|(_, task, attempt)| (task.to_string(), *attempt)).collect();
        prop_assert_eq!(attempts.len(), told.len(), "no attempt is handed out twice");
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
