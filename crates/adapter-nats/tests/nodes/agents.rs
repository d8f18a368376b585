//! What an agent with a plain NATS client sees: the body, the headers, its consumer; and tasks that are not for it.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
};
use eventflow_domain::{Json, NodeName, Value};
use eventflow_ports::{TaskOffer, TaskQueue};
use futures::StreamExt as _;
use serde_json::json;
use tokio::time::Instant;

use super::fixture::{Nodes, capability, offer, take, tenant};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_pulls_from_a_durable_consumer_and_reads_a_task() {
    let nodes = Nodes::single();
    let (queue, stream) = (nodes.queue().await, nodes.stream().await);
    let offered = TaskOffer {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..offer("e1", 7)
    };
    queue.offer(vec![offered]).await.expect("offered");
    let consumer = consumer(&stream, "default-charge").await;
    assert_eq!(
        consumer.cached_info().config.ack_policy,
        AckPolicy::Explicit
    );
    let mut messages = consumer
        .fetch()
        .max_messages(5)
        .messages()
        .await
        .expect("pulled");
    let message = messages.next().await.expect("a task").expect("a message");
    assert_eq!(message.subject.as_str(), "eventflow.tasks.default.charge");
    let body: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert_eq!(
        body,
        json!({
            "token": "token-e1-7",
            "executionId": "e1",
            "tenant": "default",
            "workflow": {"namespace": "default", "name": "order", "version": "1.0.0"},
            "task": "/do/7",
            "capability": "charge",
            "attempt": 1,
            "input": 7,
            "idempotencyKey": "e1:/do/7:1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        })
    );
    let headers = message.headers.as_ref().expect("headers");
    let header = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
    assert_eq!(header("Nats-Msg-Id"), Some("default/e1/=2Fdo=2F7/1/1"));
    assert_eq!(header("ce-subject"), Some("e1"));
    assert_eq!(header("ce-tenantid"), Some("default"));
    assert_eq!(header("ce-time"), Some("2023-11-14T22:13:20.123Z"));
    assert_eq!(header("ce-partitionkey"), Some("e1"));
    assert!(header("traceparent").is_some());
    // Not acknowledged, it is nobody else's.
    assert_eq!(take(&queue, 1, Duration::ZERO).await, []);
    message.ack().await.expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_names_the_node_that_gives_it_out() {
    let mut nodes = Nodes::single();
    nodes.config.node = NodeName::parse("node-1").ok();
    let (queue, stream) = (nodes.queue().await, nodes.stream().await);
    queue.offer(vec![offer("e1", 7)]).await.expect("offered");
    let consumer = consumer(&stream, "default-charge").await;
    let messages = consumer.fetch().max_messages(1).messages().await;
    let message = messages.expect("pulled").next().await.expect("a task");
    let headers = message.expect("a message").headers.clone();
    let node = headers
        .as_ref()
        .and_then(|headers| headers.get("eventflow-node"));
    assert_eq!(node.expect("named").as_str(), "node-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_does_not_fit_a_message_is_left_out_and_the_others_are_not() {
    let nodes = Nodes::single();
    let queue = nodes.queue().await;
    let with = |task: usize, bytes: usize| TaskOffer {
        input: Value::new(Json::of(&"x".repeat(bytes))),
        ..offer("e1", task)
    };
    let tasks = vec![with(0, 900_000), with(1, 1_100_000), with(2, 10)];
    queue.offer(tasks.clone()).await.expect("offered");
    let mut taken = Vec::new();
    while taken.len() < 2 {
        taken.extend(take(&queue, 5, LONG).await);
    }
    assert_eq!(taken, [tasks[0].clone(), tasks[2].clone()]);
    assert_eq!(take(&queue, 5, Duration::from_secs(1)).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_task_is_thrown_away() {
    let nodes = Nodes::single();
    let (queue, stream) = (nodes.queue().await, nodes.stream().await);
    let context = jetstream::new(nodes.servers.connect().await);
    let published = context.publish("eventflow.tasks.default.charge", "hello".into());
    published
        .await
        .expect("published")
        .await
        .expect("acknowledged");
    queue.offer(vec![offer("e1", 0)]).await.expect("offered");
    assert_eq!(take(&queue, 1, LONG).await, [offer("e1", 0)]);
    let since = Instant::now();
    loop {
        let info = stream.get_info().await.expect("its state");
        if info.state.messages == 0 {
            return;
        }
        assert!(since.elapsed() < LONG, "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_somebody_else_is_named() {
    let nodes = Nodes::single();
    let (queue, stream) = (nodes.queue().await, nodes.stream().await);
    let theirs = pull::Config {
        durable_name: Some("default-charge".into()),
        filter_subject: "eventflow.tasks.default.ship".into(),
        ..pull::Config::default()
    };
    stream.create_consumer(theirs).await.expect("created");
    let refused = queue
        .take(&tenant(), &[capability("charge")], 1, LONG)
        .await
        .expect_err("it serves another queue");
    let words = refused.to_string();
    assert!(words.contains("consumer default-charge must be"), "{words}");
}

/// A task that was given out and not acknowledged comes again once a take of it is dropped, at once and not only after
/// the acknowledgement wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_a_take_that_was_dropped_goes_back_at_once() {
    const ROUNDS: usize = 20;
    let nodes = Nodes::single();
    let (queue, other) = (nodes.queue().await, nodes.queue().await);
    let capabilities = [capability("charge")];
    let mut slow = 0;
    for round in 0..ROUNDS {
        let of = tenant();
        let taking = queue.take(&of, &capabilities, 10, LONG);
        // Long enough for the pull to wait at the server.
        assert!(
            tokio::time::timeout(Duration::from_millis(50), taking)
                .await
                .is_err()
        );
        other
            .offer(vec![offer("e1", round)])
            .await
            .expect("offered");
        let since = Instant::now();
        let taken = take(&other, 10, Duration::from_secs(40)).await;
        assert_eq!(taken, [offer("e1", round)]);
        slow += usize::from(since.elapsed() > Duration::from_secs(10));
    }
    // The server may just have sent one to where nobody listens any more; that is rare.
    assert!(
        slow <= 1,
        "{slow} of {ROUNDS} came after the acknowledgement wait only"
    );
}

async fn consumer(stream: &jetstream::stream::Stream, name: &str) -> PullConsumer {
    let since = Instant::now();
    loop {
        match stream.get_consumer(name).await {
            Ok(consumer) => return consumer,
            Err(error) => assert!(since.elapsed() < LONG, "no consumer {name}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
