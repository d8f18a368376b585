//! The clauses of `Events`.

use eventflow_domain::{ExecutionId, Json, Sequence};
use eventflow_ports::inbound::{ExternalEvent, Refusal, StreamFrom};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::{EngineFixture, PATIENCE, everything_of, listed, view, workflows::register};
use crate::samples::{execution, tenant};

const TRIGGER: &str = "automation_trigger_requested";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// One test per clause of `Events`, for the fixture that the closure makes.
#[macro_export]
macro_rules! events_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            inbound::events,
            [
                clause_01_every_bound_workflow_is_started_in_its_latest_version,
                clause_02_the_same_event_again_starts_nothing_twice,
                clause_03_an_event_that_nothing_is_bound_to_is_accepted,
                clause_04_a_trigger_without_its_automation_is_malformed,
                clause_05_executions_carry_where_they_come_from,
                clause_06_what_was_not_started_is_started_by_the_repeat,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_every_bound_workflow_is_started_in_its_latest_version(
    fixture: &impl EngineFixture,
) {
    let by_id = json!({"automationIds": ["auto_1", "auto_2"]});
    let of_type = |kind: &str| json!({"on": {"one": {"with": {"type": kind}}}});
    let from = json!({"on": {"any": [
        {"with": {"type": "order.placed", "source": "/shop"}}, {"with": {"type": TRIGGER}},
    ]}});
    registered(fixture, &workflow("by-id", "1.9.0", &by_id, &Value::Null)).await;
    registered(
        fixture,
        &workflow("by-type", "1.0.0", &json!({}), &of_type("order.placed")),
    )
    .await;
    registered(fixture, &workflow("from-shop", "1.0.0", &json!({}), &from)).await;
    registered(
        fixture,
        &workflow("unbound", "1.0.0", &json!({}), &Value::Null),
    )
    .await;
    // What was bound once, and is not any more.
    registered(fixture, &workflow("loose", "1.0.0", &by_id, &Value::Null)).await;
    assert_eq!(started(fixture, &trigger("warm", "auto_1")).await.len(), 3);
    registered(fixture, &workflow("by-id", "1.10.0", &by_id, &Value::Null)).await;
    registered(
        fixture,
        &workflow("loose", "2.0.0", &json!({}), &Value::Null),
    )
    .await;

    for (event, names) in [
        (
            trigger("e1", "auto_2"),
            vec!["by-id:1.10.0", "from-shop:1.0.0"],
        ),
        (trigger("e2", "auto_3"), vec!["from-shop:1.0.0"]),
        (
            placed("e3", "/shop"),
            vec!["by-type:1.0.0", "from-shop:1.0.0"],
        ),
        (placed("e4", "/mill"), vec!["by-type:1.0.0"]),
    ] {
        let started = started(fixture, &event).await;
        fixture.restart().await;
        let mut workflows = Vec::new();
        for id in &started {
            let view = view(fixture, id).await;
            assert_eq!(view.input, event.data);
            workflows.push(view.workflow.to_string());
        }
        let names: Vec<_> = names.iter().map(|name| format!("default/{name}")).collect();
        assert_eq!(workflows, names, "{event:?}");
    }
}

/// Clause 2.
pub async fn clause_02_the_same_event_again_starts_nothing_twice(fixture: &impl EngineFixture) {
    let bound = json!({"automationIds": ["auto_1"]});
    for name in ["one", "two"] {
        registered(fixture, &workflow(name, "1.0.0", &bound, &Value::Null)).await;
    }
    let first = started(fixture, &trigger("e1", "auto_1")).await;
    assert_eq!(first.len(), 2);
    let in_other_words = ExternalEvent {
        data: Json::of(&json!({"automation_id": "auto_1", "context": {"again": true}})),
        correlation: Some("another".into()),
        ..trigger("e1", "auto_1")
    };
    for again in [trigger("e1", "auto_1"), in_other_words] {
        assert_eq!(started(fixture, &again).await, first);
        fixture.restart().await;
        assert_eq!(started(fixture, &again).await, first);
    }
    registered(fixture, &workflow("one", "1.0.1", &bound, &Value::Null)).await;
    assert_eq!(started(fixture, &trigger("e1", "auto_1")).await, first);
    assert_eq!(listed(fixture, everything_of("acme")).await.len(), 2);

    let elsewhere = ExternalEvent {
        source: "/elsewhere".into(),
        ..trigger("e1", "auto_1")
    };
    for other in [elsewhere, trigger("e2", "auto_1")] {
        let others = started(fixture, &other).await;
        assert_eq!(others.len(), 2);
        assert!(others.iter().all(|id| !first.contains(id)));
    }
    assert_eq!(listed(fixture, everything_of("acme")).await.len(), 6);
}

/// Clause 3.
pub async fn clause_03_an_event_that_nothing_is_bound_to_is_accepted(fixture: &impl EngineFixture) {
    assert_eq!(started(fixture, &trigger("e1", "auto_1")).await, []);
    let bound = json!({"automationIds": ["auto_1"]});
    let document = workflow("theirs", "1.0.0", &bound, &Value::Null);
    register(fixture, "rival", &document)
        .await
        .expect("registered");
    assert_eq!(started(fixture, &trigger("e1", "auto_1")).await, []);
    assert_eq!(started(fixture, &placed("e2", "/shop")).await, []);
    for owner in ["acme", "rival"] {
        assert_eq!(listed(fixture, everything_of(owner)).await, [""; 0]);
    }
}

/// Clause 4.
pub async fn clause_04_a_trigger_without_its_automation_is_malformed(fixture: &impl EngineFixture) {
    let on = json!({"on": {"one": {"with": {"type": TRIGGER}}}});
    registered(fixture, &workflow("any", "1.0.0", &json!({}), &on)).await;
    for data in [
        json!(null),
        json!([]),
        json!({}),
        json!({"automation_id": 1}),
        json!({"automation_id": ""}),
    ] {
        let event = ExternalEvent {
            data: Json::of(&data),
            ..trigger("e1", "auto_1")
        };
        let refused = fixture.events().accept(&tenant("acme"), event).await;
        assert!(
            matches!(refused, Err(Refusal::Malformed { .. })),
            "{data}: {refused:?}"
        );
    }
    assert_eq!(listed(fixture, everything_of("acme")).await, [""; 0]);
}

/// Clause 5.
pub async fn clause_05_executions_carry_where_they_come_from(fixture: &impl EngineFixture) {
    let bound = json!({"automationIds": ["auto_1"]});
    registered(fixture, &workflow("one", "1.0.0", &bound, &Value::Null)).await;
    let event = ExternalEvent {
        correlation: Some("cause-1".into()),
        traceparent: Some(TRACE.into()),
        ..trigger("e1", "auto_1")
    };
    let started = started(fixture, &event).await;
    let [id] = &started[..] else {
        panic!("one is bound: {started:?}")
    };
    assert_eq!(view(fixture, id).await.correlation, event.correlation);
    let from = StreamFrom::Execution(id.clone(), Sequence(0));
    let stream = fixture.executions().events(&tenant("acme"), from).await;
    let mut stream = stream.expect("a stream");
    for kind in ["workflow_execution_requested", "workflow_execution_started"] {
        let told = timeout(PATIENCE, stream.next()).await.expect("in time");
        let told = told.expect("an event").expect("an event");
        assert_eq!(told.kind, kind);
        assert_eq!(told.correlation, event.correlation);
        assert_eq!(told.causation.as_deref(), Some("e1"));
        assert_eq!(told.traceparent, event.traceparent);
    }
}

/// Clause 6.
pub async fn clause_06_what_was_not_started_is_started_by_the_repeat(fixture: &impl EngineFixture) {
    let bound = json!({"automationIds": ["auto_1"]});
    for name in ["one", "two"] {
        registered(fixture, &workflow(name, "1.0.0", &bound, &Value::Null)).await;
    }
    assert_eq!(started(fixture, &trigger("e0", "auto_1")).await.len(), 2);
    fixture.cut_off().await;
    let accepting = async {
        let events = fixture.events();
        events
            .accept(&tenant("acme"), trigger("e1", "auto_1"))
            .await
    };
    // Nothing is durable, so it must not be acknowledged, however long it takes to say so.
    if let Ok(answer) = timeout(super::SHORT, accepting).await {
        assert!(
            matches!(answer, Err(Refusal::Unavailable { .. })),
            "{answer:?}"
        );
    }
    fixture.restart().await;
    let completed = started(fixture, &trigger("e1", "auto_1")).await;
    assert_eq!(completed.len(), 2);
    for id in &completed {
        assert_eq!(view(fixture, id).await.input, trigger("e1", "auto_1").data);
    }
    assert_eq!(listed(fixture, everything_of("acme")).await.len(), 4);
}

/// What an event of `acme` has started.
async fn started(fixture: &impl EngineFixture, event: &ExternalEvent) -> Vec<ExecutionId> {
    let accepted = fixture
        .events()
        .accept(&tenant("acme"), event.clone())
        .await;
    let ids = accepted.expect("accepted");
    // Ids are names, so that they can stand in subjects and paths.
    assert!(ids.iter().all(|id| *id == execution(id.as_str())));
    ids
}

async fn registered(fixture: &impl EngineFixture, document: &Json) {
    let registered = register(fixture, "acme", document).await;
    assert!(registered.expect("registered").created);
}

/// A workflow that waits for an agent.
fn workflow(name: &str, version: &str, metadata: &Value, schedule: &Value) -> Json {
    let mut document = json!({
        "document": {
            "dsl": "1.0.3", "namespace": "default", "name": name, "version": version, "metadata": metadata,
        },
        "do": [{"charge": {"call": "agent:1.0.0@default", "with": {"capability": "charge"}}}],
    });
    if !schedule.is_null() {
        document["schedule"] = schedule.clone();
    }
    Json::of(&document)
}

fn trigger(id: &str, automation: &str) -> ExternalEvent {
    let data = json!({
        "automation_id": automation,
        "trigger": {"source": "shop", "event_name": "placed"},
        "context": {"order": 7},
    });
    event(id, "/platform", TRIGGER, &data)
}

fn placed(id: &str, source: &str) -> ExternalEvent {
    event(id, source, "order.placed", &json!({"order": 7}))
}

fn event(id: &str, source: &str, kind: &str, data: &Value) -> ExternalEvent {
    ExternalEvent {
        source: source.into(),
        id: id.into(),
        kind: kind.into(),
        data: Json::of(data),
        correlation: None,
        traceparent: None,
    }
}
