//! DAG documents: references make dependencies, and everything that no order of the steps satisfies is named.

mod support;

use eventflow_domain::{
    DurationMs,
    limits::TASKS_PER_EXECUTION_MAX,
    plan::{Graph, Join, Kind, Performer, Plan},
    retry::{Backoff, Jitter, RetryPolicy},
};
use support::{faults, outline, plan, steps};

fn graph(plan: &Plan) -> &Graph {
    match &plan.node(plan.root).kind {
        Kind::Graph(graph) => graph,
        other => panic!("{other:?}"),
    }
}

fn needs(plan: &Plan) -> Vec<Vec<usize>> {
    graph(plan)
        .steps
        .iter()
        .map(|step| step.needs.clone())
        .collect()
}

#[track_caller]
fn check_fault(text: &str, pointer: &str, says: &str) {
    let faults = faults(&steps(text));
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(
        faults[0].starts_with(&format!("{pointer}: ")) && faults[0].contains(says),
        "{faults:#?}"
    );
}

#[test]
fn references_and_depends_on_make_dependencies() {
    let plan = plan(&steps(
        r#"{"id": "a", "uses": "set", "with": {"total": 1}},
           {"id": "b-2", "uses": "agent", "with": {"capability": "x"}, "inputs": {"n": "${a.total}", "host": "google.com"}},
           {"stepId": "c", "uses": "set", "with": ["a.total", "text ${b-2.x[0]}"], "dependsOn": ["a", "a"]},
           {"id": "d", "uses": "http", "with": {"method": "get", "endpoint": "https://x/${c[0]}"}},
           {"id": "e", "uses": "set", "with": 1, "when": "${ .a.total > 1 and .input.go }", "join": "any"},
           {"id": "f", "uses": "set", "with": "${input.x}", "condition": ".[\"b-2\"].ok"}"#,
    ));
    assert_eq!(
        needs(&plan),
        [vec![], vec![0], vec![0, 1], vec![2], vec![0], vec![1]]
    );
    let graph = graph(&plan);
    assert_eq!(graph.steps[0].dependents, [1, 2, 4]);
    assert_eq!(
        (graph.steps[3].join, graph.steps[4].join),
        (Join::All, Join::Any)
    );
    assert_eq!(graph.max_parallel, TASKS_PER_EXECUTION_MAX);
    insta::assert_snapshot!(outline(&plan), @r##"
default/test:1.0.0 timeout 86400000 ms
/steps `steps` in -: graph of a, b-2, c, d, e, f, 1000 at once
    0 a: needs [], needed by [1, 2, 4], join All
    1 b-2: needs [0], needed by [2, 5], join All
    2 c: needs [0, 1], needed by [3], join All
    3 d: needs [2], needed by [], join All
    4 e: needs [0], needed by [], join Any
    5 f: needs [1], needed by [], join All
/steps/0 `a` in /steps: set
    set {"total":1}
/steps/1 `b-2` in /steps: agent x, heartbeat None, start within 300000 ms
    RetryPolicy { retries: 3, delay: DurationMs(1000), backoff: Exponential, delay_max: DurationMs(300000), jitter: Percent(20) }
    input {n: ${ .a.total }, host: "google.com"}
/steps/2 `c` in /steps: set
    set [${ .a.total }, `text ${ .["b-2"].x[0] }`]
/steps/3 `d` in /steps: GET Content, redirect false, start within 300000 ms
    RetryPolicy { retries: 0, delay: DurationMs(0), backoff: Constant, delay_max: DurationMs(0), jitter: None }
    endpoint `https://x/${ .c[0] }`
/steps/4 `e` in /steps: set
    if .a.total > 1 and .input.go
    set 1
/steps/5 `f` in /steps: set
    if .["b-2"].ok
    set ${ .input.x }
"##);
}

#[test]
fn a_step_is_a_node_below_the_graph() {
    let plan = plan(&steps(r#"{"id": "a", "uses": "set", "with": null}"#));
    let pointers: Vec<(&str, &str)> = plan
        .nodes()
        .map(|(_, node)| (&*node.pointer, &*node.name))
        .collect();
    assert_eq!(pointers, [("/steps", "steps"), ("/steps/0", "a")]);
    assert_eq!(
        plan.node(graph(&plan).steps[0].node).parent,
        Some(plan.root)
    );
    assert_eq!(plan.workflow.to_string(), "default/test:1.0.0");
}

#[test]
fn a_policy_is_read_whole() {
    let invoke = |rest: &str| {
        let plan = plan(&steps(&format!(
            r#"{{"id": "a", "uses": "agent", "with": {{"capability": "x"}}{rest}}}"#
        )));
        let node = plan.node(graph(&plan).steps[0].node);
        let Kind::Invoke(invoke) = &node.kind else {
            panic!("an agent")
        };
        (invoke.retry, node.timeout)
    };
    assert_eq!(invoke(""), (RetryPolicy::DEFAULT, None));
    let policy = RetryPolicy {
        retries: 5,
        delay: DurationMs(500),
        backoff: Backoff::Exponential,
        delay_max: DurationMs(10_000),
        jitter: Jitter::Percent(30),
    };
    let text = r#", "timeout": "1m", "retry": {"limit": 5, "delay": "500ms", "backoff": "exponential", "maxDelay": "PT10S", "jitter": 30}"#;
    assert_eq!(invoke(text), (policy, Some(DurationMs(60_000))));
    let jitter = |jitter: &str| {
        invoke(&format!(r#", "retry": {{"jitter": {jitter}}}"#))
            .0
            .jitter
    };
    assert_eq!(jitter("true"), RetryPolicy::DEFAULT.jitter);
    assert_eq!(jitter("false"), Jitter::None);
    assert_eq!(
        jitter(r#"{"from": "PT0S", "to": "1s"}"#),
        Jitter::Between(DurationMs(0), DurationMs(1_000))
    );
}

#[test]
fn an_http_step_is_retried_only_by_its_own_policy() {
    let retry = |rest: &str| {
        let plan = plan(&steps(&format!(
            r#"{{"id": "a", "uses": "http", "with": {{"method": "GET", "endpoint": "http://x"}}{rest}}}"#
        )));
        let Kind::Invoke(invoke) = &plan.node(graph(&plan).steps[0].node).kind else {
            panic!("http")
        };
        invoke.retry
    };
    assert_eq!(retry(""), RetryPolicy::NEVER);
    assert_eq!(retry(r#", "retry": {"limit": 2}"#).retries, 2);
}

#[test]
fn flow_ops_spellings_are_read() {
    let plan = plan(&steps(
        r#"{"stepId": "s1", "pluginId": "http-get", "type": "ACTION", "inputs": {"url": "${input.url}"},
            "config": {"timeoutMs": 1500, "retryCount": 2, "retryDelayMs": 100}},
           {"stepId": "s2", "pluginId": "mail", "inputs": {"to": "s1.owner", "cc": "x.owner"}, "condition": ".s1.ok",
            "with": {"startWithin": "PT10S"}}"#,
    ));
    let node = plan.node(graph(&plan).steps[0].node);
    assert_eq!(node.timeout, Some(DurationMs(1_500)));
    let Kind::Invoke(invoke) = &node.kind else {
        panic!("an agent")
    };
    let Performer::Agent { capability, .. } = &invoke.performer else {
        panic!("an agent")
    };
    assert_eq!(capability.as_str(), "http-get");
    assert_eq!(
        (
            invoke.retry.retries,
            invoke.retry.delay,
            invoke.retry.backoff
        ),
        (2, DurationMs(100), Backoff::Constant)
    );
    assert_eq!(needs(&plan), [vec![], vec![0]]);
}

#[test]
fn inputs_are_added_to_what_http_and_set_are_given() {
    let plan = plan(&steps(
        r#"{"id": "a", "uses": "set", "with": {"x": 1}, "inputs": {"y": "${input.y}"}},
           {"id": "b", "uses": "http", "with": {"method": "post", "endpoint": "http://x"}, "inputs": {"body": "${a}"}},
           {"id": "c", "uses": "set", "inputs": {"z": 1}}"#,
    ));
    insta::assert_snapshot!(outline(&plan), @r##"
default/test:1.0.0 timeout 86400000 ms
/steps `steps` in -: graph of a, b, c, 1000 at once
    0 a: needs [], needed by [1], join All
    1 b: needs [0], needed by [], join All
    2 c: needs [], needed by [], join All
/steps/0 `a` in /steps: set
    set {x: 1, y: ${ .input.y }}
/steps/1 `b` in /steps: POST Content, redirect false, start within 300000 ms
    RetryPolicy { retries: 0, delay: DurationMs(0), backoff: Constant, delay_max: DurationMs(0), jitter: None }
    endpoint "http://x"
    body ${ .a }
/steps/2 `c` in /steps: set
    set {z: 1}
"##);
    check_fault(
        r#"{"id": "a", "uses": "set", "with": {"x": 1}, "inputs": {"x": 2}}"#,
        "/steps/0/inputs/x",
        "already",
    );
    check_fault(
        r#"{"id": "b", "uses": "http", "with": {"method": "get", "endpoint": "http://x"}, "inputs": {"boddy": 1}}"#,
        "/steps/0/inputs/boddy",
        "did you mean `body`?",
    );
}

#[test]
fn every_circle_is_named_with_its_way() {
    let faults = faults(&steps(
        r#"{"id": "a", "uses": "set", "with": "${b.x}"},
           {"id": "b", "uses": "set", "with": 1, "when": ".a.x"},
           {"id": "c", "uses": "set", "with": 1, "dependsOn": ["c"]},
           {"id": "d", "uses": "set", "with": 1, "dependsOn": ["e"]},
           {"id": "e", "uses": "set", "with": 1, "dependsOn": ["f"]},
           {"id": "f", "uses": "set", "with": 1, "dependsOn": ["d", "e"]},
           {"id": "g", "uses": "set", "with": 1, "dependsOn": ["a"]}"#,
    ));
    assert_eq!(
        faults,
        [
            "/steps/0: steps need each other in a circle: a needs b needs a",
            "/steps/2: steps need each other in a circle: c needs c",
            "/steps/3: steps need each other in a circle: d needs e needs f needs d",
            "/steps/4: steps need each other in a circle: e needs f needs e",
        ]
    );
}

#[test]
fn all_faults_of_a_document_are_named_at_once() {
    insta::assert_snapshot!(faults(
        r#"{"dag": 1.0, "namespace": "a b", "version": "1", "maxParallel": 0, "timeout": "later", "stepz": [],
            "output": {"x": "${nobody.y}", "y": "${ a + b }"},
            "steps": [
              {"id": "a", "uses": "set", "with": "${missing.x} and ${b.y}"},
              {"id": "a", "uses": "set", "with": 1},
              {"id": "input", "uses": "set", "with": 1},
              {"id": "no spaces", "uses": "set", "with": 1},
              {"uses": "set", "with": 1},
              {"id": "b", "uses": "agnet", "with": 1},
              {"id": "c", "uses": "plugin", "with": 1},
              {"id": "d", "uses": "workflow", "with": 1},
              {"id": "e", "uses": "agent", "with": {"capability": "no good", "input": 1}},
              {"id": "f", "uses": "http", "with": {"method": "FETCH", "endpoint": "https://x/{id}", "headers": [1]}},
              {"id": "g", "uses": "set", "dependsOn": ["a", "ff", 1], "join": "none", "retry": {"limits": 1}},
              {"id": "h", "pluginId": "x", "uses": "agent", "type": "DECISION", "branches": [], "children": [], "outputs": {}},
              {"id": "i", "uses": "set", "with": 1, "when": ".ab.c", "condition": ".a"},
              {"id": "j", "uses": "set", "with": 1, "when": ".x.y or .a"},
              {"id": "k", "uses": "set", "with": 1, "when": "."},
              {"id": "l", "uses": "set", "with": "${a.", "retry": {"limit": 1}},
              {"id": "m", "pluginId": "x", "timeout": "1s", "config": {"timeoutMs": 1, "retries": 2}},
              {"id": "n"},
              7
            ]}"#
    )
    .join("\n"), @r##"
/stepz: there is no property `stepz` here; did you mean `steps`?
/dag: must be the text "1.0", not `1.0`
/namespace: must be 1 to 64 of A-Z a-z 0-9 _ -, not `a b`
: must have the property `name`
/version: must be a semantic version, as `1.0.0`, not `1`
/timeout: is not a duration: write ISO 8601 (`PT30S`, `PT5M`, `P1D`) or `30s`, `5m`, `1d`
/maxParallel: must be an integer from 1 to 1000, not `0`
/steps/1/id: the step /steps/0 has the id `a` already
/steps/2/id: `input` is the execution's input: call the step something else
/steps/3/id: a step's id is 1 to 64 of A-Z a-z 0-9 _ -, not `no spaces`
/steps/0/with: there is no step `missing`
/steps/4: must have the property `id`
/steps/5/uses: must be one of http, agent, set, not `agnet`; did you mean `agent`?
/steps/6/uses: `plugin` is not executed yet: remove it
/steps/7/uses: `workflow` is not executed yet: remove it
/steps/8/with/input: there is no property `input` here
/steps/8/with/capability: capability `no good` is not a name: use 1 to 64 of A-Z a-z 0-9 _ -
/steps/9/with/method: must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, written out, not the text `FETCH`
/steps/9/with/endpoint: `{` and `}` are for references in a step's URL: write `${step.key}` or `${input.key}`
/steps/9/with/headers: must be an object, not an array
/steps/10: must have the property `with`
/steps/10/dependsOn/1: there is no step `ff`
/steps/10/dependsOn/2: must be a string, not `1`: put it in quotes
/steps/10/join: must be one of all, any, not `none`
/steps/10/retry/limits: there is no property `limits` here; did you mean `limit`?
/steps/11/branches: `branches` is not executed yet: remove it
/steps/11/children: `children` is not executed yet: remove it
/steps/11/outputs: `outputs` is not executed yet: remove it
/steps/11/type: `DECISION` is not executed yet: remove it
/steps/11/pluginId: stands beside `uses`: give one of the two
/steps/12/condition: stands beside `when`: give one of the two
/steps/12/when: there is no step `ab`
/steps/13/when: there is no step `x`
/steps/14/when: reads all of `.`: name the steps it needs, as `.step.key`
/steps/15/with: has a `${` that is not closed
/steps/16/config/retries: there is no property `retries` here
/steps/16/config/timeoutMs: stands beside the step's `timeout`: give one of the two
/steps/17: must have the property `uses`
/steps/18: must be an object, not `7`
/output/x: there is no step `nobody`
/output/y: `${ a + b }` is not a reference: write `${step.key}` or `${input.key}`; expressions stand in `when` only
"##);
}

#[test]
fn a_document_needs_steps() {
    check_fault("", "/steps", "at least one step");
    assert_eq!(
        faults(r#"{"dag": "1.0", "name": "a", "version": "1.0.0"}"#),
        [": must have the property `steps`"]
    );
}

#[test]
fn a_thousand_steps_are_compiled_and_one_more_is_not() {
    let list = |count: usize| {
        let steps: Vec<String> = (0..count)
            .map(|at| format!(r#"{{"id": "{at}", "uses": "set", "with": 1}}"#))
            .collect();
        steps.join(",")
    };
    assert_eq!(plan(&steps(&list(1_000))).nodes().count(), 1_001);
    check_fault(&list(1_001), "/steps", "at most 1000 steps");
}
