//! Time: retries and their delays, time-outs of attempts, tasks and executions, and what is due at once.

use serde_json::json;

use eventflow_domain::{DurationMs, Json, plan::Plan};

use crate::support::{
    Failure, Given, Order, Outcome, Refused, Run, begin, cancelled, complete, completed,
    execution_completed, execution_faulted, execution_timed_out, expire, fail, fail_for_good,
    fail_until, faulted, fire_timers, given,
    plans::{agent, agent_with, document, graph, retries, sequence, step},
    problem, ready, retried, scheduled, started, timed_out,
};

/// One task, retried twice: after one second, then after two.
fn charge() -> Plan {
    let retry = "retry: {delay: PT1S, backoff: {linear: {}}, limit: {attempt: {count: 2}}}";
    sequence(&agent_with("charge", retry, "timeout: {after: PT10M}"))
}

#[test]
fn a_failed_attempt_is_followed_by_another_after_its_delay() {
    let plan = charge();
    given(&plan)
        .when(fail("charge", 1, "declined"))
        .then([retried("charge", 1)])
        .later(999)
        .when(fire_timers())
        .then_nothing()
        .later(1)
        .when(fire_timers())
        .then([ready("charge", 2)])
        .when(complete("charge", 2, json!(1)))
        .then([completed("charge"), execution_completed()]);
}

#[test]
fn while_it_waits_nothing_is_owed_and_the_error_is_kept() {
    let plan = charge();
    let given = given(&plan).history([fail("charge", 1, "declined")]);
    assert_eq!(given.owed(), Vec::<String>::new());
    assert_eq!(
        given.expect().next_deadline(),
        Some(given.run.now.after(DurationMs(1_000)))
    );
    assert_eq!(
        given
            .task("charge")
            .error
            .as_ref()
            .and_then(|error| error.title.as_deref()),
        Some("declined")
    );
    let given = given.wait(1_000);
    assert_eq!(given.owed(), ["charge"]);
    assert_eq!(given.task("charge").agent, None);
}

#[test]
fn spent_retries_fault_the_task_with_the_last_error() {
    let plan = charge();
    let given = given(&plan)
        .history([fail("charge", 1, "first")])
        .wait(1_000)
        .history([fail("charge", 2, "second")])
        .wait(1_999);
    assert_eq!(
        given.owed(),
        Vec::<String>::new(),
        "the second delay is twice the first"
    );
    let given = given
        .wait(1)
        .when(fail("charge", 3, "third"))
        .then([faulted("charge"), execution_faulted()]);
    assert_eq!(
        given.fault(),
        ("third".to_owned(), "/do/0/charge".to_owned())
    );
}

#[test]
fn a_failure_for_good_is_not_retried() {
    let plan = charge();
    given(&plan)
        .when(fail_for_good("charge", 1, "stolen"))
        .then([faulted("charge"), execution_faulted()]);
}

#[test]
fn an_agent_may_ask_for_a_later_retry_but_not_for_an_earlier_one() {
    for (wished, waits) in [(5_000, 5_000), (10, 1_000)] {
        let plan = charge();
        let given = given(&plan).history([fail_until("charge", 1, "busy", wished)]);
        let due = given.run.now.after(DurationMs(waits));
        assert_eq!(given.expect().next_deadline(), Some(due));
    }
}

#[test]
fn a_retry_in_the_farthest_future_is_cut_off_by_the_tasks_own_time() {
    let plan = charge();
    let given = given(&plan)
        .history([fail_until("charge", 1, "busy", u64::MAX)])
        .wait(600_000);
    assert_eq!(given.fault().0, "Task timed out");
}

#[test]
fn a_new_round_of_a_loop_has_all_of_its_retries_again() {
    let plan = sequence(&[agent_with("a", &retries(1), ""), agent("b", "then: a")].concat());
    given(&plan)
        .history([fail("a", 1, "x")])
        .wait(1_000)
        .history([complete("a", 2, json!(1)), complete("b", 1, json!(1))])
        .when(fail("a", 3, "x"))
        .then([retried("a", 3)]);
}

#[test]
fn an_expired_lease_is_a_failure_that_is_retried() {
    let plan = charge();
    let given = given(&plan)
        .history([begin("charge", 1, "worker-1")])
        .when(expire("charge", 1))
        .then([retried("charge", 1)])
        .when(complete("charge", 1, json!(1)))
        .refused(&Refused::OtherResult)
        .wait(1_000)
        .when(begin("charge", 2, "worker-2"))
        .then([started("charge", "worker-2")])
        .when(complete("charge", 1, json!(1)))
        .refused(&Refused::Superseded("a later attempt took its place"));
    let error = given.task("charge").error.clone().expect("the expiry");
    assert_eq!(
        (error.status, error.title.as_deref()),
        (408, Some("Lease expired"))
    );
}

#[test]
fn an_attempt_that_nobody_picks_up_ends_and_is_retried() {
    let plan = sequence(&agent_with(
        "charge",
        &format!("startWithin: PT5S, {}", retries(1)),
        "",
    ));
    let given = given(&plan)
        .later(5_000)
        .when(fire_timers())
        .then([retried("charge", 1)])
        .later(1_000)
        .when(fire_timers())
        .then([ready("charge", 2)])
        .later(5_000)
        .when(fire_timers())
        .then([faulted("charge"), execution_faulted()]);
    assert_eq!(given.fault().0, "Nobody picked the task up");
}

#[test]
fn an_attempt_that_was_begun_may_take_longer_than_it_may_wait() {
    let plan = sequence(&agent_with("charge", "startWithin: PT5S", ""));
    given(&plan)
        .history([begin("charge", 1, "worker-1")])
        .later(5_000)
        .when(fire_timers())
        .then_nothing()
        .when(complete("charge", 1, json!(1)))
        .then([completed("charge"), execution_completed()]);
}

#[test]
fn a_task_times_out_over_all_of_its_attempts_even_between_two() {
    for history in [
        vec![],
        vec![begin("charge", 1, "worker-1")],
        vec![fail_until("charge", 1, "busy", 9_000_000)],
    ] {
        let plan = sequence(
            &[
                agent_with("charge", &retries(3), "timeout: {after: PT1M}"),
                agent("ship", ""),
            ]
            .concat(),
        );
        let given = given(&plan)
            .history(history)
            .later(60_000)
            .when(fire_timers())
            .then([timed_out("charge"), execution_faulted()]);
        let error = given.expect().error.clone().expect("an error");
        assert_eq!(
            (error.status, error.instance.as_deref()),
            (408, Some("/do/0/charge"))
        );
        given
            .when(complete("charge", 1, json!(1)))
            .refused(&Refused::OtherResult);
    }
}

#[test]
fn a_nested_list_times_out_as_a_whole() {
    let plan = sequence(&format!(
        "- outer:\n    timeout: {{after: PT1M}}\n    do:\n      {}      {}{}",
        agent("a", ""),
        agent("b", ""),
        agent("after", "")
    ));
    given(&plan)
        .history([complete("a", 1, json!(1))])
        .later(60_000)
        .when(fire_timers())
        .then([cancelled("b"), timed_out("outer"), execution_faulted()]);
}

#[test]
fn an_execution_times_out_and_cancels_what_is_under_way() {
    let plan = document(
        &[agent("a", ""), agent("b", "")].concat(),
        "timeout: {after: PT30S}",
    );
    let given = given(&plan)
        .later(29_999)
        .when(fire_timers())
        .then_nothing()
        .later(1)
        .when(fire_timers())
        .then([cancelled("a"), execution_timed_out()])
        .when(complete("a", 1, json!(1)))
        .refused(&Refused::Superseded("the task was cancelled"));
    assert_eq!(given.fault().0, "Execution timed out");
    assert_eq!(given.expect().next_deadline(), None);
}

#[test]
fn a_graph_that_times_out_is_not_taken_for_one_that_is_through() {
    let plan = graph(
        &[step("a", ""), step("b", ""), step("c", "dependsOn: [a]")].concat(),
        "timeout: 30s",
    );
    given(&plan).later(30_000).when(fire_timers()).then([
        cancelled("a"),
        cancelled("b"),
        execution_timed_out(),
    ]);
}

#[test]
fn a_wide_graph_that_times_out_is_cancelled_in_portions_and_no_late_result_completes_it() {
    let steps: String = (0..200).map(|n| step(&format!("s{n}"), "")).collect();
    let plan = graph(&steps, "timeout: 30s\nmaxParallel: 150");
    let mut run = given(&plan).later(30_000).run;
    let running = run.owed();
    let first = run.order(&fire_timers()).expect("timers are never refused");
    assert!(
        first.len() <= 64
            && run
                .execution
                .next_deadline()
                .is_some_and(|due| due <= run.now)
    );
    let open: Vec<String> = run.owed();
    assert!(
        open.iter().all(|name| running.contains(name)),
        "nothing that was held begins"
    );
    for name in &open {
        run.order(&complete(name, 1, json!(1)))
            .expect("it has not been cancelled yet");
    }
    run.wait(DurationMs(0));
    let given = Given { run };
    assert_eq!(given.fault().0, "Execution timed out");
    let begun = given
        .run
        .history
        .iter()
        .filter(|(event, _)| event.kind() == "task_scheduled")
        .count();
    assert_eq!(begun, 200);
}

#[test]
fn everything_that_is_due_happens_in_order_of_its_time() {
    let plan = sequence(&agent_with(
        "a",
        "startWithin: PT5S, retry: {delay: PT1S, limit: {attempt: {count: 1}}}",
        "",
    ));
    given(&plan).later(86_400_000).when(fire_timers()).then([
        retried("a", 1),
        timed_out("a"),
        execution_faulted(),
    ]);
}

#[test]
fn held_tasks_have_no_clock_until_there_is_room_for_them() {
    let plan = graph(
        &[step("a", "timeout: 1m"), step("b", "timeout: 1m")].concat(),
        "maxParallel: 1",
    );
    let given = given(&plan)
        .history([begin("a", 1, "worker-1")])
        .later(59_999);
    assert_eq!(given.task("b").ready_at, None);
    let given = given
        .when(complete("a", 1, json!(1)))
        .then([completed("a")]);
    assert_eq!(given.task("b").ready_at, Some(given.run.now));
    assert_eq!(given.owed(), ["b"]);
    given
        .history([begin("b", 1, "worker-1")])
        .later(59_999)
        .when(fire_timers())
        .then_nothing()
        .later(1)
        .when(fire_timers())
        .then([timed_out("b"), execution_faulted()]);
}

#[test]
fn the_worst_agents_end_in_a_clear_fault() {
    let cases = [
        (Outcome::Silence, "Lease expired"),
        (Outcome::Nobody, "Nobody picked the task up"),
        (Outcome::failed("broken"), "broken"),
    ];
    for (outcome, title) in cases {
        let plan = sequence(&[agent_with("a", &retries(3), ""), agent("b", "")].concat());
        let mut run = Run::requested(&plan, Json::null());
        run.finish(|_| outcome.clone());
        let given = Given { run };
        assert_eq!(given.fault(), (title.to_owned(), "/do/0/a".to_owned()));
        assert_eq!(given.task("a").attempt.0, 4);
    }
}

#[test]
fn the_agents_own_error_is_kept_with_the_task_as_its_instance() {
    let plan = sequence(&[agent("a", ""), agent("b", "")].concat());
    let mut error = problem("no such card").at("somewhere else");
    error.kind = "https://example.com/errors/card".into();
    error.status = 422;
    let failure = Failure {
        error: error.clone(),
        retryable: false,
        retry_after: None,
    };
    let given = given(&plan).history([Order::Fail("a".to_owned(), 1, failure)]);
    assert_eq!(given.expect().error, Some(error.at("/do/0/a")));
}

#[test]
fn a_task_that_follows_has_clocks_of_its_own() {
    let plan = sequence(
        &[
            agent("a", "timeout: {after: PT1M}"),
            agent("b", "timeout: {after: PT1M}"),
        ]
        .concat(),
    );
    given(&plan)
        .history([begin("a", 1, "worker-1")])
        .later(59_000)
        .when(complete("a", 1, json!(1)))
        .then([completed("a"), scheduled("b")])
        .later(59_000)
        .when(fire_timers())
        .then_nothing();
}

#[test]
fn a_crash_in_the_midst_of_cancelling_changes_nothing_of_the_end() {
    let steps: String = (0..200).map(|n| step(&format!("s{n}"), "")).collect();
    let plan = graph(&steps, "timeout: 30s\nmaxParallel: 150");
    let faulty = fail_for_good("s3", 1, "broken");
    for (later, order) in [(30_000, fire_timers()), (0, faulty)] {
        let mut run = given(&plan).later(later).run;
        let begun = run.steps.len();
        run.order(&order).expect("it is accepted");
        run.advance();
        run.wait(DurationMs(0));
        assert!(run.steps.len() > begun + 3, "it takes several portions");
        for length in &run.steps[begun..] {
            let mut recovered = Run::recovered(&plan, &run.history[..*length]);
            recovered.advance();
            recovered.wait(DurationMs(0));
            recovered.finish(|_| panic!("nothing is performed any more"));
            assert_eq!(
                recovered.execution.error, run.execution.error,
                "after event {length}"
            );
        }
    }
}
