//! `try`: which errors are caught, what is tried again and when, what the handler sees, and what passes on.

use serde_json::json;

use eventflow_domain::{
    error::{ErrorKind, Problem},
    execution::{Status, TaskStatus},
    plan::{ErrorFilter, Plan},
};

use crate::support::{
    Outcome, begin, cancelled, caught, complete, completed, entered, execution_completed,
    execution_faulted, fail_for_good, faulted, fire_timers, forked, given, plans::sequence, ready,
    retried, scheduled, timed_out,
};

const CALL: &str = "call: 'agent:1.0.0@default', with: {capability: work}";

/// A `try` of one agent's task `a` with this `catch`, and a task that shows what came of it.
fn tried(catch: &str) -> Plan {
    sequence(&format!(
        "- t: {{try: [{{a: {{{CALL}}}}}], catch: {catch}}}\n- after: {{set: {{got: '${{ . }}'}}}}"
    ))
}

const HANDLER: &str = "do: [{h: {set: {why: '${ $error.title }'}}}]";

#[test]
fn what_completes_needs_no_handler() {
    let plan = tried(&format!("{{{HANDLER}}}"));
    let given = given(&plan).when(complete("a", 1, json!(1))).then([
        completed("a"),
        completed("t"),
        completed("after"),
        execution_completed(),
    ]);
    assert_eq!(given.output(), json!({"got": 1}));
}

#[test]
fn an_error_is_handled_and_the_flow_goes_on_with_the_handlers_output() {
    let plan = tried(&format!("{{{HANDLER}}}"));
    let given = given(&plan).when(fail_for_good("a", 1, "declined")).then([
        faulted("a"),
        caught("t", 1),
        completed("h"),
        completed("t"),
        completed("after"),
        execution_completed(),
    ]);
    assert_eq!(given.output(), json!({"got": {"why": "declined"}}));
}

#[test]
fn a_catch_that_does_nothing_swallows_the_error_and_gives_the_input() {
    let plan = tried("{}");
    let given = given(&plan).history([fail_for_good("a", 1, "declined")]);
    assert_eq!(given.output(), json!({"got": {}}));
}

#[test]
fn an_error_filter_looks_at_each_property_that_it_has() {
    let error = Problem::new(ErrorKind::Communication, "Busy", "come back").at("/do/0/t/try/0/a");
    let none = ErrorFilter::default();
    assert!(none.matches(&error));
    let text = |text: &str| Some(text.to_owned());
    let filters = |kind: &str, status, instance: &str, title: &str, detail: &str| {
        [
            ErrorFilter {
                kind: text(kind),
                ..ErrorFilter::default()
            },
            ErrorFilter {
                status: Some(status),
                ..ErrorFilter::default()
            },
            ErrorFilter {
                instance: text(instance),
                ..ErrorFilter::default()
            },
            ErrorFilter {
                title: text(title),
                ..ErrorFilter::default()
            },
            ErrorFilter {
                detail: text(detail),
                ..ErrorFilter::default()
            },
        ]
    };
    let uri = ErrorKind::Communication.uri();
    for filter in filters(uri, 500, "/do/0/t/try/0/a", "Busy", "come back") {
        assert!(filter.matches(&error), "{filter:?}");
    }
    for filter in filters(ErrorKind::Timeout.uri(), 503, "/do/0/t", "busy", "come") {
        assert!(!filter.matches(&error), "{filter:?}");
        let both = ErrorFilter {
            status: Some(500),
            ..filter.clone()
        };
        assert_eq!(
            both.matches(&error),
            filter.status.is_some(),
            "all must be the same: {both:?}"
        );
    }
    let bare = Problem {
        title: None,
        detail: None,
        instance: None,
        ..error
    };
    assert!(
        !ErrorFilter {
            title: text("Busy"),
            ..none
        }
        .matches(&bare)
    );
}

#[test]
fn a_type_of_the_standard_matches_in_all_of_its_spellings() {
    let bases = [
        "https://serverlessworkflow.io/spec/1.0.0/errors/",
        "https://serverlessworkflow.io/dsl/errors/types/",
        "https://serverlessworkflow.io.io/dsl/errors/types/",
        "https://open-workflow-specification.org/spec/1.0.0/errors/",
        "https://open-workflow-specification.org/dsl/errors/types/",
    ];
    for base in bases {
        let plan = tried(&format!(
            "{{errors: {{with: {{type: '{base}timeout'}}}}, {HANDLER}}}"
        ));
        let given_ = given(&plan).wait(2_000_000);
        assert_eq!(
            given_.output(),
            json!({"got": {"why": "Nobody picked the task up"}}),
            "{base}"
        );
        let given = given(&plan).history([fail_for_good("a", 1, "a runtime error")]);
        assert_eq!(given.expect().status, Status::Faulted, "{base}");
    }
}

#[test]
fn what_does_not_match_passes_on_unchanged() {
    for catch in [
        "{errors: {with: {status: 404}}}",
        "{when: '${ $error.status == 404 }'}",
        "{exceptWhen: '${ .title == \"declined\" }'}",
        "{as: problem, when: '${ $problem.status > 500 }'}",
    ] {
        let plan = tried(catch);
        let given = given(&plan).when(fail_for_good("a", 1, "declined")).then([
            faulted("a"),
            faulted("t"),
            execution_faulted(),
        ]);
        assert_eq!(
            given.fault(),
            ("declined".to_owned(), "/do/0/t/try/0/a".to_owned()),
            "{catch}"
        );
    }
}

#[test]
fn a_condition_that_fails_is_the_error_then() {
    let plan = tried("{when: '${ .title.x }'}");
    let given = given(&plan).history([fail_for_good("a", 1, "declined")]);
    assert_eq!(
        given.fault(),
        ("Expression failed".to_owned(), "/do/0/t".to_owned())
    );
}

#[test]
fn a_retry_begins_the_body_again_after_its_delay_and_counts_its_attempts() {
    let plan = tried(&format!(
        "{{retry: {{delay: PT2S, backoff: {{exponential: {{}}}}, limit: {{attempt: {{count: 2}}}}}}, {HANDLER}}}"
    ));
    let given = given(&plan)
        .when(fail_for_good("a", 1, "declined"))
        .then([faulted("a"), retried("t", 1)]);
    assert_eq!(given.task("t").status, TaskStatus::Waiting);
    assert_eq!(given.owed(), Vec::<String>::new());
    let given = given
        .later(1_999)
        .when(fire_timers())
        .then_nothing()
        .later(1)
        .when(fire_timers())
        .then([ready("t", 2), scheduled("a")])
        .when(fail_for_good("a", 2, "declined"))
        .then([faulted("a"), retried("t", 2)])
        .later(4_000)
        .when(fire_timers())
        .then([ready("t", 3), scheduled("a")])
        .when(fail_for_good("a", 3, "declined again"))
        .then([
            faulted("a"),
            caught("t", 3),
            completed("h"),
            completed("t"),
            completed("after"),
            execution_completed(),
        ]);
    assert_eq!(given.output(), json!({"got": {"why": "declined again"}}));
}

#[test]
fn what_was_tried_in_vain_and_nobody_handles_passes_on() {
    let plan = tried("{retry: {delay: PT1S, limit: {attempt: {count: 1}}}}");
    let given = given(&plan)
        .history([fail_for_good("a", 1, "declined")])
        .wait(1_000)
        .when(fail_for_good("a", 2, "declined again"))
        .then([faulted("a"), faulted("t"), execution_faulted()]);
    assert_eq!(given.fault().0, "declined again");
}

#[test]
fn a_second_try_that_works_needs_no_handler() {
    let plan = tried(&format!("{{retry: {{delay: PT1S}}, {HANDLER}}}"));
    let given = given(&plan)
        .history([fail_for_good("a", 1, "declined")])
        .wait(1_000)
        .history([complete("a", 2, json!("paid"))]);
    assert_eq!(given.output(), json!({"got": "paid"}));
}

#[test]
fn retry_has_conditions_of_its_own() {
    for (condition, kind) in [
        ("when: '${ $error.title == \"busy\" }'", "busy"),
        ("exceptWhen: '${ .title == \"declined\" }'", "busy"),
    ] {
        let plan = tried(&format!(
            "{{retry: {{{condition}, delay: PT1S}}, {HANDLER}}}"
        ));
        given(&plan)
            .when(fail_for_good("a", 1, kind))
            .then([faulted("a"), retried("t", 1)]);
        let given = given(&plan).history([fail_for_good("a", 1, "declined")]);
        assert_eq!(
            given.output(),
            json!({"got": {"why": "declined"}}),
            "{condition}"
        );
    }
}

#[test]
fn jitter_is_added_within_its_range_and_is_the_same_each_time() {
    let plan = tried("{retry: {delay: PT1S, jitter: {from: PT1S, to: PT3S}}}");
    let due = || {
        let given = given(&plan).history([fail_for_good("a", 1, "declined")]);
        let due = given.expect().next_deadline().expect("a retry");
        due.0 - given.run.now.0
    };
    assert!((2_000..=4_000).contains(&due()), "{}", due());
    assert_eq!(due(), due());
}

#[test]
fn no_further_try_begins_after_the_time_for_all_of_them() {
    let plan = tried(&format!(
        "{{retry: {{delay: PT2S, limit: {{attempt: {{count: 9}}, duration: PT5S}}}}, {HANDLER}}}"
    ));
    given(&plan)
        .history([fail_for_good("a", 1, "x")])
        .wait(2_000)
        .history([fail_for_good("a", 2, "x")])
        .wait(2_000)
        .when(fail_for_good("a", 3, "x"))
        .then([
            faulted("a"),
            caught("t", 3),
            completed("h"),
            completed("t"),
            completed("after"),
            execution_completed(),
        ]);
}

#[test]
fn a_try_may_take_no_longer_than_its_attempts_may() {
    let plan = tried(&format!(
        "{{errors: {{with: {{status: 408}}}}, retry: {{delay: PT1S, limit: {{attempt: {{count: 1, duration: PT3S}}}}}}, {HANDLER}}}"
    ));
    let given = given(&plan)
        .history([begin("a", 1, "worker-1")])
        .later(3_000)
        .when(fire_timers())
        .then([cancelled("a"), retried("t", 1)])
        .later(1_000)
        .when(fire_timers())
        .then([ready("t", 2), scheduled("a")])
        .later(3_000)
        .when(fire_timers())
        .then([
            cancelled("a"),
            caught("t", 2),
            completed("h"),
            completed("t"),
            completed("after"),
            execution_completed(),
        ]);
    assert_eq!(given.output(), json!({"got": {"why": "Attempt timed out"}}));
}

#[test]
fn the_clock_of_an_attempt_stops_with_it_and_does_not_run_for_the_handler() {
    let plan = sequence(&format!(
        "- t: {{try: [{{a: {{{CALL}}}}}], catch: {{retry: {{limit: {{attempt: {{count: 0, duration: PT3S}}}}}}, do: [{{h: {{{CALL}}}}}]}}}}"
    ));
    let given = given(&plan)
        .history([fail_for_good("a", 1, "x")])
        .wait(60_000);
    assert_eq!(given.owed(), ["h"]);
    let given = given.history([complete("h", 1, json!("handled"))]);
    assert_eq!(given.output(), json!("handled"));
}

#[test]
fn an_error_in_the_handler_passes_on() {
    let plan =
        tried("{do: [{h: {raise: {error: {type: 'https://e', status: 409, title: Conflict}}}}]}");
    let given = given(&plan).when(fail_for_good("a", 1, "declined")).then([
        faulted("a"),
        caught("t", 1),
        faulted("h"),
        faulted("t"),
        execution_faulted(),
    ]);
    assert_eq!(
        given.fault(),
        ("Conflict".to_owned(), "/do/0/t/catch/do/0/h".to_owned())
    );
}

#[test]
fn what_passes_on_is_caught_further_out() {
    let plan = sequence(&format!(
        "- outer: {{try: [{{inner: {{try: [{{a: {{{CALL}}}}}], catch: {{errors: {{with: {{status: 404}}}}}}}}}}], catch: {{as: e, do: [{{h: {{set: {{at: '${{ $e.instance }}'}}}}}}]}}}}"
    ));
    let given = given(&plan).history([fail_for_good("a", 1, "declined")]);
    assert_eq!(
        given.output(),
        json!({"at": "/do/0/outer/try/0/inner/try/0/a"})
    );
}

#[test]
fn a_handler_sees_its_own_error_and_those_around_it_under_their_names() {
    let plan = sequence(&format!(
        "- outer:
    try: [{{a: {{{CALL}}}}}]
    catch:
      do:
        - inner:
            try: [{{b: {{raise: {{error: {{type: 'https://e', status: 409, title: Inner}}}}}}}}]
            catch:
              as: problem
              do:
                - deep: {{do: [{{both: {{set: {{one: '${{ $error.title }}', two: '${{ $problem.title }}'}}}}}}]}}
        - later: {{set: {{both: '${{ . }}', still: '${{ $error.title }}'}}}}"
    ));
    let given = given(&plan).history([fail_for_good("a", 1, "Outer")]);
    assert_eq!(
        given.output(),
        json!({"both": {"one": "Outer", "two": "Inner"}, "still": "Outer"})
    );
}

#[test]
fn a_retry_begins_nested_lists_forks_and_tries_again() {
    let plan = sequence(&format!(
        "- t:
    try:
      - list: {{do: [{{one: {{set: {{n: 1}}}}}}]}}
      - f: {{fork: {{branches: [{{a: {{{CALL}}}}}, {{b: {{{CALL}}}}}, {{s: {{set: {{s: 1}}}}}}]}}}}
    catch: {{retry: {{delay: PT1S}}}}"
    ));
    let given = given(&plan)
        .history([complete("a", 1, json!("a1"))])
        .when(fail_for_good("b", 1, "declined"))
        .then([faulted("b"), faulted("f"), retried("t", 1)])
        .later(1_000)
        .when(fire_timers())
        .then([
            ready("t", 2),
            entered("list"),
            completed("one"),
            completed("list"),
            forked("f"),
            scheduled("a"),
            scheduled("b"),
            completed("s"),
        ])
        .history([complete("a", 2, json!("a2")), complete("b", 2, json!("b2"))]);
    assert_eq!(given.output(), json!(["a2", "b2", {"s": 1}]));
}

#[test]
fn time_outs_of_tasks_and_of_lists_inside_are_caught_and_the_trys_own_is_not() {
    for (body, by) in [
        (format!("{{a: {{{CALL}, timeout: {{after: PT2S}}}}}}"), "a"),
        (
            format!("{{a: {{do: [{{b: {{{CALL}}}}}], timeout: {{after: PT2S}}}}}}"),
            "a",
        ),
    ] {
        let plan = sequence(&format!(
            "- t: {{try: [{body}], catch: {{do: [{{h: {{set: {{by: '${{ $error.instance }}'}}}}}}]}}}}"
        ));
        let given = given(&plan).wait(2_000);
        assert_eq!(given.output(), json!({"by": format!("/do/0/t/try/0/{by}")}));
    }
    let plan = sequence(&format!(
        "- t: {{try: [{{a: {{{CALL}}}}}], catch: {{}}, timeout: {{after: PT2S}}}}"
    ));
    given(&plan).later(2_000).when(fire_timers()).then([
        cancelled("a"),
        timed_out("t"),
        execution_faulted(),
    ]);
}

#[test]
fn a_try_may_time_out_between_its_attempts() {
    let plan = sequence(&format!(
        "- t: {{try: [{{a: {{{CALL}}}}}], catch: {{retry: {{delay: PT1H}}}}, timeout: {{after: PT5S}}}}"
    ));
    given(&plan)
        .history([fail_for_good("a", 1, "x")])
        .later(5_000)
        .when(fire_timers())
        .then([timed_out("t"), execution_faulted()]);
}

#[test]
fn exit_and_end_work_in_bodies_and_in_handlers() {
    let list = |then: &str| {
        format!("[{{x: {{set: {{n: 1}}, then: {then}}}}}, {{never: {{set: {{n: 2}}}}}}]")
    };
    let raise = "[{r: {raise: {error: {type: 'https://e', status: 500}}}}]";
    for (body, handler) in [
        (list("exit"), "[{h: {set: {z: 0}}}]".to_owned()),
        (raise.to_owned(), list("exit")),
    ] {
        let plan = sequence(&format!(
            "- t: {{try: {body}, catch: {{do: {handler}}}}}\n- after: {{set: {{after: '${{ .n }}'}}}}"
        ));
        assert_eq!(given(&plan).output(), json!({"after": 1}));
    }
    for (body, handler) in [
        (list("end"), "[{h: {set: {z: 0}}}]".to_owned()),
        (raise.to_owned(), list("end")),
    ] {
        let plan = sequence(&format!(
            "- t: {{try: {body}, catch: {{do: {handler}}}}}\n- after: {{set: {{after: 1}}}}"
        ));
        assert_eq!(given(&plan).output(), json!({"n": 1}));
    }
}

#[test]
fn a_try_in_a_loop_has_all_of_its_retries_and_no_error_again() {
    let plan = sequence(&format!(
        "- t: {{try: [{{a: {{{CALL}}}}}], catch: {{retry: {{delay: PT1S, limit: {{attempt: {{count: 1}}}}}}, do: [{{h: {{set: {{z: 0}}}}}}]}}}}\n- back: {{{CALL}, then: t}}"
    ));
    given(&plan)
        .history([fail_for_good("a", 1, "x")])
        .wait(1_000)
        .history([fail_for_good("a", 2, "x"), complete("back", 1, json!(1))])
        .when(fail_for_good("a", 3, "x"))
        .then([faulted("a"), retried("t", 3)])
        .later(1_000)
        .when(fire_timers())
        .then([ready("t", 4), scheduled("a")])
        .when(complete("a", 4, json!(1)))
        .then([completed("a"), completed("t"), scheduled("back")]);
}

#[test]
fn the_context_that_a_failed_try_has_exported_stays() {
    let plan = sequence(
        "- t: {try: [{a: {set: {z: 0}, export: {as: {was: here}}}}, {r: {raise: {error: {type: 'https://e', status: 500}}}}], catch: {do: [{h: {set: {was: '${ $context.was }'}}}]}}",
    );
    assert_eq!(given(&plan).output(), json!({"was": "here"}));
}

/// The time of an attempt passes between two of its tasks, when a full step has left the end of the first without its
/// consequences. Of as many branches as fill a step, the last whose timer is due is that of index 9, by its text.
#[test]
fn nothing_begins_in_a_try_that_waits_for_its_next_attempt() {
    let branch = |n: u32| {
        let limit = if n == 9 { ", duration: PT5S" } else { "" };
        let retry = format!("{{delay: PT1H, limit: {{attempt: {{count: 1{limit}}}}}}}");
        format!(
            "{{t{n}: {{try: [{{w{n}: {{wait: PT4S}}}}, {{a{n}: {{{CALL}}}}}], catch: {{retry: {retry}}}}}}}"
        )
    };
    let branches: Vec<String> = (0..25).map(branch).collect();
    let plan = sequence(&format!(
        "- f: {{fork: {{branches: [{}]}}}}",
        branches.join(", ")
    ));
    let mut run = given(&plan).later(5_000).run;
    run.order(&fire_timers()).expect("never refused");
    assert_eq!(run.task("w9").status, TaskStatus::Completed);
    assert!(run.execution.owes_advance(), "the step was full");
    run.order(&fire_timers()).expect("never refused");
    assert_eq!(run.task("t9").status, TaskStatus::Waiting);
    run.advance();
    assert!(
        !run.execution
            .tasks
            .contains_key(&crate::support::reference(&plan, "a9"))
    );
    run.finish(|_| Outcome::done(&json!(1)));
    crate::support::laws::check(&plan, &run.history);
}
