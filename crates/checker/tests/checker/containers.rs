//! Forks, races, `try`s and waits whose histories violate an invariant: they are found, and named.

use eventflow_checker::Invariant;
use serde_json::json;

use crate::support::{History, check, clean, finds, golden};

#[track_caller]
fn violates(history: &History, invariant: Invariant, words: &str) {
    finds(&check(history), invariant, words);
}

#[test]
fn i2_a_branch_that_begins_twice() {
    let again = golden("fork-completed").repeated(6, 7);
    let words = "fork/branches/2/gift begins a second time";
    violates(&again, Invariant::I2, words);
}

#[test]
fn i2_a_branch_that_begins_before_its_fork_or_after_a_failure() {
    let early = golden("fork-completed").moved(3, 4);
    let words = "fork/branches/0/stock begins, but its container is not under way";
    violates(&early, Invariant::I2, words);
    let beside = golden("fork-faulted").moved(4, 8);
    let words = "fork/branches/0/deep begins beside a task that has failed";
    violates(&beside, Invariant::I2, words);
}

#[test]
fn i2_a_fork_that_ends_before_its_branches() {
    let early = golden("fork-completed").moved(14, 12);
    let words = "/do/0/checks completes before its branch credit has ended";
    violates(&early, Invariant::I2, words);
    let unfounded = golden("fork-faulted").without(9);
    let words = "/do/0/checks fails, but nothing in it failed";
    violates(&unfounded, Invariant::I2, words);
    let deaf = golden("fork-faulted").with(12, |event| {
        *event =
            json!({"task_completed": {"task": "/do/0/checks", "attempt": 1, "output": "workflow_input"}});
    });
    let words = "/do/0/checks completes, although a task in it failed";
    violates(&deaf, Invariant::I2, words);
}

#[test]
fn i2_a_race_that_ends_before_anybody_has_won() {
    let early = golden("race-won").without(11);
    let words = "/do/0/quotes completes before its branch quick has ended";
    violates(&early, Invariant::I2, words);
    let lost = golden("race-won").with(13, |event| {
        let error = json!({"type": "https://example.com/lost", "status": 500});
        *event = json!({"task_faulted": {"task": "/do/0/quotes", "attempt": 1, "error": error}});
    });
    // It has been won, and its output may have failed: only that the execution completes is wrong.
    let words = "the execution completes, although a task in it failed";
    violates(&lost, Invariant::I2, words);
    let unwon = lost.without(11);
    let words = "/do/0/quotes fails, but nothing in it failed";
    violates(&unwon, Invariant::I2, words);
}

/// Two branches bring a result before the others are given up: the first has won.
#[test]
fn i2_a_race_with_two_winners() {
    let branch = |name: &str| format!("/do/0/quotes/fork/branches/{name}");
    let both = golden("race-won").with(8, |event| {
        *event = json!({"task_completed": {
            "task": branch("1/broken"), "within": "/do/0/quotes", "attempt": 1, "output": "workflow_input",
        }});
    });
    let words = "/do/0/quotes ends with the output of /do/0/quotes/fork/branches/2/quick, although \
                 /do/0/quotes/fork/branches/1/broken had won";
    violates(&both, Invariant::I2, words);
    let first = both.with(13, |event| {
        event["task_completed"]["output"] = json!({"output_of": branch("1/broken")});
    });
    clean(&check(&first));
}

#[test]
fn i2_what_is_given_up_although_nothing_has_ended() {
    let race = golden("race-won").moved(12, 10);
    let words = "fork/branches/0/slow is given up, but nothing else has ended";
    violates(&race, Invariant::I2, words);
    let fork = golden("fork-faulted").moved(12, 8);
    let words = "fork/branches/1/b is given up, but nothing else has ended";
    violates(&fork, Invariant::I2, words);
}

#[test]
fn i2_a_handler_before_its_error_and_a_try_beside_its_handler() {
    let early = golden("caught-after-retries").moved(21, 19);
    let words = "/do/0/pay/catch/do/0/undo begins beside a task that has failed";
    violates(&early, Invariant::I2, words);
    let unasked = golden("caught-after-retries").moved(21, 17);
    let words = "/do/0/pay/catch/do/0/undo begins while another task of its list is under way";
    violates(&unasked, Invariant::I2, words);
    let tried = golden("caught-after-retries").with(23, |event| {
        event["task_completed"]["task"] = json!("/do/0/pay/try/0/reserve");
        event["task_completed"]["attempt"] = json!(4);
    });
    let words = "/do/0/pay/try/0/reserve begins, where /do/0/pay/catch/do/1/tell was to come next";
    violates(&tried, Invariant::I2, words);
}

#[test]
fn i2_a_try_that_acts_although_nothing_in_it_failed() {
    let unfounded = golden("try-in-a-loop").without(16);
    let words = "/do/0/poll catches while tasks in it are under way";
    violates(&unfounded, Invariant::I2, words);
    let finished = golden("try-in-a-loop").with(10, |event| {
        let error = json!({"type": "https://example.com/none", "status": 500});
        *event = json!({"error_caught": {"task": "/do/0/poll", "attempt": 1, "error": error}});
    });
    let words = "/do/0/poll catches, but nothing in it failed";
    violates(&finished, Invariant::I2, words);
}

#[test]
fn i6_a_try_that_is_tried_more_often_than_its_policy_says() {
    let mut history = golden("caught-after-retries");
    // The third try was the last.
    history.events.truncate(20);
    let history = history.with(19, |event| {
        let error = event["error_caught"]["error"].clone();
        let at = 1_700_000_009_000_i64;
        *event =
            json!({"retry_scheduled": {"task": "/do/0/pay", "attempt": 3, "error": error, "at": at}});
    });
    let words = "/do/0/pay is tried again more often than its policy says";
    violates(&history, Invariant::I6, words);
}

#[test]
fn i7_a_wait_a_retry_and_the_time_out_of_a_try_that_are_early() {
    let wait = golden("waited").earlier(4, 1);
    let words = "the wait of /do/0/fixed comes 1 ms early";
    violates(&wait, Invariant::I7, words);
    let retry = golden("caught-after-retries").earlier(9, 1);
    let words = "the retry of /do/0/pay comes 1 ms early";
    violates(&retry, Invariant::I7, words);
    // Each try may take 10 s; given up at once, it has not failed.
    let given_up = golden("caught-after-retries").with(6, |event| {
        *event = json!({"task_cancelled": {"task": "/do/0/pay/try/1/charge"}});
    });
    let words = "the time-out of an attempt of /do/0/pay comes 9975 ms early";
    violates(&given_up, Invariant::I7, words);
    let passed_on = given_up.with(7, |event| {
        let error = event["retry_scheduled"]["error"].clone();
        *event = json!({"task_faulted": {"task": "/do/0/pay", "attempt": 1, "error": error}});
    });
    violates(&passed_on, Invariant::I7, words);
}
