//! What is refused, at which place and with which words; all of it at once.

use crate::{
    check_fault, fault,
    support::{faults, tasks},
};

const EVERYTHING_WRONG: &str = r#"
document: {dsl: 1.1.0, namespace: -bad, version: 1.0, titel: Order}
input: {schema: {format: json, document: {}}, from: '.a['}
schedule: {cron: '0 0 * * *'}
use:
  secrets: [key]
  functions: {}
  errors: {e: {type: not-a-uri, status: 42, instance: /do/0}}
  timeouts: {t: {after: P1M}}
  retries: {used: {when: .x ==, dealy: PT1S}, unused: {when: $problem.status, limit: 3}}
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
  - twelfth:
      try: [{a: {fork: {branches: [{b: {set: {x: 1}, then: c}}, {c: {wait: 1 minute}}]}}}]
      catch:
        errors: {with: {type: '${ .t }', status: '503', detail: x}, without: {}}
        as: input
        when: $error.status ==
        retry: usde
        do:
          - retried:
              try: [{d: {set: {x: '${ $undefined }'}}}]
              catch: {retry: used}
          - again:
              try: [{d: {set: {x: 1}}}]
              catch: {retry: used, as: 1st}
  - {}
  - "new\nline": {set: {x: 1}}
"#;

#[test]
fn all_faults_of_a_document_are_named_at_once() {
    insta::assert_snapshot!(faults(EVERYTHING_WRONG).join("\n"), @r##"
/outptu: there is no property `outptu` here; did you mean `output`?
/document/titel: there is no property `titel` here; did you mean `title`?
/document/dsl: must be a version 1.0.x of the standard, as `1.0.3`, not `1.1.0`
/document/namespace: must be 1 to 63 of A-Z a-z 0-9 -, beginning and ending with a letter or digit, not `-bad`
/document: must have the property `name`
/document/version: must be a string, not `1.0`: put it in quotes
/schedule/cron: `cron` is not executed yet: remove it
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
/do/2/third/with/retry/backoff: must have exactly one of constant, linear, exponential
/do/2/third/with/retry/limit/attempt/count: must be an integer from 0 to 10000, not `-1`
/do/2/third/with/retry/jitter: `from` must not be longer than `to`
/do/2/third/with/retry/when: is executed in `catch.retry` only: remove it, or put the task into a `try`
/do/2/third/with/retry/limit/duration: is executed in `catch.retry` only: remove it, or put the task into a `try`
/do/2/third/with/retry/limit/attempt/duration: is executed in `catch.retry` only: remove it, or put the task into a `try`
/do/3/fourth/if: the expression `.a ==` is not accepted: at its end term is expected
/do/3/fourth/set/a/b~1c/0: the expression `def f: f; f` is not accepted: `def`, `reduce` and `foreach` are not available: what they compute need not end; use `map`, `select`, `add`, `any`, `all`, `group_by`
/do/4/fifth/swich: there is no property `swich` here; did you mean `switch`?
/do/4/fifth: must say what the task does: one of call, do, fork, raise, set, switch, try, wait
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
/do/13/twelfth/try/0/a/fork/branches/1/c/wait: is not a duration: write ISO 8601 (`PT30S`, `PT5M`, `P1D`) or `{seconds: 30}`
/do/13/twelfth/try/0/a/fork/branches/0/b/then: `c` runs beside this branch, not after it: a branch may continue, exit or end
/do/13/twelfth/catch/errors/without: there is no property `without` here
/do/13/twelfth/catch/errors/with/detail: there is no property `detail` here; did you mean `details`?
/do/13/twelfth/catch/errors/with/status: must be an integer from 100 to 599, not the text `503`
/do/13/twelfth/catch/errors/with/type: is compared as it stands, an expression is not executed here: put the condition into `catch.when`
/do/13/twelfth/catch/as: `$input` is defined already: choose another name
/do/13/twelfth/catch/when: the expression `$error.status ==` is not accepted: at its end term is expected
/do/13/twelfth/catch/retry: there is no `usde` in `use.retries`; did you mean `used`?
/do/13/twelfth/catch/do/0/retried/try/0/d/set/x: the expression `$undefined` is not accepted: `$undefined` is not defined; there are $context, $input, $output, $task, $workflow, $runtime, $error, and what `… as $name |` binds
/use/retries/used/dealy: there is no property `dealy` here; did you mean `delay`?
/use/retries/used/when: the expression `.x ==` is not accepted: at its end term is expected
/do/13/twelfth/catch/do/1/again/catch/as: must be the name of a variable, 1 to 64 of A-Z a-z 0-9 _ and no digit first, not `1st`
/do/14: must have one property, the task's name: indent what belongs to the task below its name
/do/15: a task's name has 1 to 64 printable characters, not `new\nline`
/do/3/fourth/then: there is no task `fith` in the same list; did you mean `fifth`?
/do/5/sixth/switch/0/a: must have the property `then`
/do/5/sixth/switch/1/a: another case of this switch is called `a` already
/do/5/sixth/switch/2/b/then: there is no task `nowhere` in the same list
/do/5/sixth/switch/2/b: only one case may have no `when`: it is the default
/do/5/sixth/switch/3/c: must be an object, not `1`
/use/retries/unused/limit: must be an object, not `3`
/use/retries/unused/when: the expression `$problem.status` is not accepted: `$problem` is not defined; there are $context, $input, $output, $task, $workflow, $runtime, $error, and what `… as $name |` binds
"##);
}

#[test]
fn what_is_not_executed_yet_is_refused_at_its_own_place() {
    for (task, pointer) in [
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
            "{try: [{a: {set: {x: 1}}}], catch: {then: exit}}",
            "catch/then",
        ),
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
fn faults_inside_of_containers_are_named_with_those_around_them() {
    let faults = faults(&tasks(
        "
- t:
    try: [{a: {sett: 1}}]
    catch: {do: [{b: {emit: {}}}], wehn: .x}
- f:
    fork: {branches: [{a: {wait: soon}}], compete: 1}
- u:
    try: [{a: {do: []}}]
",
    ));
    insta::assert_snapshot!(faults.join("\n"), @r##"
/do/0/t/try/0/a/sett: there is no property `sett` here; did you mean `set`?
/do/0/t/try/0/a: must say what the task does: one of call, do, fork, raise, set, switch, try, wait
/do/0/t/catch/wehn: there is no property `wehn` here; did you mean `when`?
/do/0/t/catch/do/0/b/emit: `emit` is not executed yet: remove it
/do/1/f/fork/compete: must be true or false, not `1`
/do/1/f/fork/branches/0/a/wait: is not a duration: write ISO 8601 (`PT30S`, `PT5M`, `P1D`) or `{seconds: 30}`
/do/2/u/try/0/a/do: must have at least one task
/do/2/u: must have the property `catch`
"##);
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
