//! Pause, resume and stop: what waits, what runs out, what is refused, and that nothing is lost.

use serde_json::json;

use eventflow_domain::{
    DurationMs, Json, Sequence,
    execution::{Command, Control, Event, Status, TaskStatus, decide},
    limits::EVENTS_PER_STEP_MAX,
    plan::Plan,
};

use crate::support::{
    Given, Outcome, Refused, Run, begin, cancelled, complete, completed, execution_cancelled,
    execution_completed, execution_timed_out, expire, fail, fail_for_good, faulted, fire_timers,
    given, pause, pause_requested,
    plans::{agent, agent_with, document, graph, order, retries, sequence, step},
    ready, resume, resumed, retried, scheduled, started, stop, stop_requested, suspended,
};

/// Branches for agents beside each other.
fn beside(names: &[&str]) -> Plan {
    let branch = |name: &&str| {
        format!(
            "{{{name}: {{call: 'agent:1.0.0@default', with: {{capability: {name}, startWithin: PT10S}}}}}}"
        )
    };
    let branches: Vec<String> = names.iter().map(branch).collect();
    sequence(&format!(
        "- f: {{fork: {{branches: [{}]}}}}",
        branches.join(", ")
    ))
}

fn status(given: &Given<'_>) -> Status {
    given.expect().status
}

#[test]
fn what_nobody_has_begun_is_not_handed_out_until_it_is_resumed() {
    let plan = order();
    let given = given(&plan)
        .when(pause())
        .then([pause_requested(), suspended()]);
    assert_eq!(given.owed(), Vec::<String>::new());
    let given = given
        .when(begin("charge", 1, "worker-1"))
        .refused(&Refused::Paused)
        .when(resume())
        .then([resumed()]);
    assert_eq!(
        (status(&given), given.owed()),
        (Status::Running, vec!["charge".to_owned()])
    );
    given
        .when(begin("charge", 1, "worker-1"))
        .then([started("charge", "worker-1")]);
}

#[test]
fn whoever_follows_what_is_owed_hears_of_all_of_it_after_a_pause() {
    let plan = beside(&["a", "b", "c"]);
    let given = given(&plan).history([begin("b", 1, "worker-1"), pause()]);
    let heard = given.expect().sequence;
    let given = given.history([resume()]);
    let owed: Vec<_> = given
        .expect()
        .owed(heard)
        .map(|owed| owed.reference.pointer.to_string())
        .collect();
    assert_eq!(
        owed,
        ["/do/0/f/fork/branches/0/a", "/do/0/f/fork/branches/2/c"]
    );
    assert_eq!(
        given.owed(),
        ["b", "a", "c"],
        "what is with somebody stays where it was"
    );
}

#[test]
fn what_was_begun_runs_out_and_its_result_is_kept() {
    let plan = order();
    let given = given(&plan)
        .history([begin("charge", 1, "worker-1")])
        .when(pause())
        .then([pause_requested()]);
    assert_eq!(
        (status(&given), given.owed()),
        (Status::Suspending, vec!["charge".to_owned()])
    );
    let given = given
        .when(begin("charge", 1, "worker-1"))
        .then_nothing()
        .when(complete("charge", 1, json!({"paid": true})))
        .then([completed("charge"), suspended()]);
    assert_eq!(given.output_of("charge"), json!({"paid": true}));
    given
        .when(complete("charge", 1, json!({"paid": true})))
        .then_nothing()
        .when(resume())
        .then([resumed(), scheduled("ship")]);
}

#[test]
fn it_is_suspended_once_the_last_of_them_has_ended() {
    let plan = beside(&["a", "b", "c"]);
    given(&plan)
        .history([
            begin("a", 1, "worker-1"),
            begin("b", 1, "worker-2"),
            pause(),
        ])
        .when(fail_for_good("a", 1, "x"))
        .then([faulted("a")])
        .when(expire("b", 1))
        .then([retried("b", 1), suspended()])
        .when(resume())
        .then([
            resumed(),
            cancelled("b"),
            cancelled("c"),
            faulted("f"),
            crate::support::execution_faulted(),
        ]);
}

#[test]
fn a_failure_while_paused_schedules_its_retry_which_is_handed_out_after_the_resume() {
    let plan = order();
    let given = given(&plan)
        .history([begin("charge", 1, "worker-1"), pause()])
        .when(fail("charge", 1, "busy"))
        .then([retried("charge", 1), suspended()])
        .later(60_000)
        .when(fire_timers())
        .then_nothing()
        .when(resume())
        .then([resumed()])
        .when(fire_timers())
        .then([ready("charge", 2)]);
    assert_eq!(given.owed(), ["charge"]);
}

#[test]
fn timers_keep_their_times_and_act_on_resume() {
    let plan = sequence("- nap: {wait: PT10S}");
    let before = given(&plan).wait(4_000);
    let due = before.expect().next_deadline();
    let paused = before.history([pause()]);
    let own = paused.expect().created_at.after(plan.timeout);
    assert_eq!(
        paused.expect().next_deadline(),
        Some(own),
        "only the execution's own"
    );
    let early = paused.history([resume()]);
    assert_eq!(early.expect().next_deadline(), due);
    early
        .history([pause()])
        .later(60_000)
        .history([resume()])
        .when(fire_timers())
        .then([completed("nap"), execution_completed()]);
}

#[test]
fn the_executions_own_time_out_fires_while_it_is_paused() {
    let plan = document(&agent("a", ""), "timeout: {after: PT1M}");
    given(&plan)
        .history([pause()])
        .later(60_000)
        .when(fire_timers())
        .then([cancelled("a"), execution_timed_out()]);
    let given = given(&plan)
        .history([begin("a", 1, "worker-1"), pause()])
        .wait(60_000);
    assert_eq!(status(&given), Status::Faulted);
}

#[test]
fn the_time_to_be_picked_up_begins_anew_on_resume() {
    let plan = sequence(&agent_with(
        "a",
        &format!("startWithin: PT5S, {}", retries(1)),
        "",
    ));
    given(&plan)
        .wait(4_000)
        .history([pause()])
        .later(60_000)
        .history([resume()])
        .later(4_999)
        .when(fire_timers())
        .then_nothing()
        .later(1)
        .when(fire_timers())
        .then([retried("a", 1)]);
}

#[test]
fn what_is_held_above_max_parallel_takes_its_place_and_waits_for_the_resume() {
    let plan = graph(
        &[step("a", ""), step("b", ""), step("c", "")].concat(),
        "maxParallel: 1",
    );
    let given = given(&plan)
        .history([begin("a", 1, "worker-1"), pause()])
        .when(complete("a", 1, json!(1)))
        .then([completed("a"), suspended()]);
    assert_eq!(given.owed(), Vec::<String>::new());
    given
        .when(begin("b", 1, "worker-1"))
        .refused(&Refused::Paused);
    let given = crate::support::given(&plan).history([
        begin("a", 1, "worker-1"),
        pause(),
        complete("a", 1, json!(1)),
        resume(),
    ]);
    assert_eq!(given.owed(), ["b"]);
}

#[test]
fn an_execution_may_be_paused_before_it_has_started() {
    let plan = order();
    let mut run = Run::requested(&plan, Json::of(&json!({})));
    run.order(&pause()).expect("it is open");
    assert_eq!(run.execution.status, Status::Suspended);
    assert!(!run.execution.owes_advance());
    let mut recovered = Run::recovered(&plan, &run.history);
    recovered.advance();
    assert_eq!(recovered.history, run.history);
    recovered.order(&resume()).expect("it is paused");
    assert_eq!(recovered.owed(), ["charge"]);
}

#[test]
fn a_result_that_fills_its_step_leaves_the_suspension_to_an_advance() {
    let plan = sequence(&agent("a", "export: {as: '${ {kept: .text} }'}"));
    let given = given(&plan).history([begin("a", 1, "worker-1"), pause()]);
    let mut run = given.run;
    run.order(&complete("a", 1, json!({"text": "x".repeat(65_500)})))
        .expect("it is wanted");
    assert_eq!(
        run.execution.status,
        Status::Suspending,
        "the step was full"
    );
    assert!(run.execution.owes_advance());
    run.advance();
    assert_eq!(run.execution.status, Status::Suspended);
}

#[test]
fn repeats_change_nothing() {
    let plan = order();
    given(&plan)
        .when(resume())
        .then_nothing()
        .history([begin("charge", 1, "worker-1"), pause()])
        .when(pause())
        .then_nothing()
        .history([complete("charge", 1, json!(1))])
        .when(pause())
        .then_nothing()
        .history([resume()])
        .when(resume())
        .then_nothing()
        .history([stop()])
        .when(stop())
        .then_nothing();
}

#[test]
fn a_reason_is_remembered_in_the_history() {
    let plan = order();
    let mut run = given(&plan).run;
    let control = Control {
        reason: Some("the bank is closed".into()),
    };
    run.command(&Command::Pause(control.clone()))
        .expect("it is open");
    assert!(
        run.history
            .iter()
            .any(|(event, _)| *event == Event::ExecutionPauseRequested(control.clone()))
    );
}

#[test]
fn stop_cancels_everything_from_wherever_it_stands() {
    let plan = order();
    given(&plan)
        .when(stop())
        .then([stop_requested(), cancelled("charge"), execution_cancelled()]);
    given(&plan)
        .history([begin("charge", 1, "worker-1"), pause()])
        .when(stop())
        .then([stop_requested(), cancelled("charge"), execution_cancelled()]);
    let given = given(&plan).history([pause()]).when(stop()).then([
        stop_requested(),
        cancelled("charge"),
        execution_cancelled(),
    ]);
    assert_eq!(given.expect().next_deadline(), None);
    let mut run = Run::requested(&plan, Json::of(&json!({})));
    run.order(&stop()).expect("it is open");
    assert_eq!(run.execution.status, Status::Cancelled);
    assert_eq!(run.execution.started_at, None);
}

#[test]
fn a_late_result_of_what_was_stopped_is_refused() {
    let plan = order();
    given(&plan)
        .history([begin("charge", 1, "worker-1"), stop()])
        .when(complete("charge", 1, json!(1)))
        .refused(&Refused::Superseded("the task was cancelled"))
        .when(fail("charge", 1, "x"))
        .refused(&Refused::Superseded("the task was cancelled"))
        .when(begin("charge", 1, "worker-1"))
        .refused(&Refused::Superseded("the task was cancelled"))
        .when(expire("charge", 1))
        .then_nothing()
        .when(fire_timers())
        .then_nothing();
}

#[test]
fn a_large_execution_is_stopped_in_portions_and_takes_nothing_meanwhile() {
    let names: Vec<String> = (0..300).map(|n| format!("b{n}")).collect();
    let plan = beside(&names.iter().map(String::as_str).collect::<Vec<_>>());
    // The pointers are in the order of their text, so this one is among the last.
    let mut run = given(&plan).history([begin("b99", 1, "worker-1")]).run;
    let events = run.order(&stop()).expect("it is open");
    assert!(events.len() <= EVENTS_PER_STEP_MAX);
    assert!(run.execution.is_stopping && run.execution.owes_advance() && !run.execution.is_ended());
    assert_eq!(run.task("b99").status, TaskStatus::Running);
    assert_eq!(
        run.owed(),
        ["b99"],
        "who is at it is told by the next heartbeat"
    );
    let mut crashed = Run::recovered(&plan, &run.history);
    run.now = run.now.after(plan.timeout);
    assert_eq!(
        run.execution.next_deadline(),
        None,
        "no timer acts any more"
    );
    assert_eq!(
        run.command(&Command::FireTimers)
            .expect("never refused")
            .len()
            % 16,
        0,
        "only cancellations"
    );
    let stopping = "the execution is being stopped";
    let mut refused = |order, expected: &Refused| {
        let rejection = run.order(&order).expect_err("nothing is taken");
        assert_eq!(&Refused::of(&rejection), expected);
    };
    refused(complete("b99", 1, json!(1)), &Refused::Superseded(stopping));
    refused(fail("b99", 1, "x"), &Refused::Superseded(stopping));
    refused(begin("b98", 1, "worker-1"), &Refused::Stopping);
    refused(pause(), &Refused::Stopping);
    refused(resume(), &Refused::Stopping);
    let again = decide(&run.execution, &plan, &stop().command(&plan), run.now);
    assert_eq!(again, Ok(Vec::new()));
    run.advance();
    crashed.advance();
    for run in [&run, &crashed] {
        assert_eq!(run.execution.status, Status::Cancelled);
        assert!(
            run.execution
                .tasks
                .values()
                .all(|task| task.status == TaskStatus::Cancelled)
        );
        crate::support::laws::check(&plan, &run.history);
    }
}

#[test]
fn what_has_ended_cannot_be_controlled() {
    let plan = sequence("- a: {set: {n: 1}}");
    for order in [pause(), resume(), stop()] {
        given(&plan)
            .when(order)
            .refused(&Refused::Ended(Status::Completed));
    }
    let plan = sequence("- a: {raise: {error: {type: 'https://e', status: 500}}}");
    for order in [pause(), resume(), stop()] {
        given(&plan)
            .when(order)
            .refused(&Refused::Ended(Status::Faulted));
    }
    let plan = order();
    for order in [pause(), resume()] {
        given(&plan)
            .history([stop()])
            .when(order)
            .refused(&Refused::Ended(Status::Cancelled));
    }
}

#[test]
fn a_stopped_try_handles_nothing() {
    let plan = sequence(
        "- t: {try: [{a: {call: 'agent:1.0.0@default', with: {capability: a}}}], catch: {do: [{h: {set: {z: 0}}}]}}",
    );
    given(&plan).when(stop()).then([
        stop_requested(),
        cancelled("t"),
        cancelled("a"),
        execution_cancelled(),
    ]);
}

/// Drawing what follows from one event of many must not look at all of them.
#[test]
fn many_waiting_timers_cost_a_pause_nothing() {
    let names: Vec<String> = (0..900).map(|n| format!("b{n}")).collect();
    let plan = beside(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut run = given(&plan).run;
    run.order(&pause()).expect("it is open");
    assert_eq!(run.execution.owed(Sequence(0)).count(), 0);
    run.order(&resume()).expect("it is paused");
    assert_eq!(run.execution.owed(Sequence(0)).count(), 900);
    run.wait(DurationMs(5_000));
    run.finish(|_| Outcome::done(&json!(1)));
    assert_eq!(run.execution.status, Status::Completed);
}
