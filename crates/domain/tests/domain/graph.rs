//! Graphs: steps that need each other, joins, skips, limits of what runs at once, and faults among siblings.

use serde_json::json;

use eventflow_domain::{
    Json, Sequence,
    execution::{Command, Status, TaskStatus},
    expression::Template,
    limits::{BYTES_PER_STEP_MAX, EVENTS_PER_STEP_MAX},
    plan::{Graph, Join, Kind, Node, NodeId, Plan, PlanParts, Step, Then},
};

use crate::support::{
    Given, Outcome, Refused, Run, begin, cancelled, complete, completed, execution_completed,
    execution_faulted, fail, fail_for_good, faulted, given, given_input,
    plans::{dag, graph, step},
    retried, scheduled, skipped,
};

/// The N: c needs a; d needs a and b. No nesting of forks can say it.
fn n_shape() -> Plan {
    dag(&[
        step("a", ""),
        step("b", ""),
        step("c", "dependsOn: [a]"),
        step("d", "dependsOn: [a, b]"),
    ]
    .concat())
}

#[test]
fn a_step_begins_as_soon_as_what_it_needs_is_there() {
    let plan = n_shape();
    let given = given(&plan);
    assert_eq!(given.owed(), ["a", "b"]);
    let given = given
        .when(complete("a", 1, json!(1)))
        .then([completed("a"), scheduled("c")])
        .when(complete("c", 1, json!(3)))
        .then([completed("c")])
        .when(complete("b", 1, json!(2)))
        .then([completed("b"), scheduled("d")])
        .when(complete("d", 1, json!(4)))
        .then([completed("d"), execution_completed()]);
    assert_eq!(given.output(), json!({"a": 1, "b": 2, "c": 3, "d": 4}));
}

#[test]
fn the_other_way_around_it_is_the_same_graph() {
    let plan = n_shape();
    given(&plan)
        .when(complete("b", 1, json!(2)))
        .then([completed("b")])
        .when(complete("a", 1, json!(1)))
        .then([completed("a"), scheduled("c"), scheduled("d")]);
}

#[test]
fn references_are_needs_and_bring_the_value() {
    let plan = dag(&[
        step("a", ""),
        step(
            "b",
            "inputs: {total: '${a.total}', of: '${input.id}', text: 'order ${input.id}'}",
        ),
    ]
    .concat());
    let given =
        given_input(&plan, json!({"id": 7})).history([complete("a", 1, json!({"total": 12}))]);
    assert_eq!(
        given.work_of("b"),
        json!({"total": 12, "of": 7, "text": "order 7"})
    );
}

#[test]
fn a_graphs_output_may_be_said() {
    let steps = [step("a", ""), step("b", "")].concat();
    let plan = graph(
        &steps,
        "output: {sum: '${a.n}', both: ['${a.n}', '${b.n}']}",
    );
    let given = given(&plan).history([
        complete("a", 1, json!({"n": 1})),
        complete("b", 1, json!({"n": 2})),
    ]);
    assert_eq!(given.output(), json!({"sum": 1, "both": [1, 2]}));
}

#[test]
fn a_step_whose_condition_is_false_is_skipped_and_so_is_what_needs_it() {
    let plan = dag(&[
        step("a", ""),
        step("b", "dependsOn: [a], when: '${ .a.go }'"),
        step("c", "dependsOn: [b]"),
        step("d", "dependsOn: [a]"),
    ]
    .concat());
    let given = given(&plan)
        .when(complete("a", 1, json!({"go": false})))
        .then([completed("a"), skipped("b"), scheduled("d"), skipped("c")])
        .when(complete("d", 1, json!(4)))
        .then([completed("d"), execution_completed()]);
    assert_eq!(
        given.output(),
        json!({"a": {"go": false}, "d": 4}),
        "what was skipped has no output"
    );
}

#[test]
fn a_join_on_any_runs_when_one_of_its_needs_completed_and_all_have_ended() {
    let plan = |left, right| {
        dag(&[
            step("left", &format!("when: '${{ .input.left == {left} }}'")),
            step("right", &format!("when: '${{ .input.right == {right} }}'")),
            step("join", "dependsOn: [left, right], join: any"),
            step("after", "dependsOn: [join]"),
        ]
        .concat())
    };
    let input = json!({"left": 1, "right": 1});
    let both = plan(1, 1);
    let given = given_input(&both, input.clone());
    assert_eq!(given.owed(), ["left", "right"]);
    given
        .when(complete("left", 1, json!(1)))
        .then([completed("left")])
        .when(complete("right", 1, json!(2)))
        .then([completed("right"), scheduled("join")]);
    let one = plan(0, 1);
    given_input(&one, input.clone())
        .when(complete("right", 1, json!(2)))
        .then([completed("right"), scheduled("join")]);
    let none = plan(0, 0);
    let given = given_input(&none, input);
    assert_eq!(given.task("join").status, TaskStatus::Skipped);
    assert_eq!(given.task("after").status, TaskStatus::Skipped);
    assert_eq!(given.output(), json!({}));
}

#[test]
fn a_failed_step_cancels_what_is_running_beside_it_and_nothing_further_begins() {
    let plan = dag(&[
        step("a", ""),
        step("b", ""),
        step("c", "dependsOn: [a]"),
        step("d", "dependsOn: [b]"),
    ]
    .concat());
    let given = given(&plan)
        .history([begin("b", 1, "worker-1")])
        .when(fail_for_good("a", 1, "broken"))
        .then([faulted("a"), cancelled("b"), execution_faulted()])
        .when(complete("b", 1, json!(1)))
        .refused(&Refused::Superseded("the task was cancelled"));
    assert_eq!(given.fault(), ("broken".to_owned(), "/steps/0".to_owned()));
    assert!(given.owed().is_empty());
}

#[test]
fn a_step_that_waits_for_its_retry_disturbs_nobody() {
    let plan = dag(&[step("a", "retry: {limit: 1, delay: 1s}"), step("b", "")].concat());
    given(&plan)
        .when(fail("a", 1, "busy"))
        .then([retried("a", 1)])
        .when(complete("b", 1, json!(2)))
        .then([completed("b")])
        .wait(1_000)
        .when(complete("a", 2, json!(1)))
        .then([completed("a"), execution_completed()]);
}

#[test]
fn no_more_than_max_parallel_run_and_a_place_goes_to_the_next_in_line() {
    let steps: String = ["a", "b", "c", "d"].map(|id| step(id, "")).concat();
    let plan = graph(&steps, "maxParallel: 2");
    let given = given(&plan);
    assert_eq!(given.owed(), ["a", "b"]);
    let given = given
        .when(complete("b", 1, json!(1)))
        .then([completed("b")]);
    assert_eq!(given.owed(), ["a", "c"]);
    let given = given.when(fail("a", 1, "busy")).then([retried("a", 1)]);
    assert_eq!(given.owed(), ["c"], "who waits for a retry keeps the place");
    let given = given
        .when(complete("c", 1, json!(1)))
        .then([completed("c")]);
    assert_eq!(given.owed(), ["d"]);
}

#[test]
fn a_failed_step_gives_its_place_to_nobody() {
    let steps: String = ["a", "b", "c"].map(|id| step(id, "")).concat();
    let plan = graph(&steps, "maxParallel: 1");
    let given = given(&plan);
    let before = given.run.execution.sequence;
    let given = given.when(fail_for_good("a", 1, "broken")).then([
        faulted("a"),
        cancelled("b"),
        cancelled("c"),
        execution_faulted(),
    ]);
    for sequence in before.0..given.expect().sequence.0 {
        let history = &given.run.history[..usize::try_from(sequence).expect("a short history")];
        let run = Run::recovered(&plan, history);
        assert!(
            run.owed().iter().all(|name| name == "a"),
            "after event {sequence}: {:?}",
            run.owed()
        );
    }
}

#[test]
fn a_step_of_the_engine_needs_no_place() {
    let steps = [
        step("a", ""),
        "- {id: s, uses: set, with: {n: 1}}\n".to_owned(),
        step("b", "dependsOn: [s]"),
    ]
    .concat();
    let plan = graph(&steps, "maxParallel: 1");
    let given = given(&plan);
    assert_eq!(given.owed(), ["a"]);
    assert_eq!(given.output_of("s"), json!({"n": 1}));
    assert_eq!(given.task("b").status, TaskStatus::Pending);
}

#[test]
fn an_error_in_a_graphs_output_faults_the_execution() {
    let plan = graph(&step("a", ""), "output: {x: 'n is ${a.n.m}'}");
    let given = given(&plan)
        .when(complete("a", 1, json!({"n": 1})))
        .then([completed("a"), execution_faulted()]);
    assert_eq!(
        given.fault(),
        ("Expression failed".to_owned(), "/output".to_owned())
    );
}

#[test]
fn a_step_that_faults_at_its_beginning_stops_those_after_it() {
    let steps: String = ["a", "b", "c"]
        .map(|id| step(id, "when: '${ .input.n + {} }'"))
        .concat();
    let plan = dag(&steps);
    let given = given_input(&plan, json!({"n": 1}));
    assert_eq!(
        given.fault(),
        ("Expression failed".to_owned(), "/steps/0".to_owned())
    );
    assert_eq!(given.expect().tasks.len(), 1);
}

/// So many steps that need nothing.
fn wide(steps: usize, rest: &str) -> Plan {
    graph(
        &(0..steps)
            .map(|n| step(&format!("s{n}"), ""))
            .collect::<String>(),
        rest,
    )
}

#[test]
fn a_thousand_parallel_steps_begin_in_portions() {
    let plan = wide(1000, "");
    let mut run = Run::requested(&plan, Json::null());
    let mut rounds = 0;
    while run.execution.owes_advance() {
        let stepped = run
            .step(&Command::Advance)
            .expect("an advance is never refused");
        assert!(stepped.events.len() <= EVENTS_PER_STEP_MAX);
        assert!(stepped.bytes <= BYTES_PER_STEP_MAX);
        rounds += 1;
    }
    assert!(rounds >= 1000 / EVENTS_PER_STEP_MAX, "{rounds} rounds");
    assert_eq!(run.owed().len(), 1000);
    run.finish(|_| Outcome::done(&json!(1)));
    assert_eq!(run.execution.status, Status::Completed);
    assert_eq!(run.execution.activations, 1000);
}

#[test]
fn large_inputs_make_the_portions_smaller() {
    let steps: String = (0..20)
        .map(|n| format!("- {{id: s{n}, uses: agent, with: {{capability: s}}, inputs: {{big: '${{input.big}}', n: {n}}}}}\n"))
        .collect();
    let plan = dag(&steps);
    let mut run = Run::requested(&plan, Json::of(&json!({"big": "x".repeat(40_000)})));
    while run.execution.owes_advance() {
        let stepped = run
            .step(&Command::Advance)
            .expect("an advance is never refused");
        assert!(
            stepped.bytes < BYTES_PER_STEP_MAX + BYTES_PER_STEP_MAX / 2 + 64 * 1024,
            "{} bytes",
            stepped.bytes
        );
        assert!(
            stepped.events.len() <= 6,
            "{} events of 40 kB each",
            stepped.events.len()
        );
    }
    assert_eq!(run.owed().len(), 20);
}

#[test]
fn a_fault_among_a_thousand_cancels_the_rest_in_portions() {
    let plan = wide(1000, "maxParallel: 500");
    let mut given = given(&plan);
    assert_eq!(given.owed().len(), 500);
    given
        .run
        .order(&fail_for_good("s7", 1, "broken"))
        .expect("the attempt is open");
    let mut rounds = 1;
    while given.run.execution.owes_advance() {
        let events = given
            .run
            .command(&Command::Advance)
            .expect("an advance is never refused");
        assert!(events.len() <= EVENTS_PER_STEP_MAX);
        assert!(given.run.owed().len() < 500, "nothing that was held begins");
        rounds += 1;
    }
    assert!(rounds >= 999 / EVENTS_PER_STEP_MAX, "{rounds} rounds");
    assert_eq!(given.fault(), ("broken".to_owned(), "/steps/7".to_owned()));
    let cancelled = given
        .expect()
        .tasks
        .values()
        .filter(|task| task.status == TaskStatus::Cancelled);
    assert_eq!(cancelled.count(), 999);
}

#[test]
fn a_result_that_comes_while_the_rest_is_cancelled_changes_nothing_of_the_end() {
    let plan = wide(300, "");
    let mut given = given(&plan);
    given
        .run
        .order(&fail_for_good("s0", 1, "broken"))
        .expect("the attempt is open");
    let late = given
        .owed()
        .pop()
        .expect("there are more than one step cancels");
    given
        .run
        .order(&complete(&late, 1, json!(1)))
        .expect("it has not been cancelled yet");
    given.run.advance();
    assert_eq!(given.fault(), ("broken".to_owned(), "/steps/0".to_owned()));
}

#[test]
fn the_first_error_wins_whichever_is_settled_first() {
    let plan = wide(3, "");
    let mut run = given(&plan).run;
    for name in ["s2", "s1"] {
        run.now = run.now.after(eventflow_domain::DurationMs(1));
        let error = fail_for_good(name, 1, name).command(&plan);
        let events = eventflow_domain::execution::decide(&run.execution, &plan, &error, run.now)
            .expect("it is open");
        for event in events {
            run.execution.evolve(&event, run.now);
            run.history.push((event, run.now));
        }
    }
    let mut recovered = Run::recovered(&plan, &run.history);
    run.advance();
    recovered.advance();
    assert_eq!(run.execution.error, recovered.execution.error);
    assert_eq!(Given { run }.fault().0, "s2");
}

#[test]
fn what_is_owed_is_named_by_the_event_that_made_it_ready() {
    let plan = wide(3, "maxParallel: 1");
    let given = given(&plan);
    let first = given
        .expect()
        .owed(Sequence(0))
        .next()
        .expect("one is owed")
        .sequence;
    assert_eq!(
        given.expect().owed(first).count(),
        0,
        "what was performed is not owed again"
    );
    let given = given.history([complete("s0", 1, json!(1))]);
    let second = given
        .expect()
        .owed(first)
        .next()
        .expect("the next is owed")
        .sequence;
    assert_eq!(
        second,
        given.expect().sequence,
        "the end of the first made it ready"
    );
}

/// A graph above the limit of tasks, which no document can say.
fn too_wide(steps: u32) -> Plan {
    let node = |pointer: String, parent, kind| Node {
        name: pointer.as_str().into(),
        pointer: pointer.into(),
        parent,
        condition: None,
        input: None,
        output: None,
        export: None,
        then: Then::default(),
        timeout: None,
        kind,
    };
    let step = |place: u32| Step {
        id: format!("s{place}").into(),
        node: NodeId(place + 1),
        needs: Vec::new(),
        dependents: Vec::new(),
        join: Join::All,
    };
    let graph = Graph {
        steps: (0..steps).map(step).collect(),
        max_parallel: steps,
        output: None,
    };
    let set = |place| {
        let kind = Kind::Set(Template::Literal(Json::null()));
        node(format!("/steps/{place}"), Some(NodeId(0)), kind)
    };
    let root = node("/steps".to_owned(), None, Kind::Graph(graph));
    let small = n_shape();
    Plan::new(PlanParts {
        workflow: small.workflow.clone(),
        digest: small.digest,
        timeout: small.timeout,
        input: None,
        output: None,
        root: NodeId(0),
        nodes: std::iter::once(root).chain((0..steps).map(set)).collect(),
    })
}

#[test]
fn no_portion_passes_the_limit_of_tasks() {
    for steps in [1_001, 1_010] {
        let plan = too_wide(steps);
        let given = given(&plan);
        assert_eq!(
            given.fault(),
            ("More than 1000 tasks".to_owned(), "/steps/1000".to_owned())
        );
        let tasks = given.expect().tasks.values();
        assert_eq!(
            tasks
                .filter(|task| task.status == TaskStatus::Completed)
                .count(),
            1_000
        );
    }
}
