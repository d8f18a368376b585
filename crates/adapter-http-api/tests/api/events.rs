//! Events over HTTP: structured, binary and in batches.

use std::sync::{Arc, Mutex};

use axum::{body::Body, http::Request};
use eventflow_ports::inbound::{ExternalEvent, Refusal};
use serde_json::{Value, json};

use crate::support::*;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// What the port was given, and the answer.
async fn send(request: Request<Body>) -> (Vec<ExternalEvent>, Answer) {
    let given: Arc<Mutex<Vec<ExternalEvent>>> = Arc::default();
    let seen = given.clone();
    let mut ports = Ports::default();
    ports.events.expect_accept().returning(move |owner, event| {
        assert_eq!(*owner, tenant());
        seen.lock().unwrap().push(event);
        now(Ok(Vec::new()))
    });
    let answer = ports.ask(request).await;
    let given = given.lock().unwrap().clone();
    (given, answer)
}

fn structured(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/shop", "type": "order.placed",
        "correlationid": "café", "datacontenttype": "application/json", "data": {"order": 7},
    })
}

fn event(id: &str) -> ExternalEvent {
    ExternalEvent {
        source: "/shop".into(),
        id: id.into(),
        kind: "order.placed".into(),
        data: json(r#"{"order":7}"#),
        correlation: Some("café".into()),
        traceparent: None,
    }
}

#[tokio::test]
async fn the_three_ways_of_the_binding_say_the_same() {
    let media = format!("{STRUCTURED}; charset=utf-8");
    let (given, answer) = send(post_as(&media, "/v1/events", structured("e1").to_string())).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.text, r#"{"accepted":1}"#);
    assert_eq!(given, [event("e1")]);

    let mut binary = post("/v1/events", r#"{"order":7}"#);
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "e1"),
        ("ce-source", "/shop"),
        ("ce-type", "order.placed"),
        ("ce-correlationid", "caf%C3%A9"),
    ] {
        binary = with(binary, name, value);
    }
    let (given, answer) = send(binary).await;
    assert_eq!(answer.text, r#"{"accepted":1}"#);
    assert_eq!(given, [event("e1")]);

    let batch = json!([structured("e1"), structured("e2")]).to_string();
    let (given, answer) = send(post_as(BATCH, "/v1/events", batch)).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.text, r#"{"accepted":2}"#);
    assert_eq!(given, [event("e1"), event("e2")]);
    let (given, answer) = send(post_as(BATCH, "/v1/events", "[]")).await;
    assert_eq!((given.len(), &*answer.text), (0, r#"{"accepted":0}"#));
}

#[tokio::test]
async fn the_trace_context_of_the_request_is_carried_on() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = post_as(STRUCTURED, "/v1/events", structured("e1").to_string());
    let (given, _) = send(with(request, "traceparent", trace)).await;
    assert_eq!(given[0].traceparent.as_deref(), Some(trace));
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_of_the_batch_is_taken() {
    let mut nameless = structured("e2");
    nameless.as_object_mut().unwrap().remove("type");
    let batch = json!([structured("e1"), nameless]).to_string();
    let (given, answer) = send(post_as(BATCH, "/v1/events", batch)).await;
    let problem = answer.is_problem(422, "must have this attribute");
    assert_eq!(problem["errors"][0]["pointer"], "/1/type");
    assert_eq!(given, []);

    let mut late = structured("e3");
    late["time"] = json!("soon");
    let batch = json!([structured("e1"), late]).to_string();
    let (given, answer) = send(post_as(BATCH, "/v1/events", batch)).await;
    answer.is_problem(400, "event 1 of the batch: the attribute `time`");
    assert_eq!(given, []);

    let many = vec![structured("e1"); 101];
    let (given, answer) = send(post_as(BATCH, "/v1/events", json!(many).to_string())).await;
    answer.is_problem(422, "at most 100 events");
    assert_eq!(given, []);

    for (media, body, status, detail) in [
        (STRUCTURED, "{}", 422, "4 things are wrong"),
        (STRUCTURED, "{", 400, "not JSON"),
        (BATCH, "{}", 422, "expected a sequence"),
        (
            "application/json",
            "{}",
            400,
            "no ce-id, no ce-source, no ce-type",
        ),
        ("text/plain", "{}", 415, STRUCTURED),
    ] {
        let (given, answer) = send(post_as(media, "/v1/events", body)).await;
        answer.is_problem(status, detail);
        assert_eq!(given, [], "{body}");
    }
}

#[tokio::test]
async fn a_refused_event_is_a_problem() {
    let mut ports = Ports::default();
    let refuse = |_: &_, _| now(Err(Refusal::unavailable("the journal is full")));
    ports.events.expect_accept().returning(refuse);
    let request = post_as(STRUCTURED, "/v1/events", structured("e1").to_string());
    let answer = ports.ask(request).await;
    answer.is_problem(503, "the journal is full");
    assert_eq!(answer.header("retry-after"), "1");
}
