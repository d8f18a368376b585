//! `try`, `catch` and `retry`: which errors are caught, what they are called, and when something is tried again.

use eventflow_domain::{
    DurationMs,
    plan::{Catch, ErrorFilter, Kind, Plan},
    retry::{Backoff, Jitter, RetryPolicy},
};

use crate::{
    check_fault, node,
    support::{faults, outline, plan, tasks},
};

/// A task that is tried, with this `catch` in flow style.
fn caught(catch: &str) -> String {
    format!("\n- t: {{try: [{{a: {{set: {{x: 1}}}}}}], catch: {catch}}}\n")
}

/// The same in a document with these retry policies.
fn with_policies(policies: &str, catch: &str) -> String {
    format!("{}use: {{retries: {policies}}}\n", tasks(&caught(catch)))
}

fn catch(plan: &Plan) -> &Catch {
    match &node(plan, "/do/0/t").kind {
        Kind::Try(attempt) => &attempt.catch,
        other => panic!("a try, not {other:?}"),
    }
}

#[track_caller]
fn check_catch(catch: &str, pointer: &str, says: &str) {
    check_fault(&caught(catch), &format!("/do/0/t/catch{pointer}"), says);
}

#[test]
fn a_try_is_read_whole() {
    let plan = plan(&tasks(
        "
- pay:
    if: .due
    try:
      - charge: {set: {x: 1}, then: note}
      - note: {set: {y: 1}}
    catch:
      errors:
        with:
          type: https://serverlessworkflow.io/spec/1.0.0/errors/communication
          status: 503
          instance: /do/0/pay/try/0/charge
          title: Busy
          details: come back later
      as: problem
      when: $problem.status == 503
      exceptWhen: ${ .detail == \"never\" }
      retry:
        when: $problem.title != \"Gone\"
        exceptWhen: .status == 410
        delay: {seconds: 3}
        backoff: {exponential: {}}
        limit: {attempt: {count: 5, duration: PT10S}, duration: PT1H}
        jitter: {from: PT0S, to: PT1S}
      do:
        - undo: {set: {why: '${ $problem.title }'}, then: tell}
        - tell: {wait: PT1S}
    output: {as: .why}
    then: end
",
    ));
    insta::assert_snapshot!(outline(&plan), @r##"
default/test:1.0.0 timeout 86400000 ms
/do `do` in -: sequence of pay
/do/0/pay `pay` in /do: try of charge, note
    if .due
    output ${ .why }
    then end
    catch as $problem
    ErrorFilter { kind: Some("https://serverlessworkflow.io/spec/1.0.0/errors/communication"), status: Some(503), instance: Some("/do/0/pay/try/0/charge"), title: Some("Busy"), detail: Some("come back later") }
    catch when $problem.status == 503
    catch except when .detail == "never"
    RetryPolicy { retries: 5, delay: DurationMs(3000), backoff: Exponential, delay_max: DurationMs(300000), jitter: Between(DurationMs(0), DurationMs(1000)) }
    retry when $problem.title != "Gone"
    retry except when .status == 410
    each try within 10000 ms
    retry within 3600000 ms
    handled by undo, tell
/do/0/pay/try/0/charge `charge` in /do/0/pay: set
    then /do/0/pay/try/1/note
    set {"x":1}
/do/0/pay/try/1/note `note` in /do/0/pay: set
    set {"y":1}
/do/0/pay/catch/do/0/undo `undo` in /do/0/pay: set
    then /do/0/pay/catch/do/1/tell
    set {why: ${ $problem.title }}
/do/0/pay/catch/do/1/tell `tell` in /do/0/pay: wait 1000 ms
"##);
}

#[test]
fn a_catch_that_says_nothing_swallows_every_error() {
    let plan = plan(&tasks(&caught("{}")));
    let catch = catch(&plan);
    assert_eq!(catch.errors, ErrorFilter::default());
    assert_eq!(&*catch.variable, "error");
    assert!(catch.when.is_none() && catch.except_when.is_none());
    assert!(catch.retry.is_none() && catch.tasks.is_empty());
}

#[test]
fn the_error_has_its_name_wherever_it_is_known() {
    plan(&tasks(
        "
- outer:
    try: [{a: {set: {x: 1}}}]
    catch:
      do:
        - inner:
            try:
              - b: {set: {x: '${ $error }'}}
            catch:
              as: problem
              when: $error.status != $problem.status
              retry: {when: $problem, exceptWhen: $error}
              do:
                - set: {set: '$error + $problem', if: $error, input: {from: $problem}, output: {as: $error}, export: {as: {e: '${ $problem }'}}}
                - choose: {switch: [{x: {when: $problem.x, then: wait}}]}
                - wait: {wait: '${ $error.patience }'}
                - raise: {raise: {error: {type: https://e, status: 500, title: '${ $error.title }', detail: '${ $problem.title }'}}}
                - agent: {call: agent:1.0.0@default, with: {capability: a, input: '${ $error }'}}
                - http: {call: http, with: {method: post, endpoint: '${ $error.url }', headers: {X: '${ $problem.x }'}, body: '${ $error }'}}
                - beside: {fork: {branches: [{c: {do: [{d: {set: '$error'}}]}}]}}
",
    ));
}

#[test]
fn the_error_has_no_name_where_it_is_not_known() {
    for (text, pointer) in [
        (
            "- t: {try: [{a: {set: {x: '${ $error }'}}}], catch: {}}",
            "/do/0/t/try/0/a/set/x",
        ),
        (
            "- t: {try: [{a: {set: {x: 1}}}], catch: {}, output: {as: $error}}",
            "/do/0/t/output/as",
        ),
        (
            "- t: {try: [{a: {set: {x: 1}}}], catch: {}}\n- b: {set: $error}",
            "/do/1/b/set",
        ),
        (
            "- t: {try: [{a: {set: {x: 1}}}], catch: {as: problem, when: $error}}",
            "/do/0/t/catch/when",
        ),
    ] {
        check_fault(text, pointer, "$error");
    }
}

#[test]
fn a_filter_is_static() {
    for (filter, pointer, says) in [
        ("{with: {}}", "/with", "at least one of type, status"),
        (
            "{with: {type: '${ .t }'}}",
            "/with/type",
            "into `catch.when`",
        ),
        ("{with: {status: '503'}}", "/with/status", "an integer"),
        ("{with: {status: 42}}", "/with/status", "from 100 to 599"),
        (
            "{with: {detail: x, title: y}}",
            "/with/detail",
            "did you mean `details`?",
        ),
        ("{wiht: {}}", "/wiht", "did you mean `with`?"),
        ("{with: 503}", "/with", "must be an object"),
    ] {
        check_catch(
            &format!("{{errors: {filter}}}"),
            &format!("/errors{pointer}"),
            says,
        );
    }
}

#[test]
fn the_errors_name_is_a_variable_of_its_own() {
    for (name, says) in [
        ("1st", "name of a variable"),
        ("''", "name of a variable"),
        ("a-b", "name of a variable"),
        ("é", "name of a variable"),
        ("'x | halt'", "name of a variable"),
        ("$error", "without its `$`: `error`"),
        ("12", "must be a string"),
        ("context", "`$context` is defined already"),
        ("input", "defined already"),
        ("output", "defined already"),
        ("task", "defined already"),
        ("workflow", "defined already"),
        ("runtime", "defined already"),
        ("secrets", "defined already"),
        ("authorization", "defined already"),
    ] {
        check_catch(&format!("{{as: {name}}}"), "/as", says);
    }
    plan(&tasks(&caught("{as: _e1, when: $_e1}")));
}

#[test]
fn a_catch_is_refused_at_the_place_that_is_wrong() {
    check_fault(
        "\n- t: {try: [{a: {set: {x: 1}}}]}\n",
        "/do/0/t",
        "must have the property `catch`",
    );
    check_fault("\n- t: {try: [], catch: {}}\n", "/do/0/t/try", "one task");
    check_catch("[]", "", "must be an object");
    check_catch("{do: []}", "/do", "at least one task");
    check_catch("{exeptWhen: .x}", "/exeptWhen", "`exceptWhen`");
    check_catch("{when: '.x |'}", "/when", "is not accepted");
    check_catch(
        "{retry: {limit: {duration: PT0S}}}",
        "/retry/limit/duration",
        "longer",
    );
    check_catch(
        "{retry: {limit: {attempts: {}}}}",
        "/retry/limit/attempts",
        "`attempt`",
    );
    check_catch(
        "{retry: {delay: '${ .d }'}}",
        "/retry/delay",
        "not executed yet",
    );
    check_catch(
        "{do: [{b: {set: {x: 1}, then: a}}]}",
        "/do/0/b/then",
        "no task `a`",
    );
}

#[test]
fn a_retry_without_a_limit_has_the_engines_count() {
    let retry = |policy: &str| {
        let plan = plan(&tasks(&caught(&format!("{{retry: {policy}}}"))));
        let retry = catch(&plan).retry.as_ref().expect("a retry");
        (retry.policy, retry.attempt_timeout, retry.within)
    };
    let plain = RetryPolicy {
        backoff: Backoff::Constant,
        jitter: Jitter::None,
        ..RetryPolicy::DEFAULT
    };
    assert_eq!(retry("{}"), (plain, None, None));
    // A limit of each try is none of their number.
    let second = Some(DurationMs::from_secs(1));
    assert_eq!(
        retry("{limit: {attempt: {duration: PT1S}}}"),
        (plain, second, None)
    );
    // A limit of the time for all of them is.
    let (policy, _, within) = retry("{limit: {duration: PT1S}}");
    assert_eq!((policy.retries, within), (10_000, second));
    let (policy, _, within) = retry("{limit: {duration: PT1S, attempt: {count: 0}}}");
    assert_eq!((policy.retries, within), (0, second));
}

#[test]
fn a_policy_by_name_is_as_if_it_stood_in_its_place() {
    let plan = plan(&with_policies(
        "{often: {delay: PT3S, backoff: {exponential: {}}, limit: {attempt: {count: 5}}, when: $problem.status == 503}}",
        "{as: problem, retry: often}",
    ));
    let retry = catch(&plan).retry.as_ref().expect("a retry");
    assert_eq!(retry.policy.retries, 5);
    assert_eq!(retry.policy.delay, DurationMs::from_secs(3));
    let when = retry.when.as_ref().expect("a condition");
    assert_eq!(when.source(), "$problem.status == 503");
}

#[test]
fn a_policy_by_name_serves_an_agents_own_retry_too() {
    let document = |policy: &str| {
        let task = "- a: {call: agent:1.0.0@default, with: {capability: a, retry: p}}\n";
        format!("{}use: {{retries: {{p: {policy}}}}}\n", tasks(task))
    };
    let plan = plan(&document("{limit: {attempt: {count: 7}}}"));
    let Kind::Invoke(invoke) = &node(&plan, "/do/0/a").kind else {
        panic!("an agent")
    };
    assert_eq!(invoke.retry.retries, 7);
    assert_eq!(
        faults(&document("{when: $error}")),
        [
            "/use/retries/p/when: is executed in `catch.retry` only: remove it, or put the task into a `try`"
        ]
    );
}

#[test]
fn an_unknown_policy_is_refused_with_what_was_meant() {
    assert_eq!(
        faults(&with_policies("{often: {}}", "{retry: oftne}")),
        ["/do/0/t/catch/retry: there is no `oftne` in `use.retries`; did you mean `often`?"]
    );
    check_catch("{retry: often}", "/retry", "there is no `often`");
}

#[test]
fn a_faulty_policy_is_named_once_used_or_not() {
    let at = |policies: &str, catch: &str| faults(&with_policies(policies, catch));
    let wrong = "{p: {dealy: PT1S}}";
    let fault = ["/use/retries/p/dealy: there is no property `dealy` here; did you mean `delay`?"];
    assert_eq!(at(wrong, "{}"), fault);
    assert_eq!(at(wrong, "{retry: p}"), fault);
    let inner = "{retry: p, do: [{b: {try: [{c: {set: {x: 1}}}], catch: {retry: p}}}]}";
    assert_eq!(at(wrong, inner), fault);
    assert_eq!(at("{p: 1}", "{}").len(), 1);
    assert_eq!(at("[]", "{}").len(), 1);
    // Nobody says what its error is called, so it is what the standard calls it.
    plan(&with_policies("{p: {when: $error.status == 1}}", "{}"));
    assert_eq!(at("{p: {when: $problem.status == 1}}", "{}").len(), 1);
}
