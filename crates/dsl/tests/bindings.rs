//! What starts a workflow by itself: read from documents of both languages, and refused where it is not executed.

mod support;

use eventflow_dsl::{AUTOMATION_TRIGGER, Bindings, EventFilter};
use support::{document, faults, plan};

/// An OWS document with this beside its tasks, and this in its header.
fn workflow(beside: &str, header: &str) -> String {
    format!(
        "document: {{dsl: 1.0.3, namespace: default, name: test, version: 1.0.0{header}}}\n{beside}\ndo:\n- a: {{set: {{x: 1}}}}\n"
    )
}

fn bindings(text: &str) -> Bindings {
    plan(text);
    eventflow_dsl::bindings(&document(text))
}

fn filter(kind: &str, source: Option<&str>) -> EventFilter {
    EventFilter {
        kind: kind.to_owned(),
        source: source.map(str::to_owned),
    }
}

#[test]
fn a_workflow_that_says_nothing_is_bound_to_nothing() {
    for text in [
        workflow("", ""),
        workflow("", ", metadata: {owner: me}"),
        workflow("", ", metadata: {automationIds: []}"),
        support::steps(r#"{"id": "a", "uses": "set", "with": 1}"#),
    ] {
        assert!(bindings(&text).is_empty(), "{text}");
    }
}

#[test]
fn automations_are_named_in_the_metadata_of_both_languages() {
    let ows = workflow("", ", metadata: {automationIds: [auto_123, 'auto 4']}");
    let dag = support::steps(r#"{"id": "a", "uses": "set", "with": 1}"#).replacen(
        '{',
        r#"{"metadata": {"automationIds": ["auto_123", "auto 4"]}, "#,
        1,
    );
    for text in [ows, dag] {
        let bindings = bindings(&text);
        assert_eq!(bindings.automations, ["auto_123", "auto 4"], "{text}");
        assert_eq!(bindings.events, []);
        assert!(bindings.hold(AUTOMATION_TRIGGER, "/any", Some("auto_123")));
        assert!(!bindings.hold(AUTOMATION_TRIGGER, "/any", Some("auto_1")));
        assert!(!bindings.hold("auto_123", "/any", None));
    }
}

#[test]
fn one_event_or_any_of_several_start_it() {
    let one = bindings(&workflow(
        "schedule: {on: {one: {with: {type: order.placed}}}}",
        "",
    ));
    assert_eq!(one.events, [filter("order.placed", None)]);
    let any = bindings(&workflow(
        "schedule: {on: {any: [{with: {type: a}}, {with: {type: b, source: /shop}}]}}",
        "",
    ));
    assert_eq!(any.events, [filter("a", None), filter("b", Some("/shop"))]);
    for (kind, source, holds) in [
        ("a", "/anywhere", true),
        ("b", "/shop", true),
        ("b", "/shop/2", false),
        ("B", "/shop", false),
        ("c", "/shop", false),
    ] {
        assert_eq!(any.hold(kind, source, None), holds, "{kind} {source}");
    }
}

#[test]
fn what_else_a_schedule_may_say_is_refused_at_its_place() {
    for (schedule, wanted) in [
        ("{}", "/schedule: must have the property `on`"),
        ("[]", "/schedule: must be an object"),
        (
            "{every: PT1H}",
            "/schedule/every: `every` is not executed yet",
        ),
        (
            "{cron: '* * * * *'}",
            "/schedule/cron: `cron` is not executed yet",
        ),
        (
            "{after: PT1H}",
            "/schedule/after: `after` is not executed yet",
        ),
        (
            "{onn: {}}",
            "/schedule/onn: there is no property `onn` here; did you mean `on`?",
        ),
        (
            "{on: {}}",
            "/schedule/on: must have the property `one` or `any`",
        ),
        (
            "{on: {all: [{with: {type: a}}]}}",
            "/schedule/on/all: `all` is not executed yet",
        ),
        (
            "{on: {any: []}}",
            "/schedule/on/any: starting on every event is not executed yet",
        ),
        (
            "{on: {any: {with: {type: a}}}}",
            "/schedule/on/any: must be an array",
        ),
        (
            "{on: {one: {with: {type: a}}, any: [{with: {type: a}}]}}",
            "/schedule/on: give either `one` or `any`, not both",
        ),
        (
            "{on: {any: [{with: {type: a}}], until: '${ true }'}}",
            "/schedule/on/until: `until` is not executed yet",
        ),
        (
            "{on: {one: {}}}",
            "/schedule/on/one: must have the property `with`",
        ),
        (
            "{on: {one: {with: {}}}}",
            "/schedule/on/one/with: must have the property `type`",
        ),
        (
            "{on: {one: {with: {type: a}, correlate: {}}}}",
            "/schedule/on/one/correlate: `correlate` is not executed yet",
        ),
        (
            "{on: {one: {with: {type: a, subject: x}}}}",
            "/schedule/on/one/with/subject: choosing events by `subject` is not executed yet",
        ),
        (
            "{on: {any: [{with: {type: a}}, {with: {type: '${ .t }'}}]}}",
            "/schedule/on/any/1/with/type: an expression here is not executed yet",
        ),
        (
            "{on: {one: {with: {type: a, source: ''}}}}",
            "/schedule/on/one/with/source: must have 1 to 256 bytes",
        ),
    ] {
        let faults = faults(&workflow(&format!("schedule: {schedule}"), ""));
        assert_eq!(faults.len(), 1, "{schedule}: {faults:#?}");
        assert!(faults[0].starts_with(wanted), "{faults:?}");
    }
}

#[test]
fn automation_ids_that_are_none_are_refused_at_their_place() {
    for (ids, wanted) in [
        (
            "auto_1",
            "/document/metadata/automationIds: must be an array",
        ),
        (
            "[a, 1]",
            "/document/metadata/automationIds/1: must be a string",
        ),
        (
            "['']",
            "/document/metadata/automationIds/0: must have 1 to 256 bytes",
        ),
    ] {
        let header = format!(", metadata: {{automationIds: {ids}}}");
        let faults = faults(&workflow("", &header));
        assert_eq!(faults.len(), 1, "{ids}: {faults:#?}");
        assert!(faults[0].starts_with(wanted), "{faults:?}");
    }
}

#[test]
fn nobody_else_takes_the_name_or_the_function_of_service_calls() {
    let own = eventflow_dsl::service_call();
    let plan = eventflow_dsl::compile(&own).expect("no faults");
    assert!(eventflow_domain::service_call::is_service_call(
        &plan.workflow
    ));
    let ows = workflow("", "").replace("default, name: test", "eventflow, name: service-call");
    assert_eq!(
        faults(&ows),
        ["/document/name: this name is the service's own in this namespace: choose another"]
    );
    let dag = r#"{"dag": "1.0", "namespace": "eventflow", "name": "service-call", "version": "2.0.0",
        "steps": [{"id": "a", "uses": "set", "with": 1}]}"#;
    assert!(faults(dag)[0].starts_with("/name: this name is the service's own"));
    let elsewhere = own.as_str().replace("\"eventflow\"", "\"default\"");
    let faults = faults(&elsewhere);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("/do/0/request/call: there is no function"));
}
