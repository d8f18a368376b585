//! Forks: branches side by side, their outputs, their `$context`, who wins a race, and how a fork ends early.

use serde_json::{Value, json};

use eventflow_domain::{
    DurationMs, Json, Sequence,
    execution::{Status, TaskStatus},
    plan::Plan,
};

use crate::support::{
    Given, Outcome, Run, begin, cancelled, complete, completed, entered, execution_completed,
    execution_faulted, fail_for_good, faulted, forked, given, given_input, plans::sequence,
    scheduled, skipped, waits,
};

/// A task for agents in flow style.
fn call(name: &str, rest: &str) -> String {
    let rest = if rest.is_empty() {
        String::new()
    } else {
        format!(", {rest}")
    };
    format!("{{{name}: {{call: 'agent:1.0.0@default', with: {{capability: {name}}}{rest}}}}}")
}

/// A fork `f` of these branches and what comes after it.
fn fork(branches: &[String], rest: &str, after: &str) -> Plan {
    let rest = if rest.is_empty() {
        String::new()
    } else {
        format!(", {rest}")
    };
    let branches = branches.join(", ");
    sequence(&format!(
        "- f: {{fork: {{branches: [{branches}]{rest}}}}}\n{after}"
    ))
}

fn race(branches: &[String]) -> Plan {
    fork(branches, "compete: true", "")
}

fn context(given: &Given<'_>) -> Value {
    given
        .expect()
        .context
        .json()
        .expect("it is in memory")
        .to_value()
}

const AFTER: &str = "- after: {set: {of: '${ . }', context: '${ $context }'}}";

#[test]
fn all_branches_begin_at_once_and_their_outputs_come_in_declared_order() {
    let plan = fork(&[call("a", ""), call("b", ""), call("c", "")], "", "");
    let given = given(&plan);
    assert_eq!(given.owed(), ["a", "b", "c"]);
    let given = given
        .history([complete("c", 1, json!(3)), complete("a", 1, json!(1))])
        .when(complete("b", 1, json!(2)))
        .then([completed("b"), completed("f"), execution_completed()]);
    assert_eq!(given.output(), json!([1, 2, 3]));
}

#[test]
fn each_branch_gets_the_forks_input() {
    let plan = sequence(
        "- f: {input: {from: '${ .order }'}, fork: {branches: [{a: {call: 'agent:1.0.0@default', with: {capability: a}}}, {b: {set: {got: '${ .id }'}}}]}}",
    );
    let given = given_input(&plan, json!({"order": {"id": 7}}));
    assert_eq!(given.work_of("a"), json!({"id": 7}));
    assert_eq!(given.output_of("b"), json!({"got": 7}));
}

#[test]
fn a_failing_branch_cancels_what_runs_beside_it() {
    let plan = fork(
        &[
            call("a", ""),
            call("b", ""),
            "{deep: {do: [{nap: {wait: PT1H}}]}}".to_owned(),
        ],
        "",
        AFTER,
    );
    let given = given(&plan)
        .history([begin("a", 1, "worker-1")])
        .when(fail_for_good("b", 1, "refused"))
        .then([
            faulted("b"),
            cancelled("a"),
            cancelled("deep"),
            cancelled("nap"),
            faulted("f"),
            execution_faulted(),
        ]);
    assert_eq!(given.fault().0, "refused");
    assert_eq!(given.expect().next_deadline(), None);
}

#[test]
fn a_skipped_branch_gives_null() {
    let plan = fork(&[call("a", ""), call("b", "if: '${ false }'")], "", "");
    let given = given(&plan).history([complete("a", 1, json!(1))]);
    assert_eq!(given.output(), json!([1, null]));
}

#[test]
fn branches_that_are_all_skipped_give_nulls_and_a_race_of_them_gives_null() {
    let branches = [call("a", "if: '${ false }'"), call("b", "if: '${ false }'")];
    let plan = fork(&branches, "", "");
    assert_eq!(given(&plan).output(), json!([null, null]));
    let plan = race(&branches);
    assert_eq!(given(&plan).output(), Value::Null);
}

#[test]
fn each_branch_has_a_context_of_its_own_and_they_merge_in_declared_order() {
    let set = |name: &str, value: u8| {
        format!(
            "{{{name}: {{set: {{n: {value}}}, export: {{as: '${{ $context + {{last: .n, {name}: .n}} }}'}}}}}}"
        )
    };
    let sees = "{sees: {set: {seen: '${ $context }'}}}";
    let plan = sequence(&format!(
        "- before: {{set: {{z: 0}}, export: {{as: {{kept: 0, last: 0}}}}}}\n\
         - f: {{fork: {{branches: [{{x: {{do: [{}, {}]}}}}, {}, {sees}]}}}}\n{AFTER}",
        call("slow", ""),
        set("a", 1),
        set("b", 2),
    ));
    let given = given(&plan).history([complete("slow", 1, json!(0))]);
    assert_eq!(
        given.output_of("sees"),
        json!({"seen": {"kept": 0, "last": 0}})
    );
    let merged = json!({"kept": 0, "last": 2, "a": 1, "b": 2});
    assert_eq!(
        given.output()["context"],
        merged,
        "the last in declared order wins, though it was first in time"
    );
    assert_eq!(context(&given), merged);
}

#[test]
fn a_task_sees_what_was_exported_before_it_in_its_own_branch_only() {
    let branch = |name: &str| {
        format!(
            "{{{name}: {{do: [{{{name}1: {{set: {{z: 0}}, export: {{as: {{by: {name}}}}}}}}}, {{{name}2: {{set: {{seen: '${{ $context.by }}'}}}}}}]}}}}"
        )
    };
    let plan = fork(&[branch("a"), branch("b")], "", "");
    assert_eq!(given(&plan).output(), json!([{"seen": "a"}, {"seen": "b"}]));
}

#[test]
fn merged_numbers_stay_what_they_were_and_a_context_that_is_no_object_wins_whole() {
    let exporting =
        |name: &str, read: &str| call(name, &format!("export: {{as: '${{ {read} }}'}}"));
    let plan = fork(
        &[exporting("a", ".context"), exporting("b", ".context")],
        "",
        "",
    );
    let run = |a: &str, b: &str| {
        let mut run = Run::requested(&plan, Json::of(&json!({})));
        run.finish(|job| {
            let text = if job.task == "a" { a } else { b };
            Outcome::Done(eventflow_domain::Value::new(
                Json::parse(text).expect("JSON"),
            ))
        });
        assert_eq!(
            run.execution.status,
            Status::Completed,
            "{:?}",
            run.execution.error
        );
        run.execution
            .context
            .json()
            .expect("in memory")
            .as_str()
            .to_owned()
    };
    let merged = run(
        r#"{"context": {"x": 1e400}}"#,
        r#"{"context": {"y": 12345678901234567890123}}"#,
    );
    assert_eq!(merged, r#"{"x":1e400,"y":12345678901234567890123}"#);
    assert_eq!(run(r#"{"context": {"x": 1}}"#, r#"{"context": 7}"#), "7");
}

#[test]
fn end_inside_a_branch_ends_the_execution_and_cancels_its_siblings() {
    let ends = format!(
        "{{x: {{do: [{}, {{never: {{set: {{z: 0}}}}}}]}}}}",
        call("a", "then: end")
    );
    let plan = fork(&[ends, call("b", "")], "", AFTER);
    let given = given(&plan).when(complete("a", 1, json!("over"))).then([
        completed("a"),
        completed("x"),
        cancelled("b"),
        completed("f"),
        execution_completed(),
    ]);
    assert_eq!(given.output(), json!("over"));
}

#[test]
fn end_in_a_nested_fork_ends_the_execution_too() {
    let inner = format!(
        "{{g: {{fork: {{branches: [{}, {}]}}}}}}",
        call("a", "then: end"),
        call("b", "")
    );
    let plan = fork(&[inner, call("c", "")], "", AFTER);
    let given = given(&plan).history([complete("a", 1, json!(1))]);
    assert_eq!(given.output(), json!(1));
    for name in ["b", "c"] {
        assert_eq!(given.task(name).status, TaskStatus::Cancelled);
    }
}

#[test]
fn exit_and_continue_only_end_the_branch() {
    for directive in ["exit", "continue"] {
        let plan = fork(
            &[call("a", &format!("then: {directive}")), call("b", "")],
            "",
            AFTER,
        );
        let given = given(&plan)
            .when(complete("a", 1, json!(1)))
            .then([completed("a")])
            .history([complete("b", 1, json!(2))]);
        assert_eq!(given.output()["of"], json!([1, 2]));
    }
}

#[test]
fn the_first_to_decide_counts_also_when_all_of_it_comes_to_light_after_a_pause_and_a_crash() {
    // The one that ends the execution stands last, and ends first.
    let plan = fork(
        &[call("a", ""), call("b", ""), call("z", "then: end")],
        "",
        AFTER,
    );
    let given = given(&plan)
        .history([
            begin("a", 1, "worker-1"),
            begin("b", 1, "worker-1"),
            begin("z", 1, "worker-1"),
            crate::support::pause(),
            complete("z", 1, json!("first")),
        ])
        .wait(5)
        .history([fail_for_good("a", 1, "too late")])
        .history([complete("b", 1, json!(2))]);
    let mut recovered = Run::recovered(&plan, &given.run.history);
    recovered
        .order(&crate::support::resume())
        .expect("it is paused");
    recovered.advance();
    assert_eq!(recovered.execution.status, Status::Completed);
    let output = recovered
        .execution
        .output
        .as_ref()
        .and_then(|output| output.json());
    assert_eq!(output.map(Json::to_value), Some(json!("first")));
}

#[test]
fn the_winner_of_a_race_gives_the_output_and_the_context() {
    let exporting = |name: &str| call(name, &format!("export: {{as: {{by: {name}}}}}"));
    let plan = fork(
        &[
            exporting("a"),
            exporting("b"),
            "{nap: {wait: PT1H}}".to_owned(),
        ],
        "compete: true",
        AFTER,
    );
    let given = given(&plan)
        .history([begin("a", 1, "worker-1")])
        .when(complete("b", 1, json!("b")))
        .then([
            completed("b"),
            cancelled("a"),
            cancelled("nap"),
            completed("f"),
            completed("after"),
            execution_completed(),
        ]);
    assert_eq!(given.output(), json!({"of": "b", "context": {"by": "b"}}));
}

#[test]
fn a_failing_branch_only_loses_the_race() {
    let plan = race(&[call("a", ""), call("b", "")]);
    let given = given(&plan)
        .when(fail_for_good("a", 1, "no offer"))
        .then([faulted("a")])
        .when(complete("b", 1, json!(2)))
        .then([completed("b"), completed("f"), execution_completed()]);
    assert_eq!(given.output(), json!(2));
}

#[test]
fn where_all_fail_the_first_error_counts() {
    let plan = race(&[call("a", ""), call("b", "")]);
    let given = given(&plan)
        .history([fail_for_good("b", 1, "first")])
        .wait(5)
        .when(fail_for_good("a", 1, "second"))
        .then([faulted("a"), faulted("f"), execution_faulted()]);
    assert_eq!(given.fault().0, "first");
}

#[test]
fn only_the_winner_of_a_race_can_end_the_execution() {
    let plan = fork(
        &[call("a", "then: end"), call("b", "")],
        "compete: true",
        AFTER,
    );
    let given = given(&plan).history([
        begin("a", 1, "worker-1"),
        begin("b", 1, "worker-2"),
        crate::support::pause(),
        complete("b", 1, json!("won")),
        complete("a", 1, json!("late")),
        crate::support::resume(),
    ]);
    assert_eq!(given.output()["of"], json!("won"));
}

#[test]
fn a_crash_between_a_win_and_its_consequences_changes_nothing() {
    let plan = race(&[call("a", ""), call("b", ""), call("c", "")]);
    let given = given(&plan).history([complete("b", 1, json!("b"))]);
    let history = &given.run.history;
    let won = history
        .iter()
        .position(|(event, _)| event.kind() == "task_completed")
        .expect("a win");
    for length in won + 1..history.len() {
        let mut recovered = Run::recovered(&plan, &history[..length]);
        recovered.advance();
        assert_eq!(&recovered.history, history, "a crash after {length} events");
    }
}

#[test]
fn a_fork_that_takes_too_long_times_out_with_all_that_is_in_it() {
    let plan = sequence(&format!(
        "- f: {{fork: {{compete: true, branches: [{}, {}]}}, timeout: {{after: PT5S}}}}",
        call("a", ""),
        call("b", "")
    ));
    let given = given(&plan)
        .history([fail_for_good("a", 1, "no offer")])
        .wait(5_000);
    assert_eq!(
        given.fault(),
        ("Task timed out".to_owned(), "/do/0/f".to_owned())
    );
}

/// A race that times out with its cancellations in several portions: who failed before is not the reason.
#[test]
fn a_crash_while_a_race_is_cancelled_does_not_change_the_reason() {
    let branches: Vec<String> = (0..40).map(|n| call(&format!("b{n}"), "")).collect();
    let plan = sequence(&format!(
        "- f: {{fork: {{compete: true, branches: [{}]}}, timeout: {{after: PT5S}}}}",
        branches.join(", ")
    ));
    let given = given(&plan)
        .history([fail_for_good("b0", 1, "no offer")])
        .wait(5_000);
    let history = &given.run.history;
    for length in history.len() - 45..history.len() {
        let mut recovered = Run::recovered(&plan, &history[..length]);
        recovered.advance();
        recovered.wait(DurationMs(5_000));
        let error = recovered.execution.error.expect("it faulted");
        assert_eq!(
            error.title.as_deref(),
            Some("Task timed out"),
            "a crash after {length}"
        );
    }
}

#[test]
fn a_fork_in_a_loop_begins_anew_each_time() {
    let plan = fork(
        &[call("a", ""), "{b: {set: {b: 1}}}".to_owned()],
        "",
        "- back: {call: 'agent:1.0.0@default', with: {capability: back}, then: f}",
    );
    let given = given(&plan)
        .history([complete("a", 1, json!(1))])
        .when(complete("back", 1, json!(0)))
        .then([
            completed("back"),
            forked("f"),
            scheduled("a"),
            completed("b"),
        ]);
    assert_eq!(given.task("a").attempt.0, 2);
    assert_eq!(given.owed(), ["a"]);
}

/// What is skipped in between must not make the third round look like the first.
#[test]
fn a_fork_that_was_skipped_in_between_begins_anew() {
    let plan = sequence(&format!(
        "- f: {{if: '${{ .on }}', fork: {{branches: [{}, {{b: {{set: {{b: 1}}}}}}]}}}}\n- back: {{call: 'agent:1.0.0@default', with: {{capability: back}}, then: f}}",
        call("a", "")
    ));
    given_input(&plan, json!({"on": true}))
        .history([complete("a", 1, json!(1))])
        .when(complete("back", 1, json!({"on": false})))
        .then([completed("back"), skipped("f"), scheduled("back")])
        .when(complete("back", 2, json!({"on": true})))
        .then([
            completed("back"),
            forked("f"),
            scheduled("a"),
            completed("b"),
        ])
        .when(complete("a", 2, json!(2)))
        .then([completed("a"), completed("f"), scheduled("back")]);
}

#[test]
fn a_nested_list_wait_and_fork_run_side_by_side() {
    let plan = fork(
        &[
            format!("{{x: {{do: [{}]}}}}", call("a", "")),
            "{nap: {wait: PT1S}}".to_owned(),
            format!("{{g: {{fork: {{branches: [{}]}}}}}}", call("b", "")),
        ],
        "",
        "",
    );
    let mut run = Run::requested(&plan, Json::of(&json!({})));
    run.advance();
    let seen: Vec<_> = run.history[2..]
        .iter()
        .map(|(event, _)| crate::support::Seen::of(&plan, event))
        .collect();
    assert_eq!(
        seen,
        [
            forked("f"),
            entered("x"),
            waits("nap"),
            forked("g"),
            scheduled("a"),
            scheduled("b")
        ]
    );
    run.finish(|job| Outcome::done(&json!(job.task)));
    let output = run
        .execution
        .output
        .as_ref()
        .and_then(|output| output.json())
        .expect("an output");
    assert_eq!(output.to_value(), json!(["a", {}, ["b"]]));
}

#[test]
fn as_many_branches_as_an_execution_may_have_tasks_run_and_end() {
    let branches: Vec<String> = (0..999).map(|n| call(&format!("b{n}"), "")).collect();
    let plan = fork(&branches, "", "");
    let mut run = Run::requested(&plan, Json::of(&json!({})));
    run.advance();
    assert_eq!(run.execution.owed(Sequence(0)).count(), 999);
    run.finish(|job| Outcome::done(&json!(job.task)));
    let output = run
        .execution
        .output
        .as_ref()
        .and_then(|output| output.json())
        .expect("an output")
        .to_value();
    assert_eq!(output.as_array().map(Vec::len), Some(999));
    assert_eq!((&output[0], &output[998]), (&json!("b0"), &json!("b998")));
    let largest = run.steps.windows(2).map(|step| step[1] - step[0]).max();
    assert!(largest <= Some(eventflow_domain::limits::EVENTS_PER_STEP_MAX));
}

#[test]
fn a_failure_among_many_branches_cancels_all_of_them_in_steps() {
    let branches: Vec<String> = (0..500).map(|n| call(&format!("b{n}"), "")).collect();
    let plan = fork(&branches, "", "");
    let given = given(&plan).history([fail_for_good("b250", 1, "refused")]);
    assert_eq!(given.fault().0, "refused");
    let open = given
        .expect()
        .tasks
        .values()
        .filter(|task| task.status == TaskStatus::Cancelled);
    assert_eq!(open.count(), 499);
}
