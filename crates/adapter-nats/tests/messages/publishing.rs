//! What is published: the contract of the port, and what the messages look like.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::jetstream;
use async_trait::async_trait;
use eventflow_adapter_nats::{NatsConfig, NatsPublisher, OpenError};
use eventflow_contracts::{event_publisher::EventPublisherFixture, event_publisher_contract};
use eventflow_domain::{
    ExecutionId, Json, PartitionId, Position, Sequence, Timestamp, WorkflowId, service_call,
};
use eventflow_ports::{EventPublisher, LifecycleEvent};
use futures::StreamExt as _;
use serde_json::json;

use crate::{
    node::{Somebody, header, tenant},
    support::Servers,
};

/// A store of events.
struct Published(Servers);

impl Published {
    fn config(&self) -> NatsConfig {
        NatsConfig {
            replicas: self.0.replicas(),
            ..NatsConfig::default()
        }
    }

    async fn publisher(&self) -> NatsPublisher {
        let client = self.0.connect().await;
        NatsPublisher::open(&client, &self.config())
            .await
            .expect("opened")
    }
}

#[async_trait]
impl EventPublisherFixture for Published {
    async fn open(&self) -> Arc<dyn EventPublisher> {
        Arc::new(self.publisher().await)
    }

    async fn published(&self) -> Vec<Arc<str>> {
        let stored = Somebody::connect(&self.0)
            .await
            .stored("EVENTFLOW_EVENTS")
            .await;
        let id = |headers: async_nats::HeaderMap| header(&headers, "ce-id").into();
        stored
            .into_iter()
            .map(|(_, headers, _)| id(headers))
            .collect()
    }
}

event_publisher_contract!(one_server, || async { Published(Servers::single()) });
event_publisher_contract!(one_server_that_syncs, || async {
    Published(Servers::synced())
});
event_publisher_contract!(three_servers, || async { Published(Servers::replicated()) });

fn event(
    execution: &str,
    sequence: u64,
    kind: &'static str,
    data: &serde_json::Value,
) -> LifecycleEvent {
    LifecycleEvent {
        id: format!("{execution}-{sequence}").into(),
        kind,
        tenant: tenant("acme"),
        execution: ExecutionId::parse(execution).unwrap(),
        workflow: WorkflowId {
            namespace: "default".into(),
            name: "order.eu".into(),
            version: "1.0.0".into(),
        },
        sequence: Sequence(sequence),
        time: Timestamp(1_772_357_400_000),
        correlation: Some("c 1".into()),
        causation: Some("m1".into()),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        data: Json::of(data),
    }
}

#[tokio::test]
async fn an_event_is_told_with_its_envelope_and_its_status() {
    let store = Published(Servers::single());
    let data = json!({"task": "/do/0/charge", "name": "charge", "attempt": 1});
    let events = vec![event("e1", 3, "task_completed", &data)];
    let publisher = store.publisher().await;
    publisher
        .publish(PartitionId(0), Position(1), events)
        .await
        .unwrap();

    let somebody = Somebody::connect(&store.0).await;
    let told = somebody.stored("EVENTFLOW_EVENTS").await;
    let [(subject, headers, body)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(subject, "eventflow.events.acme.order=2Eeu.task_completed");
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "e1-3"),
        ("Nats-Msg-Id", "e1-3"),
        ("ce-source", "/eventflow/acme/default/order.eu"),
        ("ce-type", "task_completed"),
        ("ce-subject", "e1"),
        ("ce-time", "2026-03-01T09:30:00.000Z"),
        ("ce-tenantid", "acme"),
        ("ce-correlationid", "c%201"),
        ("ce-causationid", "m1"),
        ("ce-partitionkey", "e1"),
        ("ce-dataschema", "urn:eventflow:v1:task_completed"),
        ("content-type", "application/json"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ] {
        assert_eq!(
            headers.get(name).map(async_nats::HeaderValue::as_str),
            Some(value),
            "{name}"
        );
    }
    let expected = json!({"executionId": "e1", "workflow": {"namespace": "default", "name": "order.eu",
        "version": "1.0.0"}, "sequence": 3, "task": "/do/0/charge", "name": "charge", "attempt": 1});
    assert_eq!(*body, expected);

    let told = somebody.stored("EVENTFLOW_STATUS").await;
    let [(subject, headers, body)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(subject, "execution.status");
    assert_eq!(header(headers, "ce-tenantid"), "acme");
    assert_eq!(header(headers, "ce-type"), "STEP_STATUS");
    let expected = json!({"eventType": "STEP_STATUS", "flowId": "order.eu", "runId": "e1", "stepId": "charge",
        "status": "COMPLETED", "error": null, "timestamp": "2026-03-01T09:30:00.000Z"});
    assert_eq!(*body, expected);
}

#[tokio::test]
async fn a_service_call_is_told_as_one_and_not_as_a_flow() {
    let store = Published(Servers::single());
    let mut events = vec![
        event("e1", 1, "workflow_execution_requested", &json!({})),
        event(
            "e1",
            2,
            "workflow_execution_started",
            &json!({"serviceCallId": "call 1"}),
        ),
        event(
            "e1",
            3,
            "workflow_execution_completed",
            &json!({"serviceCallId": "call 1", "durationMs": 5,
            "output": {"status": 204, "headers": {}, "bodySnippet": "", "latencyMs": 4}}),
        ),
    ];
    for event in &mut events {
        event.workflow.namespace = service_call::NAMESPACE.into();
        event.workflow.name = service_call::NAME.into();
    }
    let publisher = store.publisher().await;
    publisher
        .publish(PartitionId(0), Position(1), events)
        .await
        .unwrap();

    let told = Somebody::connect(&store.0)
        .await
        .stored("EVENTFLOW_STATUS")
        .await;
    let kinds: Vec<_> = told
        .iter()
        .map(|(subject, headers, _)| {
            assert_eq!(header(headers, "ce-subject"), "call%201");
            assert_eq!(header(headers, "ce-partitionkey"), "call%201");
            (subject.as_str(), header(headers, "ce-type"))
        })
        .collect();
    let subject = "eventflow.calls.events.acme";
    assert_eq!(
        kinds,
        [
            (subject, "ExecutionStarted"),
            (subject, "ExecutionSucceeded")
        ]
    );
    assert_eq!(told[1].2["responseMeta"]["status"], 204);
}

/// One event of each of so many executions, then the next of each, and so on.
fn rounds(name: &str, executions: u64, each: u64) -> Vec<LifecycleEvent> {
    let data = json!({"task": "/do/0/a", "name": "a"});
    let of_round =
        |sequence| (0..executions).map(move |number| (format!("{name}-{number}"), sequence));
    (1..=each)
        .flat_map(of_round)
        .map(|(execution, sequence)| event(&execution, sequence, "task_started", &data))
        .collect()
}

#[tokio::test]
async fn more_than_a_window_is_told_in_its_order() {
    let store = Published(Servers::synced());
    let publisher = store.publisher().await;
    let events = rounds("e", 400, 5);
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    let began = std::time::Instant::now();
    publisher
        .publish(PartitionId(0), Position(1), events)
        .await
        .unwrap();
    println!("{} events in {:?}", ids.len(), began.elapsed());
    assert_eq!(store.published().await, ids);
}

#[tokio::test]
async fn those_who_tell_at_once_do_not_take_each_others_batches() {
    const PARTITIONS: u16 = 3;
    let store = Published(Servers::single());
    let client = store.0.connect().await;
    let beside = NatsPublisher::open(&client, &store.config()).await;
    let again = NatsPublisher::open(&client, &store.config()).await;
    let nodes = [store.publisher().await, beside.unwrap(), again.unwrap()];
    let mut expected = Vec::new();
    let mut telling = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        for partition in (0..PARTITIONS).map(PartitionId) {
            for round in 1..=2 {
                // More than a window: both have one open at the same time.
                let events = rounds(&format!("e-{number}-{partition}-{round}"), 200, 4);
                expected.extend(events.iter().map(|event| event.id.clone()));
                telling.push(async move {
                    let position = Position(round);
                    node.publish(partition, position, events).await
                });
            }
        }
    }
    for told in futures::future::join_all(telling).await {
        told.unwrap();
    }
    let mut published = store.published().await;
    published.sort_unstable();
    expected.sort_unstable();
    assert_eq!(published, expected);
}

#[tokio::test]
async fn what_is_not_taken_holds_up_what_follows() {
    let store = Published(Servers::single());
    let publisher = store.publisher().await;
    let small = json!({"task": "/do/0/a", "name": "a"});
    let large = json!({"task": "/do/0/a", "name": "a", "output": "x".repeat(10_000)});
    let batch = vec![
        event("e1", 1, "task_started", &small),
        event("e1", 2, "task_completed", &large),
        event("e1", 3, "task_started", &small),
        event("e2", 1, "task_started", &small),
    ];
    // For a while the server does not take large messages.
    let somebody = Somebody::connect(&store.0).await;
    let mut stream = somebody
        .jetstream
        .get_stream("EVENTFLOW_EVENTS")
        .await
        .unwrap();
    let needed = stream.info().await.unwrap().config.clone();
    let mut narrow = needed.clone();
    narrow.max_message_size = 5_000;
    somebody.jetstream.update_stream(&narrow).await.unwrap();
    let refused = publisher
        .publish(PartitionId(0), Position(1), batch.clone())
        .await;
    assert!(refused.is_err());
    assert_eq!(
        publisher.position(PartitionId(0)).await.unwrap(),
        Position(0)
    );
    let stored = store.published().await;
    assert!(stored.contains(&"e1-1".into()) && !stored.contains(&"e1-3".into()));

    somebody.jetstream.update_stream(&needed).await.unwrap();
    publisher
        .publish(PartitionId(0), Position(1), batch)
        .await
        .unwrap();
    let stored = store.published().await;
    let of_one: Vec<&str> = stored
        .iter()
        .map(AsRef::as_ref)
        .filter(|id| id.starts_with("e1"))
        .collect();
    assert_eq!(of_one, ["e1-1", "e1-2", "e1-3"]);
    assert_eq!(
        publisher.position(PartitionId(0)).await.unwrap(),
        Position(1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_stream_takes_nothing_next_to_nothing_is_sent_and_the_other_one_is_told_once() {
    const EVENTS: u64 = 400;
    const TRIES: u64 = 5;
    let store = Published(Servers::single());
    let client = store.0.connect().await;
    let publisher = NatsPublisher::open(&client, &store.config())
        .await
        .expect("opened");
    let somebody = Somebody::connect(&store.0).await;
    let told = jetstream::new(client.clone());
    let mut config = None;
    for name in ["EVENTFLOW_EVENTS", "EVENTFLOW_STATUS"] {
        let mut stream = told.get_stream(name).await.expect("there");
        let found = stream.info().await.expect("told").config.clone();
        config.get_or_insert(found);
        told.delete_stream(name).await.expect("deleted");
    }
    let batch = rounds("e", 1, EVENTS);
    let publish = || publisher.publish(PartitionId(0), Position(1), batch.clone());
    let sent = || client.statistics().out_messages.load(Ordering::Relaxed);
    let before = sent();
    for _ in 0..TRIES {
        publish().await.expect_err("nobody takes it");
    }
    let sent = sent() - before;
    assert!(sent < TRIES * 10, "{sent} messages were sent to nobody");

    // One of the two is there again.
    NatsPublisher::open(&client, &store.config())
        .await
        .expect("made again");
    told.delete_stream("EVENTFLOW_EVENTS")
        .await
        .expect("deleted");
    let mut heard = client.subscribe("execution.status").await.expect("heard");
    for _ in 0..TRIES {
        publish().await.expect_err("nobody takes the events");
    }
    let needed = config.expect("there was one");
    told.create_stream(needed).await.expect("made again");
    publish().await.expect("taken");
    assert_eq!(store.published().await.len() as u64, EVENTS);
    let stored = somebody.stored("EVENTFLOW_STATUS").await.len();
    client.flush().await.expect("flushed");
    for _ in 0..stored {
        heard.next().await.expect("told");
    }
    let again = tokio::time::timeout(Duration::from_millis(300), heard.next()).await;
    assert!(again.is_err(), "told again: {again:?}");
}

#[tokio::test]
async fn an_old_leader_does_not_take_the_feed_back() {
    let store = Published(Servers::single());
    let (old, new) = (store.publisher().await, store.publisher().await);
    let publish = async |publisher: &NatsPublisher, through| {
        let published = publisher.publish(PartitionId(0), Position(through), Vec::new());
        published.await.unwrap();
        publisher.position(PartitionId(0)).await.unwrap().0
    };
    assert_eq!(publish(&old, 5).await, 5);
    assert_eq!(publish(&new, 9).await, 9);
    assert_eq!(publish(&old, 7).await, 9);
    assert_eq!(publish(&old, 10).await, 10);
    assert_eq!(publish(&new, 11).await, 11);
}

#[tokio::test]
async fn a_stream_that_is_not_as_needed_is_named() {
    let store = Published(Servers::single());
    let client = store.0.connect().await;
    let wrong = async_nats::jetstream::stream::Config {
        name: "EVENTFLOW_EVENTS".to_owned(),
        subjects: vec!["eventflow.events.>".to_owned()],
        storage: async_nats::jetstream::stream::StorageType::Memory,
        ..Default::default()
    };
    let jetstream = async_nats::jetstream::new(client.clone());
    jetstream.create_stream(wrong).await.unwrap();
    let refused = NatsPublisher::open(&client, &store.config()).await;
    let Err(OpenError::Different {
        stream,
        differences,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(stream, "EVENTFLOW_EVENTS");
    assert!(
        differences
            .iter()
            .any(|difference| difference.setting == "storage")
    );
}
