//! Pauses and stops that something comes through: it is found, and named.

use eventflow_checker::Invariant;
use eventflow_domain::{DurationMs, ExecutionId};
use serde_json::json;

use crate::support::{Check, History, check, clean, finds, golden};

#[track_caller]
fn violates(history: &History, invariant: Invariant, words: &str) {
    finds(&check(history), invariant, words);
}

#[test]
fn i5_what_begins_in_a_pause() {
    let taken = golden("paused-and-resumed").moved(16, 14);
    let words = "attempt 1 of /do/0/both/fork/branches/0/one/do/1/b begins after a pause";
    violates(&taken, Invariant::I5, words);
    let scheduled = golden("paused-and-resumed").moved(12, 13);
    let words = "/do/0/both/fork/branches/1/two/do/1/c begins after a pause";
    violates(&scheduled, Invariant::I5, words);
    let at_once = golden("suspending-until-drained").moved(9, 7);
    violates(&at_once, Invariant::I5, "/do/1/b begins after a pause");
    let ended = golden("suspending-until-drained").without(8);
    violates(&ended, Invariant::I5, "it ends completed after a pause");
}

/// Timers keep their times, and act when it is resumed.
#[test]
fn i5_a_timer_that_acts_in_a_pause() {
    let paused = |history: History, behind: usize| {
        let mut paused = history;
        for (place, order) in ["execution_pause_requested", "execution_suspended"]
            .into_iter()
            .enumerate()
        {
            paused = paused
                .repeated(1, behind + place)
                .with(behind + place, |event| *event = json!({order: {}}));
        }
        paused
    };
    let wait = paused(golden("waited"), 3);
    violates(
        &wait,
        Invariant::I5,
        "/do/0/fixed ends or fails after a pause",
    );
    let retry = paused(golden("task-retried"), 5);
    let words = "attempt 2 of /do/0/charge becomes ready after a pause";
    violates(&retry, Invariant::I5, words);
    let time_out = paused(golden("task-timed-out"), 3);
    violates(
        &time_out,
        Invariant::I5,
        "/do/0/call times out after a pause",
    );
    let handler = paused(golden("caught-after-retries"), 19);
    let words = "the handler of /do/0/pay begins after a pause";
    violates(&handler, Invariant::I5, words);
    // The execution's own goes on.
    let own = check(&paused(golden("execution-timed-out"), 3));
    assert!(
        own.violations
            .iter()
            .all(|found| !found.detail.starts_with("it ends")),
        "{:?}",
        own.violations
    );
}

#[test]
fn i5_a_pause_that_never_says_that_it_has_come_to_rest() {
    for (name, suspended) in [("paused-and-resumed", 14), ("suspending-until-drained", 7)] {
        let silent = golden(name).without(suspended);
        let words = "it resumes, and no event says that its pause had come to rest";
        violates(&silent, Invariant::I5, words);
    }
    // Resumed while somebody was still at it, there is nothing to say.
    let soon = golden("suspending-until-drained").without(7).moved(7, 5);
    clean(&check(&soon));
}

#[test]
fn i5_what_comes_after_a_stop() {
    let begins = golden("stopped").moved(7, 8);
    let words = "attempt 1 of /do/0/both/fork/branches/0/one/try/0/a begins after a stop";
    violates(&begins, Invariant::I5, words);
    let scheduled = golden("stopped").moved(6, 8);
    let words = "/do/0/both/fork/branches/0/one/try/0/a begins after a stop";
    violates(&scheduled, Invariant::I5, words);
    let result = golden("stopped").with(11, |event| {
        *event = json!({"task_completed": {
            "task": "/do/0/both/fork/branches/0/one/try/0/a", "within": "/do/0/both/fork/branches/0/one",
            "attempt": 1, "output": "workflow_input",
        }});
    });
    let words = "/do/0/both/fork/branches/0/one/try/0/a ends or fails after a stop";
    violates(&result, Invariant::I5, words);
    let other = golden("stopped").with(13, |event| {
        *event = json!({"execution_completed": {"output": "workflow_input"}});
    });
    violates(&other, Invariant::I5, "it ends completed after a stop");
}

#[test]
fn i3_what_comes_after_it_was_cancelled() {
    for number in [7, 9, 13, 14] {
        let after = golden("stopped").repeated(number, 14);
        let words = "an event after its end, which was event 14";
        violates(&after, Invariant::I3, words);
    }
    let open = golden("stopped").without(12);
    let words = "it ends while /do/0/both/fork/branches/0/one/try/0/a is under way";
    violates(&open, Invariant::I3, words);
}

#[test]
fn i10_what_nobody_ordered() {
    let stopped = golden("stopped").without(9);
    violates(
        &stopped,
        Invariant::I10,
        "it was stopped, and no event says by whom",
    );
    let suspended = golden("paused-and-resumed").without(13);
    violates(
        &suspended,
        Invariant::I10,
        "it suspends, and nobody asked for it",
    );
}

/// Beside an execution whose partition goes on for a minute.
fn beside_another(history: &History) -> eventflow_checker::Report {
    let mut other = golden("raised").earlier(1, -60_000);
    other.execution = ExecutionId::parse("execution-2").unwrap();
    let mut check = Check::with(&[history, &other]);
    check.settings.late_max = Some(DurationMs(1_000));
    check.histories(&[history, &other])
}

/// A pause may last; a stop, and the end of a suspending, come by themselves.
#[test]
fn i12_an_order_that_comes_to_no_end() {
    let cut = |name: &str, length: usize| {
        let mut cut = golden(name);
        cut.events.truncate(length);
        beside_another(&cut)
    };
    clean(&cut("paused-and-resumed", 14));
    clean(&cut("suspending-until-drained", 5));
    for (name, length) in [
        ("paused-and-resumed", 13),
        ("suspending-until-drained", 6),
        ("stopped", 9),
        ("stopped", 13),
    ] {
        let stuck = cut(name, length);
        finds(&stuck, Invariant::I12, "nothing of it is under way");
    }
}
