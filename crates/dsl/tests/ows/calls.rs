//! Calls of agents and over HTTP, and errors that are raised.

use eventflow_domain::{
    DurationMs,
    plan::{Kind, Performer},
    retry::{Backoff, Jitter, RetryPolicy},
};

use crate::{
    check_fault, node,
    support::{outline, plan, tasks},
};

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
fn conditions_and_times_of_a_retry_belong_to_a_catch() {
    for (policy, pointer) in [
        ("{when: .x}", "when"),
        ("{exceptWhen: $error.x}", "exceptWhen"),
        ("{limit: {duration: PT1M}}", "limit/duration"),
        (
            "{limit: {attempt: {duration: PT1M}}}",
            "limit/attempt/duration",
        ),
    ] {
        check_fault(
            &format!(
                "\n- a: {{call: agent:1.0.0@default, with: {{capability: a, retry: {policy}}}}}\n"
            ),
            &format!("/do/0/a/with/retry/{pointer}"),
            "in `catch.retry` only",
        );
    }
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
