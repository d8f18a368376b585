//! What every task has: its place, its name, its base, and the bounds of a document.

use eventflow_domain::{
    DurationMs,
    limits::{EXECUTION_TIMEOUT, START_WITHIN},
    plan::{HttpOutput, Kind, Performer},
    retry::RetryPolicy,
};

use crate::{
    check_fault, fault, node,
    support::{faults, outline, plan, tasks},
};

#[test]
fn nested_tasks_have_the_pointers_of_the_standard() {
    let plan = plan(&tasks(
        "
- outer:
    do:
      - 'in/n~er':
          set: {a: 1}
      - last:
          set: {b: 2}
- after: {set: {c: 3}}
",
    ));
    let pointers: Vec<&str> = plan.nodes().map(|(_, node)| &*node.pointer).collect();
    assert_eq!(
        pointers,
        [
            "/do",
            "/do/0/outer",
            "/do/0/outer/do/0/in~1n~0er",
            "/do/0/outer/do/1/last",
            "/do/1/after"
        ]
    );
    let inner = node(&plan, "/do/0/outer/do/0/in~1n~0er");
    assert_eq!(&*inner.name, "in/n~er");
    assert_eq!(inner.parent, plan.find("/do/0/outer"));
    assert_eq!(node(&plan, "/do").parent, None);
    assert_eq!(plan.root, plan.find("/do").unwrap());
}

#[test]
fn a_task_has_its_base() {
    let plan = plan(
        "
document: {dsl: 1.0.0, namespace: a-1, name: B, version: 1.0.0-rc.1+5, title: T, summary: S, tags: {t: x}, metadata: {m: [1]}}
input: {from: '${ .order }'}
output: {as: {result: '${ . }'}}
timeout: {after: {hours: 2, minutes: 30}}
use:
  timeouts: {short: {after: PT5S}}
do:
  - task:
      if: .go
      input: {from: .x}
      output: {as: '{ y: . }'}
      export: {as: '${ $context + . }'}
      timeout: short
      metadata: {anything: true}
      set: {z: 1}
      then: exit
  - whole:
      set: ${ $context }
      timeout: {after: PT1M}
",
    );
    assert_eq!(plan.workflow.to_string(), "a-1/B:1.0.0-rc.1+5");
    assert_eq!(plan.timeout, DurationMs::from_secs(9_000));
    insta::assert_snapshot!(outline(&plan), @r##"
a-1/B:1.0.0-rc.1+5 timeout 9000000 ms
    input ${ .order }
    output {result: ${ . }}
/do `do` in -: sequence of task, whole
/do/0/task `task` in /do: set
    if .go
    input ${ .x }
    output ${ { y: . } }
    export ${ $context + . }
    timeout 5000 ms
    then exit
    set {"z":1}
/do/1/whole `whole` in /do: set
    timeout 60000 ms
    set ${ $context }
"##);
}

#[test]
fn what_is_not_said_is_the_engines_default() {
    let plan = plan(&tasks(
        "
- ask:
    call: agent:1.0.0@default
    with: {capability: ask}
- get:
    call: http
    with: {method: get, endpoint: 'https://example.com'}
",
    ));
    assert_eq!(plan.timeout, EXECUTION_TIMEOUT);
    let Kind::Invoke(ask) = &node(&plan, "/do/0/ask").kind else {
        panic!("an agent")
    };
    assert_eq!(
        (ask.retry, ask.start_within),
        (RetryPolicy::DEFAULT, START_WITHIN)
    );
    let Kind::Invoke(get) = &node(&plan, "/do/1/get").kind else {
        panic!("http")
    };
    assert_eq!(get.retry, RetryPolicy::NEVER);
    let Performer::Http(call) = &get.performer else {
        panic!("http")
    };
    assert_eq!(
        (&*call.method, call.output, call.redirect),
        ("GET", HttpOutput::Content, false)
    );
}

#[test]
fn a_name_stands_once_in_a_list() {
    check_fault(
        "\n- a: {set: {x: 1}}\n- a: {set: {x: 1}}\n",
        "/do/1/a",
        "already",
    );
    plan(&tasks("\n- a: {do: [{a: {set: {x: 1}}}]}\n"));
}

#[test]
fn a_thousand_tasks_are_compiled_and_one_more_is_not() {
    let list = |count: usize| {
        (0..count).fold("\n".to_owned(), |text, at| {
            text + &format!("- t{at}: {{set: {{a: 1}}}}\n")
        })
    };
    assert_eq!(plan(&tasks(&list(1_000))).nodes().count(), 1_001);
    let fault = fault(&list(1_001));
    assert!(
        fault.starts_with("/do: ") && fault.contains("/do/1000/t1000"),
        "{fault}"
    );
}

#[test]
fn tasks_are_counted_wherever_they_stand() {
    let list = |count: usize| {
        let tasks: Vec<String> = (0..count)
            .map(|at| format!("{{t{at}: {{set: {{a: 1}}}}}}"))
            .collect();
        tasks.join(", ")
    };
    // Beside the two containers and the body.
    let nested = |branches: usize, handlers: usize| {
        format!(
            "
- f: {{fork: {{branches: [{}]}}}}
- t: {{try: [{{a: {{set: {{x: 1}}}}}}], catch: {{do: [{}]}}}}
",
            list(branches),
            list(handlers)
        )
    };
    assert_eq!(plan(&tasks(&nested(497, 500))).nodes().count(), 1_001);
    check_fault(&nested(497, 501), "/do", "/do/1/t/catch/do/500/t500");
    check_fault(&nested(1_000, 1), "/do", "/do/0/f/fork/branches/999/t999");
}

#[test]
fn too_many_expressions_are_refused_before_they_are_compiled() {
    let list = vec!["'${ .a + 1 }'"; eventflow_dsl::EXPRESSIONS_MAX + 1].join(", ");
    let fault = fault(&format!("\n- a: {{set: {{a: [{list}]}}}}\n"));
    assert!(fault.contains("5001 expressions"), "{fault}");
}

#[test]
fn what_is_no_workflow_at_all_is_refused() {
    for text in ["1", "[]", "null", "\"x\""] {
        assert_eq!(faults(text).len(), 1, "{text}");
    }
    let faults = faults("{}");
    assert_eq!(
        faults,
        [
            ": must have the property `document`",
            ": must have the property `do`"
        ]
    );
}
