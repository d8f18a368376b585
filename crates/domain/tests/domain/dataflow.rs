//! What flows: `input.from`, `output.as`, `export.as`, `$context`, references instead of copies, and large values.

use serde_json::json;

use eventflow_domain::{
    Attempt, Json, Value,
    execution::{Content, Event, Status, Work},
    limits::INLINE_VALUE_BYTES_MAX,
};

use crate::support::{
    Given, Order, Refused, Run, begin, complete, completed, execution_faulted, fail, faulted,
    given, given_input,
    plans::{agent, agent_with, dag, document, order, plan_of, sequence, step},
    reference, scheduled,
};

fn input_of<'g>(given: &'g Given<'_>, name: &str) -> &'g Content {
    let wanted = reference(given.run.plan, name);
    let scheduled = given
        .run
        .history
        .iter()
        .rev()
        .find_map(|(event, _)| match event {
            Event::TaskScheduled { task, input, .. } if *task == wanted => Some(input),
            _ => None,
        });
    scheduled.expect("the task was scheduled")
}

fn output_of<'g>(given: &'g Given<'_>, name: &str) -> &'g Content {
    let wanted = reference(given.run.plan, name);
    let completed = given
        .run
        .history
        .iter()
        .rev()
        .find_map(|(event, _)| match event {
            Event::TaskCompleted { task, output, .. } if *task == wanted => Some(output),
            _ => None,
        });
    completed.expect("the task completed")
}

#[test]
fn the_workflows_own_input_and_output_are_transformed() {
    let tasks = agent("a", "");
    let plan = document(
        &tasks,
        "input: {from: '${ .order }'}\noutput: {as: {result: '${ . }', of: '${ $input.id }'}}",
    );
    let given = given_input(&plan, json!({"order": {"id": 7}, "noise": 1}));
    assert_eq!(given.work_of("a"), json!({"id": 7}));
    let given = given.history([complete("a", 1, json!("ok"))]);
    assert_eq!(given.output(), json!({"result": "ok", "of": 7}));
}

#[test]
fn a_workflow_input_that_cannot_be_transformed_faults_before_anything_began() {
    let plan = document(&agent("a", ""), "input: {from: '${ .n + {} }'}");
    let given = given_input(&plan, json!({"n": 1}));
    assert_eq!(
        given.fault(),
        ("Expression failed".to_owned(), "/input/from".to_owned())
    );
    assert_eq!(given.expect().started_at, None);
    assert_eq!(given.expect().activations, 0);
}

#[test]
fn a_workflow_output_that_cannot_be_transformed_faults_the_execution() {
    let plan = document(&agent("a", ""), "output: {as: '${ .n + {} }'}");
    let given = given(&plan)
        .when(complete("a", 1, json!({"n": 1})))
        .then([completed("a"), execution_faulted()]);
    assert_eq!(
        given.fault(),
        ("Expression failed".to_owned(), "/output/as".to_owned())
    );
}

#[test]
fn a_tasks_input_and_output_are_transformed() {
    let plan = sequence(
        &[
            agent(
                "a",
                "input: {from: '${ .x }'}, output: {as: {y: '${ . }', x: '${ $input }'}}",
            ),
            agent("b", ""),
        ]
        .concat(),
    );
    let given = given_input(&plan, json!({"x": 1}));
    assert_eq!(given.work_of("a"), json!(1));
    let given = given.history([complete("a", 1, json!(2))]);
    assert_eq!(given.work_of("b"), json!({"y": 2, "x": 1}));
}

#[test]
fn what_an_agent_gets_may_be_something_else_than_the_tasks_input() {
    let plan = sequence(&agent_with("a", "input: {only: '${ .x }'}", ""));
    let given = given_input(&plan, json!({"x": 1, "y": 2}));
    assert_eq!(given.work_of("a"), json!({"only": 1}));
    assert_eq!(
        given.task("a").input.json().unwrap().to_value(),
        json!({"x": 1, "y": 2})
    );
}

#[test]
fn an_export_is_the_context_of_what_follows() {
    let plan = sequence(
        &[
            agent(
                "a",
                "export: {as: '${ {token: .token} }'}, output: {as: '${ {token: .secret} }'}",
            ),
            agent_with(
                "b",
                "input: '${ $context.token }'",
                "export: {as: '${ $context + {b: .} }'}",
            ),
            agent_with("c", "input: '${ $context }'", ""),
        ]
        .concat(),
    );
    let given = given(&plan).history([complete("a", 1, json!({"secret": "s3"}))]);
    assert_eq!(
        given.work_of("b"),
        json!("s3"),
        "export sees the transformed output"
    );
    let given = given.history([complete("b", 1, json!(2))]);
    assert_eq!(given.work_of("c"), json!({"token": "s3", "b": 2}));
}

#[test]
fn the_context_of_an_execution_begins_empty() {
    let plan = sequence(&agent_with("a", "input: '${ $context }'", ""));
    assert_eq!(given(&plan).work_of("a"), json!({}));
}

#[test]
fn a_nested_list_transforms_what_goes_in_and_out() {
    let nested = "- outer:\n    input: {from: '${ .x }'}\n    output: {as: {wrapped: '${ . }', was: '${ $input }'}}\n    export: {as: '${ {seen: .wrapped} }'}\n    do:\n      - inner: {call: 'agent:1.0.0@default', with: {capability: inner}}\n";
    let plan = sequence(
        &[
            nested.to_owned(),
            agent_with("after", "input: {a: '${ . }', c: '${ $context }'}", ""),
        ]
        .concat(),
    );
    let given = given_input(&plan, json!({"x": 1}));
    assert_eq!(given.work_of("inner"), json!(1));
    let given = given.history([complete("inner", 1, json!(2))]);
    assert_eq!(
        given.work_of("after"),
        json!({"a": {"wrapped": 2, "was": 1}, "c": {"seen": 2}})
    );
}

#[test]
fn an_expression_that_fails_faults_its_task() {
    let faulty = [
        ("if", "if: '${ .n + {} }'"),
        ("input.from", "input: {from: '${ .n + {} }'}"),
    ];
    for (what, rest) in faulty {
        let plan = sequence(&[agent("a", ""), agent("b", rest)].concat());
        let given = given(&plan).when(complete("a", 1, json!({"n": 1}))).then([
            completed("a"),
            faulted("b"),
            execution_faulted(),
        ]);
        assert_eq!(
            given.fault(),
            ("Expression failed".to_owned(), "/do/1/b".to_owned()),
            "{what}"
        );
    }
}

#[test]
fn an_input_that_is_an_earlier_output_whole_is_a_reference_to_it() {
    let plan = order();
    let given = given(&plan);
    assert_eq!(input_of(&given, "charge"), &Content::WorkflowInput);
    let given = given.history([complete("charge", 1, json!({"paid": true}))]);
    assert_eq!(
        input_of(&given, "ship"),
        &Content::OutputOf(reference(&plan, "charge"))
    );
    assert_eq!(given.work_of("ship"), json!({"paid": true}));
    let given = given.history([complete("ship", 1, json!(1))]);
    let Some((Event::ExecutionCompleted { output }, _)) = given.run.history.last() else {
        panic!("the execution completed");
    };
    assert_eq!(output, &Content::OutputOf(reference(&plan, "ship")));
}

#[test]
fn an_expression_that_changes_nothing_keeps_the_reference() {
    let plan = sequence(
        &[
            agent("a", ""),
            agent("b", "input: {from: '${ . }'}"),
            "- s: {switch: [{on: {then: continue}}]}\n".to_owned(),
            agent("c", ""),
        ]
        .concat(),
    );
    let given = given(&plan).history([complete("a", 1, json!([1]))]);
    assert_eq!(
        input_of(&given, "b"),
        &Content::OutputOf(reference(&plan, "a"))
    );
    let given = given.history([complete("b", 1, json!([2]))]);
    assert_eq!(
        output_of(&given, "s"),
        &Content::OutputOf(reference(&plan, "b"))
    );
    assert_eq!(
        input_of(&given, "c"),
        &Content::OutputOf(reference(&plan, "s"))
    );
    assert_eq!(given.work_of("c"), json!([2]));
}

#[test]
fn a_step_that_reads_all_of_another_ones_output_refers_to_it() {
    let plan = dag(&[
        step("a", ""),
        "- {id: b, uses: set, with: '${a}'}\n".to_owned(),
    ]
    .concat());
    let given = given(&plan).history([complete("a", 1, json!({"big": "text"}))]);
    assert_eq!(
        output_of(&given, "b"),
        &Content::OutputOf(reference(&plan, "a"))
    );
    assert_eq!(
        given.output(),
        json!({"a": {"big": "text"}, "b": {"big": "text"}})
    );
}

#[test]
fn a_large_value_becomes_a_reference_to_a_blob() {
    let plan = order();
    let large = json!("x".repeat(INLINE_VALUE_BYTES_MAX));
    let given = given(&plan).history([complete("charge", 1, large.clone())]);
    let output = given.task("charge").output.clone().expect("an output");
    assert!(matches!(output, Value::Ref { size, .. } if size == INLINE_VALUE_BYTES_MAX as u64 + 2));
    let stored = serde_json::to_string(&given.run.history).expect("events serialise");
    assert!(
        stored.len() < 10_000,
        "the history holds {} bytes of a large value",
        stored.len()
    );
    assert_eq!(given.work_of("ship"), large);
    let small = json!("x".repeat(INLINE_VALUE_BYTES_MAX - 2));
    let given = given.history([complete("ship", 1, small)]);
    assert!(
        matches!(given.task("ship").output, Some(Value::Inline(_))),
        "the limit itself stays inline"
    );
}

#[test]
fn a_recovered_execution_names_the_large_values_that_it_misses_and_goes_on_once_it_has_them() {
    let tasks = [
        agent("a", "then: b"),
        agent_with("b", "input: '${ .[0:1] }'", "then: a"),
    ]
    .concat();
    let plan = sequence(&tasks);
    let large = json!("y".repeat(INLINE_VALUE_BYTES_MAX));
    let given = given_input(&plan, large.clone()).history([complete("a", 1, large.clone())]);
    let written = serde_json::to_string(&given.run.history).expect("events serialise");
    let history: Vec<_> = serde_json::from_str(&written).expect("what was written is read");
    let mut run = Run::recovered(&plan, &history);
    let missing = run.execution.missing();
    assert_eq!(missing.len(), 1, "the same text is one blob");
    for digest in missing {
        run.execution.load(&digest, &Json::of(&large));
    }
    assert!(run.execution.missing().is_empty());
    assert_eq!(run.execution, given.run.execution);
    run.order(&complete("b", 1, large.clone()))
        .expect("it goes on");
    assert_eq!(Given { run }.work_of("a"), large);
}

#[test]
fn a_large_value_that_only_flows_is_loaded_again_as_well() {
    let tasks = [
        agent(
            "a",
            "if: '${ length > 1 }', input: {from: '${ 1 }'}, then: a",
        ),
        agent("b", ""),
    ]
    .concat();
    let plan = sequence(&tasks);
    let large = json!("z".repeat(INLINE_VALUE_BYTES_MAX));
    let given = given_input(&plan, json!("in")).history([complete("a", 1, large)]);
    assert_eq!(
        given.work_of("a"),
        json!(1),
        "its second round is under way"
    );
    let written = serde_json::to_string(&given.run.history).expect("events serialise");
    let history: Vec<_> = serde_json::from_str(&written).expect("what was written is read");
    let run = Run::recovered(&plan, &history);
    assert_eq!(run.execution.missing().len(), 1);
}

#[test]
fn a_service_call_is_its_input_and_has_one_attempt() {
    let plan = plan_of(&eventflow_dsl::service_call());
    let input = json!({"method": "POST", "endpoint": "http://site", "output": "outcome", "redirect": false});
    let given = given_input(&plan, input.clone());
    let task = given.task("request");
    assert_eq!(task.work, Some(Work::ServiceCall {}));
    assert_eq!(
        task.work_input().json().expect("in memory").to_value(),
        input
    );
    // Also where another try might help.
    let ended = given.history([begin("request", 1, "http"), fail("request", 1, "gone")]);
    assert_eq!(ended.run.execution.status, Status::Faulted);
    assert_eq!(ended.task("request").attempt, Attempt(1));
}

#[test]
fn an_http_call_is_evaluated_when_it_is_scheduled() {
    let http = "with: {method: post, endpoint: 'https://example.com/orders', headers: {x-order: '${ .id }'}, body: {id: '${ .id }'}}";
    let plan = sequence(&format!("- send: {{call: http, {http}}}\n"));
    let given = given_input(&plan, json!({"id": 7}));
    let Some(Work::Http { call }) = &given.task("send").work else {
        panic!("an HTTP call")
    };
    let call = call.json().expect("in memory").to_value();
    assert_eq!(call["headers"], json!([["x-order", "7"]]));
    assert_eq!(call["body"], json!({"id": 7}));
    assert!(!given.task("send").is_for_agent());
}

#[test]
fn an_http_call_that_cannot_be_sent_faults_its_task_with_the_reason() {
    let http = "with: {method: get, endpoint: 'https://example.com', headers: {x: '${ .list }'}}";
    let plan = sequence(&format!("- send: {{call: http, {http}}}\n"));
    let given = given_input(&plan, json!({"list": [1]}));
    let error = given.expect().error.clone().expect("an error");
    assert_eq!(error.kind.rsplit('/').next(), Some("configuration"));
    assert_eq!(
        error.detail.as_deref(),
        Some("`headers.x` must be a string")
    );
    assert_eq!(given.expect().activations, 1);
}

#[test]
fn a_value_that_grows_deeper_with_every_round_ends_with_a_fault() {
    let plan = sequence("- wrap: {set: {in: '${ . }'}, then: wrap}\n");
    let given = given_input(&plan, json!(1));
    assert!(!given.fault().0.is_empty());
}

/// Texts that are JSON and that no parser makes a value of.
fn unreadable() -> [Json; 3] {
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    [deep.as_str(), r#"{"x":1e400}"#, r#"{"x":"\ud800"}"#]
        .map(|text| Json::parse(text).expect("it is JSON by its grammar"))
}

#[test]
fn an_output_that_cannot_be_read_passes_through() {
    for json in unreadable() {
        let plan = sequence(&[agent("a", "output: {as: '${ .x }'}"), agent("b", "")].concat());
        let given = given(&plan)
            .when(Order::Complete("a".to_owned(), 1, Value::new(json.clone())))
            .then([completed("a"), scheduled("b")])
            .when(Order::Complete("a".to_owned(), 1, Value::new(json)))
            .then_nothing()
            .when(complete("a", 1, json!(1)))
            .refused(&Refused::OtherResult);
        assert_eq!(given.owed(), ["b"]);
    }
}

#[test]
fn looking_into_what_cannot_be_read_is_a_fault_and_no_more() {
    for json in unreadable() {
        for rest in [
            "if: '${ .x | length > 1 }'",
            "input: {from: '${ {y: .x} }'}",
            "input: {from: '${ {t: $task, w: $workflow} }'}",
        ] {
            let plan = sequence(&[agent("a", ""), agent("b", rest)].concat());
            let given = given(&plan).history([Order::Complete(
                "a".to_owned(),
                1,
                Value::new(json.clone()),
            )]);
            let (_, instance) = given.fault_or_nothing();
            assert!(
                instance.is_empty() || instance == "/do/1/b",
                "{rest}: {instance}"
            );
        }
        let http = "with: {method: get, endpoint: 'https://example.com', headers: '${ . }'}";
        let plan = sequence(&format!("- s: {{call: http, {http}}}\n"));
        let mut run = Run::requested(&plan, json);
        run.advance();
        assert_eq!(Given { run }.fault().1, "/do/0/s");
    }
}

impl Given<'_> {
    /// The title and the task of the error, empty where there is none.
    fn fault_or_nothing(&self) -> (String, String) {
        self.expect()
            .error
            .as_ref()
            .map(|_| self.fault())
            .unwrap_or_default()
    }
}
