//! Histories of the domain's own generator: plans that nobody would write, agents that do anything. All are clean.

use std::{collections::BTreeSet, sync::Arc};

use eventflow_domain::{
    AgentName, Attempt, DurationMs, Json, Sequence, TaskReference,
    execution::{Command, Control, Event, Status, TaskStatus},
    limits::INLINE_VALUE_BYTES_MAX,
    plan::Plan,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::json;

use crate::support::{Check, History, clean};

#[path = "../../../domain/tests/domain/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    reason = "the domain's tests need more of it"
)]
mod support;

use support::{
    Run, begin, complete,
    generate::{agents, compiled, documents},
    pause, resume,
};

/// What happens next to an execution.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Somebody takes an attempt, and has not brought its result yet.
    Begin,
    Perform,
    Wait(u16),
    Pause,
    Resume,
    Stop,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => Just(Turn::Begin),
        8 => Just(Turn::Perform),
        4 => (0_u16..3_000).prop_map(Turn::Wait),
        4 => Just(Turn::Pause),
        4 => Just(Turn::Resume),
        1 => Just(Turn::Stop),
    ]
}

/// Carries an execution through these turns, the first of them before it has begun, and then to its end.
fn carried<'p>(plan: &'p Plan, turns: &[Turn], seed: u64) -> Run<'p> {
    let mut run = Run::requested(plan, Json::of(&json!({"n": 5})));
    let mut performed = BTreeSet::new();
    for turn in turns {
        take(&mut run, *turn, &mut performed, seed);
        run.advance();
        run.wait(DurationMs(0));
    }
    order(&mut run, &Command::Resume(Control::default()));
    run.carry_on(agents(seed));
    run
}

fn take(
    run: &mut Run<'_>,
    turn: Turn,
    performed: &mut BTreeSet<(TaskReference, Attempt)>,
    seed: u64,
) {
    match turn {
        Turn::Begin => {
            let mut owed = run.execution.owed(Sequence(0));
            let next = owed.find(|owed| owed.task.agent.is_none());
            let command = next.map(|next| Command::BeginAttempt {
                task: next.reference.clone(),
                attempt: next.task.attempt,
                agent: AgentName::parse("worker-1").unwrap(),
            });
            drop(owed);
            if let Some(command) = command {
                order(run, &command);
            }
        }
        Turn::Perform => {
            run.perform_one(performed, &mut agents(seed));
        }
        Turn::Wait(milliseconds) => run.wait(DurationMs(u64::from(milliseconds))),
        Turn::Pause => order(run, &Command::Pause(Control::default())),
        Turn::Resume => order(run, &Command::Resume(Control::default())),
        Turn::Stop => order(run, &Command::Stop(Control::default())),
    }
}

/// An order that comes too late is refused, which changes nothing.
fn order(run: &mut Run<'_>, command: &Command) {
    let refused = run.command(command).is_err();
    assert!(!refused || run.execution.is_ended(), "{command:?}");
}

/// A result that is too large to leave room in its step for what follows.
#[test]
fn a_pause_that_ends_before_its_rest_was_told_is_clean() {
    let plan = Arc::new(compiled(&json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "large", "version": "1.0.0"},
        "do": [{"a": {"call": "agent:1.0.0@default", "with": {"capability": "work"}, "export": {"as": "${ . }"}}}],
    })));
    let mut run = Run::requested(&plan, Json::of(&json!({})));
    run.advance();
    take(&mut run, Turn::Begin, &mut BTreeSet::new(), 0);
    take(&mut run, Turn::Pause, &mut BTreeSet::new(), 0);
    // The largest value that is written into its event; here as the output and once more as the `$context`.
    let large = json!("x".repeat(INLINE_VALUE_BYTES_MAX - 2));
    run.order(&complete("a", 1, large)).unwrap();
    assert_eq!(run.execution.status, Status::Suspending);
    take(&mut run, Turn::Resume, &mut BTreeSet::new(), 0);
    run.advance();
    assert_eq!(run.execution.status, Status::Completed);
    let suspended = |(event, _): &&(Event, _)| matches!(event, Event::ExecutionSuspended {});
    assert_eq!(run.history.iter().filter(suspended).count(), 1);
    let history = History::of(&plan, "execution-1", &run.history);
    clean(&Check::with(&[&history]).histories(&[&history]));
}

/// Both branches bring a result while it is paused; only that of the winner counts.
#[test]
fn a_race_that_is_won_in_a_pause_is_clean() {
    let branch = |name: &str, then: &str| json!({name: {"call": "agent:1.0.0@default", "with": {"capability": "work"}, "then": then}});
    let plan = Arc::new(compiled(&json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "race", "version": "1.0.0"},
        "do": [
            {"race": {"fork": {"branches": [branch("a", "end"), branch("b", "continue")], "compete": true}}},
            {"after": {"set": {"n": 1}}},
        ],
    })));
    let mut run = Run::requested(&plan, Json::of(&json!({})));
    run.advance();
    let begun = [begin("a", 1, "worker-1"), begin("b", 1, "worker-1")];
    let won = [complete("b", 1, json!(2)), complete("a", 1, json!(1))];
    let orders = begun.into_iter().chain([pause()]).chain(won);
    for order in orders.chain([resume()]) {
        run.order(&order).unwrap();
    }
    assert_eq!(run.execution.status, Status::Completed);
    assert_eq!(run.task("after").status, TaskStatus::Completed);
    let history = History::of(&plan, "execution-1", &run.history);
    clean(&Check::with(&[&history]).histories(&[&history]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_machine_writes_is_clean(document in documents(), seed in any::<u64>(), turns in vec(turn(), 0..30)) {
        let plan = Arc::new(compiled(&document));
        let run = carried(&plan, &turns, seed);
        let history = History::of(&plan, "execution-1", &run.history);
        let mut check = Check::with(&[&history]);
        check.settings.late_max = Some(DurationMs(0));
        clean(&check.histories(&[&history]));
    }

    #[test]
    fn whatever_it_has_written_so_far_is_clean(
        document in documents(), seed in any::<u64>(), turns in vec(turn(), 0..30), length in any::<Index>(),
    ) {
        let plan = Arc::new(compiled(&document));
        let run = carried(&plan, &turns, seed);
        // A crash falls between two steps.
        let length = run.steps[length.index(run.steps.len())];
        let history = History::of(&plan, "execution-1", &run.history[..length]);
        clean(&Check::with(&[&history]).histories(&[&history]));
    }
}
