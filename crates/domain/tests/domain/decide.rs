//! Every command in every situation of a task: events, nothing for a repeat, or the right rejection.

use serde_json::json;

use crate::{
    situations::{Plans, Situation, paid, situations},
    support::{
        Given, Refused, advance, begin, complete, completed, execution_completed,
        execution_faulted, expire, fail, fail_for_good, faulted, fire_timers, given,
        plans::{agent, order, sequence},
        retried, scheduled, started, suspended,
    },
};

const CANCELLED: Refused = Refused::Superseded("the task was cancelled");
const SKIPPED: Refused = Refused::Superseded("the task was skipped");
const LATER: Refused = Refused::Superseded("a later attempt took its place");

/// Goes through all situations but these.
fn except<'p>(plans: &'p Plans, excluded: &[&str]) -> Vec<(&'static str, Given<'p>, u32)> {
    let all = situations(plans);
    for name in excluded {
        assert!(
            all.iter().any(|situation| situation.name == *name),
            "there is no situation `{name}`"
        );
    }
    let rest = all
        .into_iter()
        .filter(|situation| !excluded.contains(&situation.name));
    rest.map(
        |Situation {
             name,
             given,
             attempt,
         }| (name, given, attempt),
    )
    .collect()
}

fn only<'p>(plans: &'p Plans, name: &str) -> (Given<'p>, u32) {
    let found = situations(plans)
        .into_iter()
        .find(|situation| situation.name == name);
    let Situation { given, attempt, .. } =
        found.unwrap_or_else(|| panic!("there is no situation `{name}`"));
    (given, attempt)
}

/// What an order meets where the attempt has no result to wait for.
fn over(name: &str) -> Refused {
    match name {
        "pending, held above maxParallel"
        | "running, a sequence"
        | "running, a fork"
        | "running, a try" => Refused::NotScheduled,
        "waiting for its retry"
        | "waiting, a try between its attempts"
        | "waiting, a wait"
        | "completed"
        | "completed, output transformed"
        | "faulted"
        | "timed out" => Refused::OtherResult,
        "cancelled" | "stopped" => CANCELLED,
        "skipped" => SKIPPED,
        open => panic!("`{open}` waits for a result"),
    }
}

const OPEN: [&str; 6] = [
    "pending, ready",
    "running",
    "pending, second attempt",
    "running, second attempt",
    "paused, pending",
    "paused, running",
];

#[test]
fn an_attempt_that_nobody_holds_may_be_begun() {
    let plans = Plans::new();
    for name in ["pending, ready", "pending, second attempt"] {
        let (given, attempt) = only(&plans, name);
        given
            .when(begin("charge", attempt, "worker-1"))
            .then([started("charge", "worker-1")]);
    }
}

#[test]
fn begun_again_by_its_holder_is_a_repeat_and_by_another_is_refused() {
    let plans = Plans::new();
    for name in ["running", "running, second attempt"] {
        let (given, attempt) = only(&plans, name);
        let given = given
            .when(begin("charge", attempt, "worker-1"))
            .then_nothing();
        given
            .when(begin("charge", attempt, "worker-2"))
            .refused(&Refused::HeldBy("worker-1".to_owned()));
    }
}

#[test]
fn what_is_not_to_be_performed_cannot_be_begun() {
    let plans = Plans::new();
    for (name, given, attempt) in except(&plans, &OPEN) {
        given
            .when(begin("charge", attempt, "worker-1"))
            .refused(&over(name));
    }
}

#[test]
fn the_first_result_wins_whether_or_not_the_attempt_was_begun() {
    let plans = Plans::new();
    for name in OPEN.into_iter().filter(|name| !name.starts_with("paused")) {
        let (given, attempt) = only(&plans, name);
        given
            .when(complete("charge", attempt, paid()))
            .then([completed("charge"), scheduled("ship")]);
        let (given, attempt) = only(&plans, name);
        given
            .when(fail_for_good("charge", attempt, "declined"))
            .then([faulted("charge"), execution_faulted()]);
    }
}

#[test]
fn a_result_that_comes_while_paused_is_kept_and_nothing_follows_yet() {
    let plans = Plans::new();
    let (given, _) = only(&plans, "paused, pending");
    given
        .when(complete("charge", 1, paid()))
        .then([completed("charge")]);
    let (given, _) = only(&plans, "paused, running");
    given
        .when(fail_for_good("charge", 1, "declined"))
        .then([faulted("charge"), suspended()]);
}

#[test]
fn the_same_result_again_is_accepted_and_changes_nothing() {
    let plans = Plans::new();
    for name in ["completed", "completed, output transformed"] {
        let (given, attempt) = only(&plans, name);
        given
            .when(complete("charge", attempt, paid()))
            .then_nothing();
    }
    for name in ["waiting for its retry", "faulted"] {
        let (given, attempt) = only(&plans, name);
        given
            .when(fail("charge", attempt, "declined"))
            .then_nothing();
    }
}

#[test]
fn another_result_is_refused() {
    let plans = Plans::new();
    for (name, given, attempt) in except(&plans, &OPEN) {
        given
            .when(complete("charge", attempt, json!({"paid": false})))
            .refused(&over(name))
            .when(fail("charge", attempt, "lost"))
            .refused(&over(name));
    }
}

#[test]
fn an_earlier_attempt_is_superseded_unless_it_repeats_itself() {
    let plans = Plans::new();
    for name in ["pending, second attempt", "running, second attempt"] {
        let (given, _) = only(&plans, name);
        given
            .when(fail("charge", 1, "declined"))
            .then_nothing()
            .when(fail("charge", 1, "lost"))
            .refused(&LATER)
            .when(complete("charge", 1, paid()))
            .refused(&LATER)
            .when(begin("charge", 1, "worker-1"))
            .refused(&LATER)
            .when(expire("charge", 1))
            .then_nothing();
    }
}

#[test]
fn a_later_attempt_was_never_handed_out() {
    let plans = Plans::new();
    for (_, given, attempt) in except(&plans, &[]) {
        given
            .when(complete("charge", attempt + 1, paid()))
            .refused(&Refused::NotScheduled)
            .when(fail("charge", attempt + 1, "declined"))
            .refused(&Refused::NotScheduled)
            .when(begin("charge", attempt + 1, "worker-1"))
            .refused(&Refused::NotScheduled)
            .when(expire("charge", attempt + 1))
            .then_nothing();
    }
}

#[test]
fn an_unknown_task_is_named() {
    let plan = order();
    given(&plan)
        .when(begin("refund", 1, "worker-1"))
        .refused(&Refused::UnknownTask)
        .when(complete("refund", 1, paid()))
        .refused(&Refused::UnknownTask)
        .when(fail("refund", 1, "declined"))
        .refused(&Refused::UnknownTask)
        .when(complete("ship", 1, paid()))
        .refused(&Refused::UnknownTask)
        .when(expire("refund", 1))
        .then_nothing();
}

#[test]
fn only_a_lease_that_somebody_holds_expires() {
    let plans = Plans::new();
    let (given, _) = only(&plans, "running");
    given
        .when(expire("charge", 1))
        .then([retried("charge", 1)])
        .when(expire("charge", 1))
        .then_nothing();
    for (_, given, attempt) in except(
        &plans,
        &["running", "running, second attempt", "paused, running"],
    ) {
        given.when(expire("charge", attempt)).then_nothing();
    }
}

#[test]
fn time_and_advance_do_nothing_where_nothing_is_due() {
    let plans = Plans::new();
    for (_, given, _) in except(&plans, &[]) {
        given
            .when(fire_timers())
            .then_nothing()
            .when(advance())
            .then_nothing();
    }
}

#[test]
fn a_result_is_the_same_however_its_object_is_ordered() {
    let plan = order();
    let given = given(&plan).history([complete("charge", 1, json!({"a": 1, "b": 2}))]);
    given
        .when(complete("charge", 1, json!({"b": 2, "a": 1})))
        .then_nothing();
}

#[test]
fn a_result_whose_transformation_fails_faults_once_and_its_repeat_is_accepted() {
    let plan = sequence(&agent("charge", "output: {as: '${ .paid + {} }'}"));
    given(&plan)
        .when(complete("charge", 1, json!({"paid": true})))
        .then([faulted("charge"), execution_faulted()])
        .when(complete("charge", 1, json!({"paid": true})))
        .then_nothing()
        .when(complete("charge", 1, json!({"paid": false})))
        .refused(&Refused::OtherResult);
}

#[test]
fn a_repeat_is_known_even_after_a_loop_has_come_around() {
    let plan = sequence(
        &[
            agent("poll", ""),
            "- again: {switch: [{no: {when: '${ .done }', then: end}}, {yes: {then: poll}}]}"
                .to_owned(),
        ]
        .concat(),
    );
    let round = |attempt| complete("poll", attempt, json!({"done": false, "round": attempt}));
    let given = given(&plan).history([round(1), round(2), round(3)]);
    given
        .when(round(1))
        .then_nothing()
        .when(round(3))
        .then_nothing()
        .when(complete("poll", 2, json!({"done": true})))
        .refused(&LATER)
        .when(complete("poll", 4, json!({"done": true})))
        .then([
            completed("poll"),
            crate::support::chose("again", "no"),
            completed("again"),
            execution_completed(),
        ]);
}

#[test]
fn only_the_last_results_are_remembered() {
    let plan = sequence(&agent("poll", "then: poll"));
    let round = |attempt| complete("poll", attempt, json!(attempt));
    let given = given(&plan).history((1..=30).map(round));
    given
        .when(round(30))
        .then_nothing()
        .when(round(16))
        .then_nothing()
        .when(round(1))
        .refused(&LATER);
}

#[test]
fn an_ended_execution_refuses_what_is_new_and_accepts_what_it_knows() {
    let plan = sequence(&agent("charge", ""));
    given(&plan)
        .when(complete("charge", 1, paid()))
        .then([completed("charge"), execution_completed()])
        .when(complete("charge", 1, paid()))
        .then_nothing()
        .when(fail("charge", 1, "declined"))
        .refused(&Refused::OtherResult)
        .when(fire_timers())
        .then_nothing()
        .when(advance())
        .then_nothing();
}

#[test]
fn the_texts_of_an_error_are_cut_to_what_a_record_can_take() {
    let plan = sequence(&agent("charge", ""));
    let long = "ü".repeat(500_000);
    let given = given(&plan)
        .when(fail_for_good("charge", 1, &long))
        .then([faulted("charge"), execution_faulted()])
        .when(fail_for_good("charge", 1, &long))
        .then_nothing();
    let title = given.fault().0;
    assert!(
        long.starts_with(&title) && title.len() <= 4096 && title.len() > 4000,
        "{} bytes",
        title.len()
    );
}
