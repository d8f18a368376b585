//! Sequences: one task after the other, jumps, branches, nested lists, and the ways out.

use serde_json::json;

use eventflow_domain::{execution::Status, limits::TASKS_PER_EXECUTION_MAX};

use crate::support::{
    Given, Outcome, Run, chose, complete, completed, entered, execution_completed,
    execution_faulted, fail_for_good, faulted, given, given_input,
    plans::{agent, order, sequence},
    scheduled, skipped,
};

/// Tasks for agents, one after the other.
fn agents(tasks: &[(&str, &str)]) -> eventflow_domain::plan::Plan {
    sequence(
        &tasks
            .iter()
            .map(|(name, rest)| agent(name, rest))
            .collect::<String>(),
    )
}

#[test]
fn tasks_follow_each_other_and_the_last_output_is_the_executions() {
    let plan = order();
    let given = given(&plan)
        .when(complete("charge", 1, json!({"paid": true})))
        .then([completed("charge"), scheduled("ship")])
        .when(complete("ship", 1, json!({"parcel": 7})))
        .then([completed("ship"), execution_completed()]);
    assert_eq!(given.output(), json!({"parcel": 7}));
    assert_eq!(given.expect().started_at, Some(given.expect().created_at));
    assert_eq!(given.expect().ended_at, Some(given.run.now));
}

#[test]
fn then_may_skip_ahead() {
    let plan = agents(&[("a", "then: c"), ("b", ""), ("c", "")]);
    given(&plan)
        .when(complete("a", 1, json!(1)))
        .then([completed("a"), scheduled("c")]);
}

#[test]
fn then_may_go_back_and_attempts_count_on() {
    let plan = agents(&[("a", ""), ("b", "then: a")]);
    let given = given(&plan)
        .history([complete("a", 1, json!(1))])
        .when(complete("b", 1, json!(2)))
        .then([completed("b"), scheduled("a")]);
    assert_eq!(
        given.task("a").attempt.0,
        2,
        "no two tries have the same number"
    );
    assert_eq!(given.task("a").first_attempt.0, 2);
    assert_eq!(given.work_of("a"), json!(2), "it gets what came before it");
    assert_eq!(given.expect().activations, 3);
}

#[test]
fn then_end_and_exit_in_the_outermost_list_complete_the_execution() {
    for directive in ["end", "exit"] {
        let plan = agents(&[("a", &format!("then: {directive}")), ("b", "")]);
        let given = given(&plan)
            .when(complete("a", 1, json!("done")))
            .then([completed("a"), execution_completed()]);
        assert_eq!(given.output(), json!("done"));
    }
}

#[test]
fn a_nested_list_is_a_task_of_its_own() {
    let plan = sequence(&format!(
        "- outer:\n    do:\n{}{}",
        indented(&agent("inner", "")),
        agent("after", "")
    ));
    let given = given(&plan).when(complete("inner", 1, json!(1))).then([
        completed("inner"),
        completed("outer"),
        scheduled("after"),
    ]);
    assert_eq!(given.output_of("outer"), json!(1));
    assert_eq!(given.work_of("after"), json!(1));
}

#[test]
fn exit_leaves_only_the_nested_list() {
    let inner = [agent("inner", "then: exit"), agent("never", "")].concat();
    let plan = sequence(&format!(
        "- outer:\n    do:\n{}{}",
        indented(&inner),
        agent("after", "")
    ));
    given(&plan).when(complete("inner", 1, json!(1))).then([
        completed("inner"),
        completed("outer"),
        scheduled("after"),
    ]);
}

#[test]
fn end_in_a_nested_list_completes_the_execution() {
    let inner = [agent("inner", "then: end"), agent("never", "")].concat();
    let middle = format!(
        "- middle:\n    do:\n{}{}",
        indented(&inner),
        agent("neither", "")
    );
    let plan = sequence(&format!(
        "- outer:\n    do:\n{}{}",
        indented(&middle),
        agent("after", "")
    ));
    let given = given(&plan).when(complete("inner", 1, json!(1))).then([
        completed("inner"),
        completed("middle"),
        completed("outer"),
        execution_completed(),
    ]);
    assert_eq!(given.output(), json!(1));
}

#[test]
fn end_of_a_switch_in_a_nested_list_completes_the_execution() {
    let inner = "- choose: {switch: [{stop: {then: end}}]}\n";
    let plan = sequence(&format!(
        "- outer:\n    do:\n{}{}",
        indented(inner),
        agent("after", "")
    ));
    assert_eq!(
        kinds(&given(&plan)),
        [
            "execution_requested",
            "execution_started",
            "sequence_entered",
            "branch_selected",
            "task_completed",
            "task_completed",
            "execution_completed",
        ]
    );
}

#[test]
fn a_switch_takes_the_first_case_that_holds() {
    let cases = "[{big: {when: '${ .n > 10 }', then: large}}, {some: {when: '${ .n > 5 }', then: small}}, {rest: {then: end}}]";
    let plan = sequence(&format!(
        "- choose: {{switch: {cases}}}\n{}{}",
        agent("large", ""),
        agent("small", "")
    ));
    for (n, owed) in [(11, "large"), (6, "small")] {
        assert_eq!(given_input(&plan, json!({"n": n})).owed(), [owed]);
    }
    assert_eq!(
        given_input(&plan, json!({"n": 5})).output(),
        json!({"n": 5}),
        "the default ends it"
    );
}

#[test]
fn a_switch_without_a_case_that_holds_goes_where_its_then_says() {
    let plan = sequence(&format!(
        "- choose: {{switch: [{{no: {{when: '${{ false }}', then: end}}}}], then: b}}\n{}{}",
        agent("a", ""),
        agent("b", "")
    ));
    let given = given(&plan);
    assert_eq!(given.owed(), ["b"]);
    assert_eq!(given.task("choose").branch, None);
}

#[test]
fn the_choice_is_in_the_history() {
    let plan = sequence(&format!(
        "{}- choose: {{switch: [{{yes: {{then: end}}}}]}}\n",
        agent("a", "")
    ));
    given(&plan).when(complete("a", 1, json!(1))).then([
        completed("a"),
        chose("choose", "yes"),
        completed("choose"),
        execution_completed(),
    ]);
}

#[test]
fn a_task_whose_condition_is_false_is_skipped_and_what_flows_passes_by() {
    let plan = agents(&[("a", ""), ("b", "if: '${ .n > 1 }', then: end"), ("c", "")]);
    let given = given(&plan).when(complete("a", 1, json!({"n": 1}))).then([
        completed("a"),
        skipped("b"),
        scheduled("c"),
    ]);
    assert_eq!(given.work_of("c"), json!({"n": 1}));
    assert_eq!(
        given.expect().activations,
        2,
        "what is not run does not count"
    );
}

#[test]
fn a_loop_ends_when_the_condition_of_its_task_no_longer_holds_and_keeps_what_flows() {
    let plan = sequence("- count: {if: '${ .n < 3 }', set: {n: '${ .n + 1 }'}, then: count}\n");
    let given = given_input(&plan, json!({"n": 0}));
    assert_eq!(given.output(), json!({"n": 3}));
    assert_eq!(given.expect().activations, 3);
}

#[test]
fn a_switch_may_choose_itself_and_passes_on_what_flows() {
    let plan = sequence("- choose: {switch: [{again: {then: choose}}]}\n");
    let given = given_input(&plan, json!({"n": 1}));
    assert_eq!(given.fault().0, "More than 1000 tasks");
    let completed = given
        .run
        .history
        .iter()
        .filter(|(event, _)| event.kind() == "task_completed");
    assert_eq!(completed.count(), 1000);
    assert_eq!(given.output_of_earlier("choose"), json!({"n": 1}));
}

#[test]
fn a_loop_without_end_faults_at_the_limit_of_tasks() {
    let plan = agents(&[("a", ""), ("b", "then: a")]);
    let mut run = Run::requested(&plan, eventflow_domain::Json::null());
    run.finish(|_| Outcome::done(&json!(null)));
    let given = Given { run };
    assert_eq!(
        given.fault(),
        ("More than 1000 tasks".to_owned(), "/do/0/a".to_owned())
    );
    let scheduled = given
        .run
        .history
        .iter()
        .filter(|(event, _)| event.kind() == "task_scheduled");
    assert_eq!(scheduled.count(), TASKS_PER_EXECUTION_MAX as usize);
}

#[test]
fn the_last_task_within_the_limit_still_counts_and_a_skipped_one_after_it_does_not() {
    let plan = sequence("- count: {if: '${ .n < 1000 }', set: {n: '${ .n + 1 }'}, then: count}\n");
    let given = given_input(&plan, json!({"n": 0}));
    assert_eq!(given.output(), json!({"n": 1000}));
}

#[test]
fn a_raise_faults_the_execution_with_its_error() {
    let raise = "raise: {error: {type: 'https://example.com/errors/credit', status: 402, title: No credit, detail: '${ \"short of \" + .need }'}}";
    let plan = sequence(&format!("{}- refuse: {{{raise}}}\n", agent("a", "")));
    let given = given(&plan)
        .when(complete("a", 1, json!({"need": "7 EUR"})))
        .then([completed("a"), faulted("refuse"), execution_faulted()]);
    let error = given.expect().error.clone().expect("an error");
    assert_eq!(
        (&*error.kind, error.status),
        ("https://example.com/errors/credit", 402)
    );
    assert_eq!(error.detail.as_deref(), Some("short of 7 EUR"));
    assert_eq!(error.instance.as_deref(), Some("/do/1/refuse"));
}

#[test]
fn an_error_in_a_nested_list_faults_every_level_and_keeps_its_instance() {
    let plan = sequence(&format!(
        "- outer:\n    do:\n{}{}",
        indented(&agent("inner", "")),
        agent("after", "")
    ));
    let given = given(&plan)
        .when(fail_for_good("inner", 1, "broken"))
        .then([faulted("inner"), faulted("outer"), execution_faulted()]);
    assert_eq!(
        given.fault(),
        ("broken".to_owned(), "/do/0/outer/do/0/inner".to_owned())
    );
}

#[test]
fn a_nested_list_that_is_entered_again_begins_at_its_first_task() {
    let inner = [agent("a", ""), agent("b", "")].concat();
    let plan = sequence(&format!(
        "- outer:\n    then: outer\n    do:\n{}",
        indented(&inner)
    ));
    given(&plan)
        .history([complete("a", 1, json!(1))])
        .when(complete("b", 1, json!(2)))
        .then([
            completed("b"),
            completed("outer"),
            entered("outer"),
            scheduled("a"),
        ])
        .when(complete("a", 2, json!(3)))
        .then([completed("a"), scheduled("b")]);
}

#[test]
fn a_thousand_tasks_of_the_engine_are_drawn_in_portions() {
    let plan = sequence(
        &(0..1000)
            .map(|n| format!("- t{n}: {{set: {{n: {n}}}}}\n"))
            .collect::<String>(),
    );
    let mut run = Run::requested(&plan, eventflow_domain::Json::null());
    let stepped = run
        .step(&eventflow_domain::execution::Command::Advance)
        .expect("an advance is never refused");
    assert!(
        stepped.events.len() <= 64 && run.execution.owes_advance(),
        "{} events",
        stepped.events.len()
    );
    run.advance();
    assert_eq!(run.execution.status, Status::Completed);
    assert_eq!(run.execution.activations, 1000);
    assert!(run.steps.windows(2).all(|step| step[1] - step[0] <= 64));
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

fn kinds(given: &Given<'_>) -> Vec<&'static str> {
    given
        .run
        .history
        .iter()
        .map(|(event, _)| event.kind())
        .collect()
}

impl Given<'_> {
    /// What the last activation but one of a task brought.
    fn output_of_earlier(&self, name: &str) -> serde_json::Value {
        let prefix = &self.run.history[..self.run.history.len() - 2];
        let given = Given {
            run: Run::recovered(self.run.plan, prefix),
        };
        given.output_of(name)
    }
}
