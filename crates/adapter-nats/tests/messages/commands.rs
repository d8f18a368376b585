//! Durable messages: carried out, tried again, or set aside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use eventflow_domain::ExecutionId;
use eventflow_ports::inbound::{
    Action, ExternalEvent, MockCalls, MockControls, MockEvents, MockExecutions, Refusal,
    StartExecution, WorkflowRef,
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    node::{Heard, Mocks, Node, Somebody, at_once, next, started, starting, tenant, view},
    support::Servers,
};

const START: &str = r#"{"workflow":{"name":"order"}}"#;

/// Controls that hear everything; `answer` decides on each by its number.
fn controls(
    answer: impl Fn(usize) -> Option<Refusal> + Send + Sync + 'static,
) -> (MockControls, Heard<(String, Action)>) {
    let heard = Heard::default();
    let noted = heard.clone();
    let count = AtomicUsize::new(0);
    let mut controls = MockControls::new();
    controls
        .expect_control()
        .returning(move |_, execution, action, _| {
            noted.note((execution.to_string(), action));
            match answer(count.fetch_add(1, Ordering::Relaxed)) {
                Some(refusal) => at_once(Err(refusal)),
                None => at_once(Ok(view(execution))),
            }
        });
    (controls, heard)
}

fn events() -> (MockEvents, Heard<(String, ExternalEvent)>) {
    let heard = Heard::default();
    let noted = heard.clone();
    let mut events = MockEvents::new();
    events.expect_accept().returning(move |tenant, event| {
        noted.note((tenant.to_string(), event));
        at_once(Ok(Vec::new()))
    });
    (events, heard)
}

#[tokio::test]
async fn every_subject_reaches_its_port() {
    let servers = Servers::single();
    let (executions, starts) = starting();
    let (controls, orders) = controls(|_| None);
    let (events, accepted) = events();
    let called = Heard::default();
    let noted = called.clone();
    let mut calls = MockCalls::new();
    calls.expect_call().returning(move |tenant, call| {
        noted.note((tenant.to_string(), call));
        at_once(Ok(()))
    });
    let mocks = Mocks {
        executions,
        controls,
        events,
        calls,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;

    let publish = async |subject: &str, headers: &[(&str, &str)], body: serde_json::Value| {
        somebody.publish(subject, headers, &body.to_string()).await;
        somebody.until_all_is_done().await;
    };
    let order = json!({"workflow": {"name": "order"}, "executionId": "e1"});
    publish("eventflow.commands.acme.start", &[], order).await;
    let pause = json!({"executionId": "e1", "action": "pause"});
    publish("eventflow.commands.acme.control", &[], pause).await;
    let flow = json!({"eventType": "EXECUTION_START", "flowId": "flow1", "runId": "run1",
        "steps": [{"stepId": "a", "pluginId": "work"}]});
    publish("execution.commands", &[("ce-tenantid", "acme")], flow).await;
    let stop = json!({"eventType": "STOP", "runId": "run1"});
    publish("execution.commands", &[], stop).await;
    let trigger = json!({"event_id": "t1", "type": "automation_trigger_requested", "version": "1",
        "occurred_at": "2026-01-14T00:00:00Z", "correlation_id": "c1", "partition_key": "p",
        "payload": {"automation_id": "auto_123"}});
    let subject = "eventflow.triggers.acme.automation_trigger_requested";
    publish(subject, &[], trigger).await;
    let cloud = [
        ("ce-id", "t2"),
        ("ce-source", "/s"),
        ("ce-type", "com.acme.ordered"),
    ];
    publish(
        "eventflow.triggers.acme.com.acme.ordered",
        &cloud,
        json!({"n": 1}),
    )
    .await;
    let call = json!({"tenantId": "acme", "serviceCallId": "c1",
        "requestSpec": {"method": "GET", "url": "http://site/"}});
    publish("eventflow.calls.acme", &[("ce-id", "m1")], call).await;

    let starts = starts.all();
    assert_eq!(starts.len(), 2);
    assert_eq!(starts[1].tenant, tenant("acme"));
    assert_eq!(starts[1].execution, ExecutionId::parse("run1").ok());
    assert!(matches!(starts[1].workflow, WorkflowRef::Inline(_)));
    let expected = [
        ("e1".to_owned(), Action::Pause),
        ("run1".to_owned(), Action::Stop),
    ];
    assert_eq!(orders.all(), expected);
    let accepted = accepted.all();
    let ids: Vec<_> = accepted.iter().map(|(_, event)| &*event.id).collect();
    assert_eq!(ids, ["t1", "t2"]);
    assert_eq!(
        accepted[0].1.data.as_str(),
        r#"{"automation_id":"auto_123"}"#
    );
    let called = called.all();
    assert_eq!((&*called[0].0, &*called[0].1.id), ("acme", "c1"));
    assert_eq!(called[0].1.causation.as_deref(), Some("m1"));
    assert!(somebody.stored("EVENTFLOW_REJECTED").await.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_start_that_comes_again_has_the_same_cause() {
    let servers = Servers::single();
    let heard: Heard<StartExecution> = Heard::default();
    let noted = heard.clone();
    let mut executions = MockExecutions::new();
    executions.expect_start().returning(move |start| {
        noted.note(start.clone());
        // Each message at first cannot be carried out.
        let same = |other: &StartExecution| other.idempotency_key == start.idempotency_key;
        at_once(
            match noted.all().iter().filter(|other| same(other)).count() {
                1 => Err(Refusal::unavailable("no leader")),
                2 => Err(Refusal::Busy {
                    detail: "full".into(),
                    retry_after: Duration::ZERO,
                }),
                _ => Ok(started(&start)),
            },
        )
    });
    let mocks = Mocks {
        executions,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    let subject = "eventflow.commands.acme.start";
    for headers in [
        vec![("ce-id", "m1"), ("ce-source", "/shop")],
        vec![("Nats-Msg-Id", "n1")],
        vec![],
        vec![],
    ] {
        somebody.publish(subject, &headers, START).await;
    }
    somebody.until_all_is_done().await;
    let mut keys: Vec<String> = heard
        .all()
        .into_iter()
        .map(|start| start.idempotency_key.expect("each has one"))
        .collect();
    assert_eq!(keys.len(), 12, "each was tried three times");
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert!(keys.contains(&"/shop m1".to_owned()));
    assert!(keys.contains(&" n1".to_owned()));
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_set_aside_with_the_reason() {
    let servers = Servers::single();
    let (executions, starts) = starting();
    let mocks = Mocks {
        executions,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    let mut rejected = somebody
        .nats
        .subscribe("eventflow.rejected.>")
        .await
        .unwrap();
    let huge = format!("{{{}", "\"".repeat(700_000));
    let cases = [
        ("eventflow.commands.acme.start", "{ no JSON", "not JSON"),
        ("eventflow.commands.acme.start", "{}", "say what to start"),
        (
            "eventflow.commands.acme.restart",
            "{}",
            "neither a start nor",
        ),
        (
            "eventflow.commands.acme.control",
            r#"{"executionId":"e","action":"retry"}"#,
            "not to `retry`",
        ),
        ("eventflow.commands.a=b.start", START, "tenant `a=b`"),
        ("eventflow.commands.acme.start", huge.as_str(), "not JSON"),
        (
            "eventflow.triggers.acme.t",
            r#"{"automation_id":"a"}"#,
            "no ce-id",
        ),
        (
            "eventflow.triggers.acme.t",
            r#"{"event_id":"1","type":"u"}"#,
            "its subject says `t`",
        ),
        (
            "eventflow.calls.acme",
            "{}",
            "missing field `serviceCallId`",
        ),
        (
            "eventflow.calls.acme",
            r#"{"tenantId":"b","serviceCallId":"1","requestSpec":{"method":"GET","url":"u"}}"#,
            "the subject says tenant `acme`",
        ),
        (
            "execution.commands",
            r#"{"eventType":"RESTART","runId":"r"}"#,
            "is no command",
        ),
        ("execution.commands", "", "invalid type"),
    ];
    for (subject, body, expected) in cases {
        somebody.publish(subject, &[("x", "y")], body).await;
        let message = next(&mut rejected).await;
        let told: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let reason = told["reason"].as_str().unwrap();
        assert!(reason.contains(expected), "{subject}: {reason}");
        assert!(told["problem"]["status"].as_u64().unwrap() < 500);
        assert_eq!(told["original"]["subject"], subject);
        assert_eq!(told["original"]["headers"]["x"], "y");
        assert_eq!(told["original"]["bodyBytes"], body.len());
        // What is no JSON is a text, as long as there is room for it.
        if body.len() < 1_000 {
            let original = &told["original"]["body"];
            let text = original
                .as_str()
                .map_or_else(|| original.to_string(), str::to_owned);
            assert_eq!(text, body);
        }
        let of = match subject {
            "execution.commands" => "eventflow.rejected.default",
            "eventflow.commands.a=b.start" => "eventflow.rejected.a=3Db",
            _ => "eventflow.rejected.acme",
        };
        assert_eq!(message.subject.as_str(), of);
    }
    somebody.until_all_is_done().await;
    assert_eq!(
        somebody.stored("EVENTFLOW_REJECTED").await.len(),
        cases.len()
    );
    // Nothing of it has stopped anything.
    somebody
        .publish("eventflow.commands.acme.start", &[], START)
        .await;
    assert_eq!(starts.until(1).await.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_set_aside() {
    let servers = Servers::single();
    let mut executions = MockExecutions::new();
    executions
        .expect_start()
        .returning(|_| at_once(Err(Refusal::NotFound("no workflow `order`".into()))));
    let (controls, _) = controls(|_| Some(Refusal::Contradiction("it has ended".into())));
    let mut events = MockEvents::new();
    events
        .expect_accept()
        .returning(|_, _| at_once(Err(Refusal::malformed("no automation_id"))));
    let mocks = Mocks {
        executions,
        controls,
        events,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    for (subject, body) in [
        ("eventflow.commands.acme.start", START),
        (
            "eventflow.commands.acme.control",
            r#"{"executionId":"e","action":"stop"}"#,
        ),
        (
            "eventflow.triggers.acme.t",
            r#"{"event_id":"1","type":"t"}"#,
        ),
    ] {
        somebody.publish(subject, &[], body).await;
        somebody.until_all_is_done().await;
    }
    let rejected = somebody.stored("EVENTFLOW_REJECTED").await;
    let statuses: Vec<_> = rejected
        .iter()
        .map(|(_, _, body)| body["problem"]["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [404, 409, 400]);
    node.stop().await;
}

#[tokio::test]
async fn a_control_waits_for_its_start() {
    let servers = Servers::single();
    let unknown = || Some(Refusal::NotFound("no such execution".into()));
    let (controls, heard) = controls(move |number| if number < 4 { unknown() } else { None });
    let mocks = Mocks {
        controls,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    let pause = r#"{"eventType":"PAUSE","runId":"run1"}"#;
    somebody.publish("execution.commands", &[], pause).await;
    somebody.until_all_is_done().await;
    assert_eq!(heard.all(), vec![("run1".to_owned(), Action::Pause); 5]);
    assert!(somebody.stored("EVENTFLOW_REJECTED").await.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_control_whose_start_does_not_come_is_set_aside() {
    let servers = Servers::single();
    let (controls, heard) = controls(|_| Some(Refusal::NotFound("no such execution".into())));
    let mocks = Mocks {
        controls,
        late_by: Duration::from_mins(1),
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    let pause = r#"{"eventType":"PAUSE","runId":"run1"}"#;
    somebody.publish("execution.commands", &[], pause).await;
    somebody.until_all_is_done().await;
    assert_eq!(heard.all().len(), 1);
    let rejected = somebody.stored("EVENTFLOW_REJECTED").await;
    assert_eq!(rejected[0].2["reason"], "no such execution");
    node.stop().await;
}

#[tokio::test]
async fn orders_to_one_execution_keep_their_order() {
    let servers = Servers::single();
    let heard = Heard::default();
    let noted = heard.clone();
    let mut controls = MockControls::new();
    controls
        .expect_control()
        .returning(move |_, execution, action, _| {
            let (noted, execution) = (noted.clone(), execution.clone());
            Box::pin(async move {
                // A slow first one: what overtook it would be heard before.
                if action == Action::Pause {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                noted.note((execution.to_string(), action));
                Ok(view(&execution))
            })
        });
    let mocks = Mocks {
        controls,
        ..Mocks::default()
    };
    let somebody = Somebody::connect(&servers).await;
    let node = Node::start(&servers, mocks).await;
    for run in 0..10 {
        for word in ["PAUSE", "RESUME", "STOP"] {
            let body = format!(r#"{{"eventType":"{word}","runId":"run{run}"}}"#);
            somebody.publish("execution.commands", &[], &body).await;
        }
    }
    let heard = heard.until(30).await;
    for run in 0..10 {
        let id = format!("run{run}");
        let mine: Vec<_> = heard
            .iter()
            .filter(|(execution, _)| *execution == id)
            .collect();
        let actions: Vec<_> = mine.iter().map(|(_, action)| *action).collect();
        assert_eq!(
            actions,
            [Action::Pause, Action::Resume, Action::Stop],
            "{id}"
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_leaves_finishes_what_is_under_way_and_loses_nothing() {
    const COMMANDS: usize = 600;
    let servers = Servers::single();
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (noted, go) = (entered.clone(), leave.clone());
    let heard: Heard<StartExecution> = Heard::default();
    let by_one = heard.clone();
    let mut executions = MockExecutions::new();
    executions.expect_start().returning(move |start| {
        noted.notify_one();
        by_one.note(start.clone());
        at_once(Ok(started(&start)))
    });
    let one = Node::start(
        &servers,
        Mocks {
            executions,
            ..Mocks::default()
        },
    )
    .await;
    let somebody = Somebody::connect(&servers).await;
    let publishing = async {
        for number in 0..COMMANDS {
            let body = format!(r#"{{"workflow":{{"name":"order"}},"executionId":"e{number}"}}"#);
            somebody
                .publish("eventflow.commands.acme.start", &[], &body)
                .await;
            if number == COMMANDS / 2 {
                go.notify_one();
            }
        }
    };
    let leaving = async {
        entered.notified().await;
        leave.notified().await;
        one.stop().await;
    };
    tokio::join!(publishing, leaving);
    let (executions, by_two) = starting();
    let two = Node::start(
        &servers,
        Mocks {
            executions,
            ..Mocks::default()
        },
    )
    .await;
    somebody.until_all_is_done().await;
    let mut started: Vec<_> = [heard.all(), by_two.all()]
        .concat()
        .into_iter()
        .map(|start| start.execution.expect("each has one"))
        .collect();
    assert!(
        !by_two.all().is_empty(),
        "nothing was left for another node"
    );
    started.sort();
    started.dedup();
    assert_eq!(started.len(), COMMANDS);
    two.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_away_is_waited_for() {
    let mut servers = Servers::synced();
    let (executions, heard) = starting();
    let mocks = Mocks {
        executions,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    somebody
        .publish("eventflow.commands.acme.start", &[], START)
        .await;
    heard.until(1).await;
    servers.server().kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    servers.server().restart();
    let somebody = Somebody::connect(&servers).await;
    somebody
        .publish("eventflow.commands.acme.start", &[], START)
        .await;
    heard.until(2).await;
    somebody.ask("eventflow.start.acme", &[], START).await;
    assert_eq!(heard.all().len(), 3);
    node.stop().await;
}

#[tokio::test]
async fn a_message_that_makes_a_port_panic_harms_no_other() {
    let servers = Servers::single();
    let heard: Heard<StartExecution> = Heard::default();
    let noted = heard.clone();
    let mut executions = MockExecutions::new();
    executions.expect_start().returning(move |start| {
        noted.note(start.clone());
        // The first request, and the first durable message.
        let first = noted.all().len() <= 2;
        Box::pin(async move {
            assert!(!first, "on purpose");
            Ok(started(&start))
        })
    });
    let mocks = Mocks {
        executions,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    let problem = somebody.told("eventflow.start.acme", START).await;
    assert_eq!(problem["status"], 503);
    for number in 0..300 {
        let body = format!(r#"{{"workflow":{{"name":"order"}},"executionId":"e{number}"}}"#);
        somebody
            .publish("eventflow.commands.acme.start", &[], &body)
            .await;
    }
    somebody.until_all_is_done().await;
    assert_eq!(heard.all().len(), 302, "the message came again");
    node.stop().await;
}
