//! Bodies of HTTP requests, to every route that takes one: answered with success or a problem of the caller's.
#![no_main]

use std::{cell::RefCell, future::ready, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use eventflow_adapter_http_api::{Api, router};
use eventflow_domain::{Digest, Json, WorkflowId};
use eventflow_ports::{
    Definition,
    inbound::{
        MockControls, MockEvents, MockExecutions, MockSystem, MockTasks, MockWorkflows, Refusal,
        Registered, ResultOutcome,
    },
};
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt as _;

const PATHS: [&str; 9] = [
    "/v1/workflows",
    "/v1/workflows/validate",
    "/v1/executions",
    "/v1/tasks/lease",
    "/v1/tasks/t/complete",
    "/v1/tasks/t/fail",
    "/v1/tasks/t/heartbeat",
    "/v1/tasks/results",
    "/v1/events",
];

thread_local! {
    static APP: RefCell<(tokio::runtime::Runtime, Router)> = RefCell::new({
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        (runtime.expect("a runtime"), router(ports()))
    });
}

fuzz_target!(|bytes: &[u8]| {
    APP.with_borrow(|(runtime, app)| {
        for path in PATHS {
            let media: &[&str] = match path {
                "/v1/workflows" | "/v1/workflows/validate" => {
                    &["application/json", "application/yaml"]
                }
                // The envelope is in the body; as `application/json` it would be in headers, which are not fuzzed.
                "/v1/events" => &[
                    "application/cloudevents+json",
                    "application/cloudevents-batch+json",
                ],
                _ => &["application/json"],
            };
            for media in media {
                runtime.block_on(post(app, path, media, bytes));
            }
        }
    });
});

async fn post(app: &Router, path: &str, media: &str, body: &[u8]) {
    let request = Request::post(path)
        .header("content-type", media)
        .body(Body::from(body.to_vec()))
        .expect("a request");
    let Ok(response) = app.clone().oneshot(request).await;
    let (head, body) = response.into_parts();
    assert!(!head.status.is_server_error(), "{path}: {}", head.status);
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let answer: serde_json::Value = serde_json::from_slice(&body).expect("an answer is JSON");
    if head.status.is_client_error() {
        assert_eq!(head.headers["content-type"], "application/problem+json");
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(
            !detail.is_empty(),
            "{path}: a problem without words: {answer}"
        );
    }
}

/// Ports that read what they are given, as the engine would, and do nothing.
fn ports() -> Api {
    let mut workflows = MockWorkflows::new();
    workflows.expect_validate().returning(|_, _| Vec::new());
    workflows.expect_register().returning(|_, _, _| {
        let workflow = WorkflowId {
            namespace: "default".into(),
            name: "order".into(),
            version: "1.0.0".into(),
        };
        let digest = Digest([7; 32]);
        let definition = Definition {
            workflow,
            digest,
            document: Json::null(),
        };
        Box::pin(ready(Ok(Registered {
            definition,
            created: true,
        })))
    });
    let mut executions = MockExecutions::new();
    executions.expect_start().returning(|start| {
        start.input.to_value();
        Box::pin(ready(Err(Refusal::NotFound(
            "there is no such workflow".into(),
        ))))
    });
    let mut tasks = MockTasks::new();
    tasks
        .expect_lease()
        .returning(|_, _| Box::pin(ready(Ok(Vec::new()))));
    tasks.expect_results().returning(|_, results| {
        let accepted = results.iter().map(|_| ResultOutcome::Accepted).collect();
        Box::pin(ready(accepted))
    });
    let mut events = MockEvents::new();
    events.expect_accept().returning(|_, event| {
        event.data.to_value();
        Box::pin(ready(Ok(Vec::new())))
    });
    Api {
        executions: Arc::new(executions),
        controls: Arc::new(MockControls::new()),
        workflows: Arc::new(workflows),
        tasks: Arc::new(tasks),
        events: Arc::new(events),
        system: Arc::new(MockSystem::new()),
    }
}
