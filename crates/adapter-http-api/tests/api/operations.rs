//! Health, readiness, metrics, the system, the description, and paths that are none.

use std::collections::BTreeSet;

use crate::support::*;
use eventflow_domain::{Epoch, PartitionId, Position};
use eventflow_ports::inbound::{PartitionView, SystemView};
use serde_json::Value;

/// Every route of INTERFACES section 2 that is served.
const ROUTES: &[&str] = &[
    "GET /docs",
    "GET /healthz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /readyz",
    "GET /v1/events",
    "GET /v1/executions",
    "GET /v1/executions/{id}",
    "GET /v1/executions/{id}/events",
    "GET /v1/executions/{id}/explain",
    "GET /v1/executions/{id}/history",
    "GET /v1/system",
    "GET /v1/workflows",
    "GET /v1/workflows/{namespace}/{name}",
    "GET /v1/workflows/{namespace}/{name}/{version}",
    "POST /v1/events",
    "POST /v1/executions",
    "POST /v1/executions/{id}/pause",
    "POST /v1/executions/{id}/resume",
    "POST /v1/executions/{id}/stop",
    "POST /v1/tasks/lease",
    "POST /v1/tasks/results",
    "POST /v1/tasks/{token}/complete",
    "POST /v1/tasks/{token}/fail",
    "POST /v1/tasks/{token}/heartbeat",
    "POST /v1/workflows",
    "POST /v1/workflows/validate",
];

#[tokio::test]
async fn health_is_200() {
    let answer = Ports::default().ask(get("/healthz")).await;
    assert_eq!(answer.text, r#"{"status":"ok"}"#);
}

#[tokio::test]
async fn readiness_is_200_or_503_with_every_reason() {
    let mut ports = Ports::default();
    ports.system.expect_readiness().returning(|| Ok(()));
    assert_eq!(ports.ask(get("/readyz")).await.status, 200);

    let mut ports = Ports::default();
    let reasons = || vec!["partition 0 replays".into(), "disk is full".into()];
    ports
        .system
        .expect_readiness()
        .returning(move || Err(reasons()));
    let answer = ports.ask(get("/readyz")).await;
    let problem = answer.is_problem(503, "partition 0 replays; disk is full");
    assert_eq!(problem["errors"][1]["detail"], "disk is full");
}

#[tokio::test]
async fn metrics_are_text() {
    let mut ports = Ports::default();
    ports.system.expect_metrics().returning(|| "up 1\n".into());
    let answer = ports.ask(get("/metrics")).await;
    assert_eq!(answer.text, "up 1\n");
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
}

#[tokio::test]
async fn the_system_is_shown() {
    let mut ports = Ports::default();
    ports.system.expect_system().returning(|| SystemView {
        version: "0.1.0".into(),
        backend: "memory".into(),
        partitions: vec![PartitionView {
            id: PartitionId(0),
            leader: Some("node-1".into()),
            epoch: Epoch(3),
            position: Position(17),
            reason: None,
        }],
        limits: vec![("requestBytes", 1_048_576)],
    });
    let expected = serde_json::json!({
        "version": "0.1.0", "backend": "memory",
        "partitions": [{"id": 0, "leader": "node-1", "epoch": 3, "position": 17}],
        "limits": {"requestBytes": 1_048_576},
    });
    assert_eq!(ports.ask(get("/v1/system")).await.json(), expected);
}

#[tokio::test]
async fn a_path_that_is_none_is_404_and_a_method_that_is_none_405() {
    for path in [
        "/",
        "/v1",
        "/v1/executions/x/retry",
        "/v1/executions/",
        "/%ff",
    ] {
        Ports::default()
            .ask(get(path))
            .await
            .is_problem(404, "/docs");
    }
    Ports::default()
        .ask(post("/v1/executions/x/retry", "{}"))
        .await
        .is_problem(404, "/docs");
    let answer = Ports::default().ask(post("/healthz", "{}")).await;
    answer.is_problem(405, "Allow");
    assert_eq!(answer.header("allow"), "GET,HEAD");
    let answer = Ports::default().ask(get("/v1/tasks/lease")).await;
    answer.is_problem(405, "Allow");
    assert_eq!(answer.header("allow"), "POST");
}

async fn description() -> Value {
    let answer = Ports::default().ask(get("/openapi.json")).await;
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

fn operations(document: &Value) -> Vec<(String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| {
                    (format!("{} {path}", method.to_uppercase()), path, operation)
                })
        })
        .collect()
}

#[tokio::test]
async fn the_description_has_every_route_and_every_route_is_served() {
    let document = description().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<String> = operations(&document)
        .into_iter()
        .map(|(route, _, _)| route)
        .collect();
    let expected: BTreeSet<String> = ROUTES.iter().map(|&route| route.into()).collect();
    assert_eq!(described, expected);
}

#[tokio::test]
async fn the_description_is_sound() {
    let document = description().await;
    let mut ids = BTreeSet::new();
    for (route, path, operation) in operations(&document) {
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap()),
            "{route}: id stands twice"
        );
        assert!(
            !operation["summary"].as_str().unwrap().is_empty(),
            "{route}"
        );
        let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
        assert_eq!(
            problem["schema"]["$ref"], "#/components/schemas/Problem",
            "{route}"
        );
        let in_path: BTreeSet<&str> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let declared: BTreeSet<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(in_path, declared, "{route}");
        assert_eq!(
            route.starts_with("POST"),
            operation.get("requestBody").is_some(),
            "{route}"
        );
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(reference) if key == "$ref" => found.push(reference.clone()),
                    _ => collect_references(member, found),
                }
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn the_description_can_be_read_without_any_other_host() {
    let answer = Ports::default().ask(get("/docs")).await;
    assert!(answer.header("content-type").starts_with("text/html"));
    assert!(answer.text.contains("/openapi.json"));
    assert!(!answer.text.contains("http://") && !answer.text.contains("https://"));
    assert!(
        answer
            .header("content-security-policy")
            .contains("default-src 'none'")
    );
}
