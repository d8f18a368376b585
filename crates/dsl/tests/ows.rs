//! OWS documents: what is executed, what is refused, and that all faults are named at once.

mod support;

use eventflow_domain::{
    DurationMs,
    limits::{EXECUTION_TIMEOUT, START_WITHIN},
    plan::{HttpOutput, Kind, Node, Performer, Plan, Then},
    retry::{Backoff, Jitter, RetryPolicy},
};
use support::{faults, outline, plan, tasks};

fn node<'p>(plan: &'p Plan, pointer: &str) -> &'p Node {
    plan.node(
        plan.find(pointer)
            .unwrap_or_else(|| panic!("no {pointer} in\n{}", outline(plan))),
    )
}

/// The only fault of these tasks.
fn fault(text: &str) -> String {
    let mut faults = faults(&tasks(text));
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

#[track_caller]
fn check_fault(text: &str, pointer: &str, says: &str) {
    let fault = fault(text);
    assert!(
        fault.starts_with(&format!("{pointer}: ")) && fault.contains(says),
        "{fault}"
    );
}

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
fn then_reaches_siblings_forward_and_backward() {
    let plan = plan(&tasks(
        "
- a: {set: {x: 1}, then: c}
- b: {set: {x: 2}, then: end}
- c: {set: {x: 3}, then: b}
- d: {set: {x: 4}, then: continue}
",
    ));
    let target = |pointer| node(&plan, pointer).then;
    assert_eq!(target("/do/0/a"), Then::Task(plan.find("/do/2/c").unwrap()));
    assert_eq!(target("/do/2/c"), Then::Task(plan.find("/do/1/b").unwrap()));
    assert_eq!(target("/do/1/b"), Then::End);
    assert_eq!(target("/do/3/d"), Then::Continue);
}

#[test]
fn the_default_case_is_tried_last_wherever_it_stands() {
    let plan = plan(&tasks(
        "
- choose:
    switch:
      - otherwise: {then: exit}
      - large: {when: '${ .amount > 100 }', then: next}
      - small: {when: .amount < 1, then: end}
- next: {set: {a: 1}}
",
    ));
    let Kind::Switch(cases) = &node(&plan, "/do/0/choose").kind else {
        panic!("a switch")
    };
    let names: Vec<(&str, bool)> = cases
        .iter()
        .map(|case| (&*case.name, case.when.is_some()))
        .collect();
    assert_eq!(
        names,
        [("large", true), ("small", true), ("otherwise", false)]
    );
    assert_eq!(cases[0].then, Then::Task(plan.find("/do/1/next").unwrap()));
}

#[test]
fn an_http_call_is_read_whole() {
    let plan = plan(&tasks(
        "
- call:
    call: http
    with:
      method: Post
      endpoint: {uri: 'https://example.com/{tenant}/orders/{id}?x=1'}
      headers: {X-Trace: '${ .trace }', Accept: text/plain}
      query: '${ .query }'
      body: {items: '${ .items }', count: 2}
      output: response
      redirect: true
",
    ));
    insta::assert_snapshot!(outline(&plan), @r##"
default/test:1.0.0 timeout 86400000 ms
/do `do` in -: sequence of call
/do/0/call `call` in /do: POST Response, redirect true, start within 300000 ms
    RetryPolicy { retries: 0, delay: DurationMs(0), backoff: Constant, delay_max: DurationMs(0), jitter: None }
    endpoint `https://example.com/${ if .tenant == null then "" else .tenant | tostring | @uri end }/orders/${ if .id == null then "" else .id | tostring | @uri end }?x=1`
    headers {X-Trace: ${ .trace }, Accept: "text/plain"}
    query ${ .query }
    body {items: ${ .items }, count: 2}
"##);
}

#[test]
fn a_retry_policy_is_read_whole() {
    let policy = |retry: &str| {
        let plan = plan(&tasks(&format!(
            "\n- a:\n    call: agent:1.0.0@default\n    with: {{capability: a, startWithin: 10s, heartbeat: PT1M, retry: {retry}}}\n"
        )));
        let Kind::Invoke(invoke) = &node(&plan, "/do/0/a").kind else {
            panic!("an agent")
        };
        assert_eq!(invoke.start_within, DurationMs::from_secs(10));
        let Performer::Agent { heartbeat, .. } = &invoke.performer else {
            panic!("an agent")
        };
        assert_eq!(*heartbeat, Some(DurationMs::from_secs(60)));
        invoke.retry
    };
    assert_eq!(
        policy(
            "{delay: PT10M, backoff: {linear: {}}, limit: {attempt: {count: 7}}, jitter: {from: PT0S, to: {seconds: 2}}}"
        ),
        RetryPolicy {
            retries: 7,
            delay: DurationMs::from_secs(600),
            backoff: Backoff::Linear,
            delay_max: DurationMs::from_secs(600),
            jitter: Jitter::Between(DurationMs(0), DurationMs(2_000)),
        }
    );
    // What a policy leaves out is the plainest; only count and delay are the engine's.
    assert_eq!(
        policy("{}"),
        RetryPolicy {
            backoff: Backoff::Constant,
            jitter: Jitter::None,
            ..RetryPolicy::DEFAULT
        }
    );
    assert_eq!(policy("{limit: {attempt: {count: 0}}}").retries, 0);
}

#[test]
fn an_error_is_raised_inline_or_by_name() {
    let plan = plan(
        "
document: {dsl: 1.0.3, namespace: default, name: test, version: 1.0.0}
use:
  errors:
    gone: {type: 'https://example.com/gone', status: 410, title: '${ \"gone: \" + .what }'}
do:
  - named: {raise: {error: gone}}
  - inline: {raise: {error: {type: '${ .type }', status: 500, detail: Broken}}}
",
    );
    insta::assert_snapshot!(outline(&plan), @r##"
default/test:1.0.0 timeout 86400000 ms
/do `do` in -: sequence of named, inline
/do/0/named `named` in /do: raise
    status 410
    type "https://example.com/gone"
    title ${ "gone: " + .what }
/do/1/inline `inline` in /do: raise
    status 500
    type ${ .type }
    detail "Broken"
"##);
}

const EVERYTHING_WRONG: &str = r#"
document: {dsl: 1.1.0, namespace: -bad, version: 1.0, titel: Order}
input: {schema: {format: json, document: {}}, from: '.a['}
schedule: {cron: '0 0 * * *'}
use:
  secrets: [key]
  functions: {}
  errors: {e: {type: not-a-uri, status: 42, instance: /do/0}}
  timeouts: {t: {after: P1M}}
timeout: tt
outptu: {as: .}
do:
  - first:
      call: htpp
      with: {}
  - second:
      call: http
      with:
        methd: get
        endpoint: {uri: ftp://example.com, authentication: {use: x}}
        headers: {X: 1}
        output: contents
        redirect: 'no'
  - third:
      call: agent:1.0.0@default
      with: {capability: a b, startWithin: soon, heartbeat: PT0S, wait: 1, retry: {when: .x, limit: {attempt: {count: -1, duration: PT1S}, duration: PT1S}, backoff: {constant: {}, linear: {}}, jitter: {from: PT2S, to: PT1S}}}
  - fourth:
      set: {a: {'b/c': ['${ def f: f; f }']}}
      if: .a ==
      then: fith
  - fifth:
      swich: []
  - sixth:
      switch:
        - a: {when: .x}
        - a: {then: first}
        - b: {then: nowhere}
        - c: 1
  - seventh:
      set: {a: 1}
      wait: PT1S
  - seventh: {raise: {error: missing}}
  - eighth: {raise: {error: {title: 1}}}
  - ninth: {do: []}
  - tenth: 5
  - eleventh: {set: {}, tweleve: {}}
  - a: {set: {x: 1}}
    b: {set: {x: 1}}
  - {}
  - "new\nline": {set: {x: 1}}
"#;

#[test]
fn all_faults_of_a_document_are_named_at_once() {
    insta::assert_snapshot!(faults(EVERYTHING_WRONG).join("\n"), @r##"
/schedule: `schedule` is not executed yet: remove it
/outptu: there is no property `outptu` here; did you mean `output`?
/document/titel: there is no property `titel` here; did you mean `title`?
/document/dsl: must be a version 1.0.x of the standard, as `1.0.3`, not `1.1.0`
/document/namespace: must be 1 to 63 of A-Z a-z 0-9 -, beginning and ending with a letter or digit, not `-bad`
/document: must have the property `name`
/document/version: must be a string, not `1.0`: put it in quotes
/use/secrets: `secrets` is not executed yet: remove it
/use/functions: `functions` is not executed yet: remove it
/use/errors/e/instance: is set to the reference of the task that raises the error: remove it
/use/errors/e/type: must be a URI, as `https://example.com/errors/out-of-stock`
/use/errors/e/status: must be an integer from 100 to 599, not `42`
/use/timeouts/t/after: years and months have no fixed length: write days (`P30D`)
/input/schema: `schema` is not executed yet: remove it
/input/from: the expression `.a[` is not accepted: what opens at byte 2 is not closed by `]`
/timeout: there is no `tt` in `use.timeouts`
/do/0/first/call: there is no function `htpp`: call `http` or `agent:1.0.0@default`; did you mean `http`?
/do/1/second/with/methd: there is no property `methd` here; did you mean `method`?
/do/1/second/with: must have the property `method`
/do/1/second/with/endpoint/authentication: `authentication` is not executed yet: remove it
/do/1/second/with/endpoint/uri: must be a URL that begins with `http://` or `https://`
/do/1/second/with/headers/X: must be a string, not `1`: put it in quotes
/do/1/second/with/output: must be one of content, raw, response, not `contents`; did you mean `content`?
/do/1/second/with/redirect: must be true or false, not the text `no`
/do/2/third/with/wait: there is no property `wait` here
/do/2/third/with/capability: capability `a b` is not a name: use 1 to 64 of A-Z a-z 0-9 _ -
/do/2/third/with/startWithin: is not a duration: write ISO 8601 (`PT30S`, `PT5M`, `P1D`) or `30s`, `5m`, `1d`
/do/2/third/with/heartbeat: must be longer than nothing
/do/2/third/with/retry/when: `when` is not executed yet: remove it
/do/2/third/with/retry/backoff: must have exactly one of constant, linear, exponential
/do/2/third/with/retry/limit/duration: `duration` is not executed yet: remove it
/do/2/third/with/retry/limit/attempt/duration: `duration` is not executed yet: remove it
/do/2/third/with/retry/limit/attempt/count: must be an integer from 0 to 10000, not `-1`
/do/2/third/with/retry/jitter: `from` must not be longer than `to`
/do/3/fourth/if: the expression `.a ==` is not accepted: at its end term is expected
/do/3/fourth/set/a/b~1c/0: the expression `def f: f; f` is not accepted: `def`, `reduce` and `foreach` are not available: what they compute need not end; use `map`, `select`, `add`, `any`, `all`, `group_by`
/do/4/fifth/swich: there is no property `swich` here; did you mean `switch`?
/do/4/fifth: must say what the task does: one of call, do, set, switch, raise
/do/6/seventh: must do one thing, not set and wait: make them tasks of their own
/do/7/seventh: another task of this list is called `seventh` already
/do/7/seventh/raise/error: there is no `missing` in `use.errors`
/do/8/eighth/raise/error: must have the property `type`
/do/8/eighth/raise/error: must have the property `status`
/do/8/eighth/raise/error/title: must be a string, not `1`: put it in quotes
/do/9/ninth/do: must have at least one task
/do/10/tenth: must be an object, not `5`
/do/11/eleventh/tweleve: there is no property `tweleve` here
/do/11/eleventh/set: must set at least one property
/do/12: must have one property, the task's name: indent what belongs to the task below its name
/do/13: must have one property, the task's name: indent what belongs to the task below its name
/do/14: a task's name has 1 to 64 printable characters, not `new\nline`
/do/3/fourth/then: there is no task `fith` in the same list; did you mean `fifth`?
/do/5/sixth/switch/0/a: must have the property `then`
/do/5/sixth/switch/1/a: another case of this switch is called `a` already
/do/5/sixth/switch/2/b/then: there is no task `nowhere` in the same list
/do/5/sixth/switch/2/b: only one case may have no `when`: it is the default
/do/5/sixth/switch/3/c: must be an object, not `1`
"##);
}

#[test]
fn what_is_not_executed_yet_is_refused_at_its_own_place() {
    for (task, pointer) in [
        ("wait: PT1S", "wait"),
        (
            "emit: {event: {with: {source: 'https://a', type: t}}}",
            "emit",
        ),
        ("run: {shell: {command: ls}}", "run"),
        (
            "{for: {in: .list}, while: .go, do: [{a: {nonsense: 1}}]}",
            "for",
        ),
        ("{listen: {to: {any: []}}, foreach: {item: x}}", "listen"),
        (
            "fork: {branches: [{a: {set: {x: 1}}}], compete: true}",
            "fork",
        ),
        ("{try: [{a: {set: {x: 1}}}], catch: {as: e}}", "try"),
        ("{call: grpc, with: {}}", "call"),
        ("call: 'plugin:1.0.0@default'", "call"),
        ("call: 'dag:1.0.0@default'", "call"),
        (
            "{set: {x: 1}, input: {schema: {document: {}}}}",
            "input/schema",
        ),
        (
            "{set: {x: 1}, output: {schema: {document: {}}, as: .}}",
            "output/schema",
        ),
        (
            "{set: {x: 1}, export: {schema: {document: {}}}}",
            "export/schema",
        ),
        (
            "{set: {x: 1}, timeout: {after: '${ .t }'}}",
            "timeout/after",
        ),
    ] {
        let fault = fault(&format!("\n- t:\n    {task}\n"));
        assert!(
            fault.starts_with(&format!("/do/0/t/{pointer}: ")),
            "{fault}"
        );
        assert!(fault.contains("not executed yet"), "{fault}");
    }
}

#[test]
fn faults_inside_of_what_is_not_executed_are_named_too() {
    let faults = faults(&tasks(
        "
- t:
    try: [{a: {sett: 1}}]
    catch: {}
- f:
    fork: {branches: [{a: {wait: PT1S}}]}
",
    ));
    let pointers: Vec<&str> = faults
        .iter()
        .map(|fault| fault.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        pointers,
        [
            "/do/0/t/try",
            "/do/0/t/try/0/a/sett",
            "/do/0/t/try/0/a",
            "/do/1/f/fork",
            "/do/1/f/fork/branches/0/a/wait"
        ]
    );
}

#[test]
fn then_reaches_nothing_but_siblings() {
    check_fault(
        "\n- a: {do: [{b: {set: {x: 1}}}]}\n- c: {set: {x: 1}, then: b}\n",
        "/do/1/c/then",
        "no task `b`",
    );
    check_fault(
        "\n- greet: {set: {x: 1}, then: greed}\n",
        "/do/0/greet/then",
        "did you mean `greet`?",
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
fn a_misspelt_property_is_refused_with_what_was_meant() {
    check_fault(
        "\n- a: {set: {x: 1}, metdata: {}}\n",
        "/do/0/a/metdata",
        "did you mean `metadata`?",
    );
    check_fault(
        "\n- a: {call: agent:1.0.0@default, with: {capability: a, starWithin: PT1S}}\n",
        "/do/0/a/with/starWithin",
        "did you mean `startWithin`?",
    );
    check_fault(
        "\n- a: {call: agent, with: {capability: a}}\n",
        "/do/0/a/call",
        "did you mean `agent:1.0.0@default`?",
    );
    // A property of another kind of task is none of this one.
    check_fault(
        "\n- a: {set: {x: 1}, with: {}}\n",
        "/do/0/a/with",
        "no property `with`",
    );
}

#[test]
fn a_bad_expression_is_refused_at_its_own_place() {
    check_fault(
        "\n- a: {set: {b: [1, '${ .x[ }']}}\n",
        "/do/0/a/set/b/1",
        "",
    );
    check_fault(
        "\n- a: {set: {x: 1}, if: 'range(9)'}\n",
        "/do/0/a/if",
        "range",
    );
    check_fault(
        "\n- a: {set: {x: 1}, output: {as: ''}}\n",
        "/do/0/a/output/as",
        "",
    );
    check_fault(
        "\n- a: {set: {x: 1}, output: {as: 1}}\n",
        "/do/0/a/output/as",
        "must be an expression",
    );
}

#[test]
fn a_uri_template_has_simple_variables_only() {
    let call =
        |uri: &str| format!("\n- a: {{call: http, with: {{method: get, endpoint: '{uri}'}}}}\n");
    for uri in [
        "https://a/{+path}",
        "https://a/{?q}",
        "https://a/{a,b}",
        "https://a/{}",
        "https://a/{x",
        "https://a/x}",
    ] {
        check_fault(&call(uri), "/do/0/a/with/endpoint", "");
    }
    check_fault(&call("{base}/x"), "/do/0/a/with/endpoint", "");
    check_fault(
        &call("https://a/${ .x }"),
        "/do/0/a/with/endpoint",
        "the whole text",
    );
    plan(&tasks(&call("${ .base + \"/x\" }")));
    plan(&tasks(&call("http://127.0.0.1:8080/{id}")));
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
