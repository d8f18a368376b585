//! `wait`: letting time pass.

use serde_json::json;

use eventflow_domain::{DurationMs, Json, execution::TaskStatus};

use crate::support::{
    Refused, Run, begin, complete, completed, execution_completed, execution_faulted, faulted,
    fire_timers, given, given_input, plans::sequence, timed_out, waits,
};

#[test]
fn a_wait_ends_when_its_time_has_come_and_passes_its_input_on() {
    let plan = sequence("- nap: {wait: PT1.5S}");
    let given = given_input(&plan, json!({"n": 1}));
    assert_eq!(given.task("nap").status, TaskStatus::Waiting);
    assert_eq!(
        given.expect().next_deadline(),
        Some(given.run.now.after(DurationMs(1_500)))
    );
    let given = given
        .later(1_499)
        .when(fire_timers())
        .then_nothing()
        .later(1)
        .when(fire_timers())
        .then([completed("nap"), execution_completed()]);
    assert_eq!(given.output(), json!({"n": 1}));
}

#[test]
fn a_span_may_be_computed_as_text_or_as_an_object() {
    for (span, milliseconds) in [
        (json!("PT2S"), 2_000),
        (json!({"minutes": 1, "milliseconds": 5}), 60_005),
    ] {
        let plan = sequence("- nap: {wait: '${ .span }'}");
        let given = given_input(&plan, json!({"span": span}));
        assert_eq!(
            given.expect().next_deadline(),
            Some(given.run.now.after(DurationMs(milliseconds)))
        );
    }
}

#[test]
fn what_is_no_span_faults_the_task() {
    for span in [
        "7",
        "null",
        "\"soon\"",
        "{}",
        "{\"years\": 1}",
        "{\"seconds\": -1}",
        "1e400",
        "\"P11Y\"",
    ] {
        let plan = sequence("- nap: {wait: '${ .span }'}");
        let input = Json::parse(&format!("{{\"span\": {span}}}")).expect("JSON");
        let mut run = Run::requested(&plan, input);
        run.advance();
        let error = run
            .execution
            .error
            .unwrap_or_else(|| panic!("{span} is no span"));
        assert_eq!(error.title.as_deref(), Some("Not a duration"), "{span}");
        assert_eq!(
            (error.status, error.instance.as_deref()),
            (400, Some("/do/0/nap"))
        );
    }
}

#[test]
fn a_span_that_cannot_be_computed_faults_the_task() {
    let plan = sequence("- nap: {wait: '${ .a.b }'}");
    let given = given_input(&plan, json!({"a": 1}));
    assert_eq!(given.fault().0, "Expression failed");
}

#[test]
fn no_time_at_all_is_a_wait_too() {
    let plan = sequence("- nap: {wait: {seconds: 0}}");
    given(&plan)
        .when(fire_timers())
        .then([completed("nap"), execution_completed()]);
}

#[test]
fn a_time_out_beats_a_longer_wait_and_an_equal_one_does_not() {
    let plan = sequence("- nap: {wait: PT10S, timeout: {after: PT5S}}");
    given(&plan)
        .later(5_000)
        .when(fire_timers())
        .then([timed_out("nap"), execution_faulted()]);
    let plan = sequence("- nap: {wait: PT5S, timeout: {after: PT5S}}");
    given(&plan)
        .later(9_000)
        .when(fire_timers())
        .then([completed("nap"), execution_completed()]);
}

#[test]
fn a_wait_has_its_output_and_export_like_any_task() {
    let plan = sequence(
        "- nap: {wait: PT1S, output: {as: {slept: '${ .n }'}}, export: {as: {slept: true}}}\n- see: {set: {c: '${ $context.slept }', s: '${ .slept }'}}",
    );
    let given = given_input(&plan, json!({"n": 1})).wait(1_000);
    assert_eq!(given.output(), json!({"c": true, "s": 1}));
    let plan = sequence("- nap: {wait: PT1S, output: {as: '${ .n.x }'}}");
    let given = given_input(&plan, json!({"n": 1}))
        .later(1_000)
        .when(fire_timers())
        .then([faulted("nap"), execution_faulted()]);
    assert_eq!(given.fault().0, "Expression failed");
}

#[test]
fn a_wait_is_nothing_for_an_agent() {
    let plan = sequence("- nap: {wait: PT1S}");
    let given = given(&plan);
    assert_eq!(given.owed(), Vec::<String>::new());
    given
        .when(begin("nap", 1, "worker-1"))
        .refused(&Refused::OtherResult)
        .when(complete("nap", 1, json!(1)))
        .refused(&Refused::OtherResult);
}

#[test]
fn a_wait_in_a_loop_waits_each_time() {
    let plan = sequence("- nap: {wait: PT1S}\n- again: {set: {z: 0}, then: nap}");
    let mut given = given(&plan);
    for _ in 0..3 {
        given = given.later(1_000).when(fire_timers()).then([
            completed("nap"),
            completed("again"),
            waits("nap"),
        ]);
    }
}

#[test]
fn hundreds_of_waits_end_at_their_times_in_their_order() {
    let branches: Vec<String> = (0..900)
        .map(|n| {
            format!(
                "{{b{n}: {{wait: {{milliseconds: {}}}}}}}",
                1_000 + (n * 7) % 500
            )
        })
        .collect();
    let plan = sequence(&format!(
        "- f: {{fork: {{branches: [{}]}}}}",
        branches.join(", ")
    ));
    let mut run = Run::requested(&plan, Json::of(&json!({})));
    run.advance();
    assert!(run.execution.next_deadline() > Some(run.now));
    while !run.execution.is_ended() {
        assert!(run.next_deadline());
    }
    for n in 0..900_i64 {
        let task = run.task(&format!("b{n}"));
        let slept = task.ended_at.expect("it ended").0 - task.scheduled_at.0;
        assert_eq!(slept, 1_000 + (n * 7) % 500);
    }
}
