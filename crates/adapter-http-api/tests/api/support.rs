//! Requests to a router over mocked ports, and what they answer.

use std::{collections::BTreeMap, future::ready, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use eventflow_adapter_http_api::{Api, router};
use eventflow_domain::{
    Digest, ExecutionId, Json, Sequence, Tenant, Timestamp, WorkflowId, execution::Status,
};
use eventflow_ports::inbound::{
    ExecutionView, MockControls, MockEvents, MockExecutions, MockSystem, MockTasks, MockWorkflows,
    Progress,
};
use serde_json::Value;
use tower::ServiceExt as _;

/// Every port, mocked; one that is not told what to do must not be asked.
#[derive(Default)]
pub(crate) struct Ports {
    pub(crate) executions: MockExecutions,
    pub(crate) controls: MockControls,
    pub(crate) workflows: MockWorkflows,
    pub(crate) tasks: MockTasks,
    pub(crate) events: MockEvents,
    pub(crate) system: MockSystem,
}

impl Ports {
    pub(crate) fn api(self) -> Api {
        Api {
            executions: Arc::new(self.executions),
            controls: Arc::new(self.controls),
            workflows: Arc::new(self.workflows),
            tasks: Arc::new(self.tasks),
            events: Arc::new(self.events),
            system: Arc::new(self.system),
        }
    }

    /// One request, answered.
    pub(crate) async fn ask(self, request: Request<Body>) -> Answer {
        ask(&router(self.api()), request).await
    }
}

/// One of many requests to the same router, answered.
pub(crate) async fn ask(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// An answer of a port that does not wait.
pub(crate) fn now<T: Send + 'static>(answer: T) -> Pin<Box<dyn Future<Output = T> + Send>> {
    Box::pin(ready(answer))
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The answer is this problem, whole: RFC 9457 with everything INTERFACES section 2 names.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, detail: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["title"], self.status.canonical_reason().unwrap());
        assert!(problem["instance"].as_str().unwrap().starts_with('/'));
        let told = problem["detail"].as_str().unwrap();
        assert!(told.contains(detail), "`{told}` does not say `{detail}`");
        problem
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    post_as("application/json", path, body)
}

pub(crate) fn post_as(media: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header("content-type", media)
        .body(body.into())
        .unwrap()
}

pub(crate) fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(crate) fn tenant() -> Tenant {
    Tenant::default_tenant()
}

pub(crate) fn id(id: &str) -> ExecutionId {
    ExecutionId::parse(id).unwrap()
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

pub(crate) fn workflow() -> WorkflowId {
    WorkflowId {
        namespace: "default".into(),
        name: "order".into(),
        version: "1.0.0".into(),
    }
}

/// 2026-03-01T09:30:00.000Z.
pub(crate) const T0: Timestamp = Timestamp(1_772_357_400_000);

pub(crate) fn view(name: &str, status: Status) -> ExecutionView {
    ExecutionView {
        execution: id(name),
        tenant: tenant(),
        workflow: workflow(),
        digest: Digest([7; 32]),
        correlation: None,
        labels: BTreeMap::new(),
        status,
        input: json(r#"{"total":12.5}"#),
        output: status.is_ended().then(|| json(r#"{"receipt":"r-1"}"#)),
        error: None,
        created_at: T0,
        started_at: None,
        ended_at: status.is_ended().then_some(Timestamp(T0.0 + 1_500)),
        estimated_completion: None,
        progress: Progress::default(),
        tasks: Vec::new(),
        sequence: Sequence(9),
    }
}
