//! Executions over HTTP: start, wait, read, list.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::*;
use eventflow_adapter_http_api::{STARTING_MAX, router};
use eventflow_domain::{
    Attempt, TaskReference, Timestamp,
    execution::{Status, TaskStatus},
};
use eventflow_ports::inbound::{ListPage, Refusal, StartExecution, Started, TaskView, WorkflowRef};

const START: &str = r#"{"workflow":{"name":"order"}}"#;

fn starts(check: impl Fn(&StartExecution) -> bool + Send + 'static) -> Ports {
    let mut ports = Ports::default();
    ports.executions.expect_start().withf(check).returning(|_| {
        now(Ok(Started {
            execution: id("order-17"),
            repeated: false,
            view: view("order-17", Status::Pending),
        }))
    });
    ports
}

fn refuses(refusal: Refusal) -> Ports {
    let mut ports = Ports::default();
    ports
        .executions
        .expect_start()
        .returning(move |_| now(Err(refusal.clone())));
    ports
}

#[tokio::test]
async fn a_start_is_202_with_its_place() {
    let answer = starts(|_| true).ask(post("/v1/executions", START)).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("location"), "/v1/executions/order-17");
    assert_eq!(answer.json()["executionId"], "order-17");
    assert_eq!(answer.json()["status"], "pending");
    assert_eq!(answer.json()["createdAt"], "2026-03-01T09:30:00.000Z");
}

/// Agents that ask for the first tasks of a burst do not stand behind the rest of it. A store that does not answer holds
/// nobody else up for long.
#[tokio::test(start_paused = true)]
async fn a_burst_of_starts_takes_turns_for_a_moment() {
    const BURST: usize = 3 * STARTING_MAX;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let mut ports = Ports::default();
    ports.executions.expect_start().returning(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(pending())
    });
    let app = router(ports.api());
    let start = || {
        let app = app.clone();
        tokio::spawn(async move { ask(&app, post("/v1/executions", START)).await })
    };
    let _starting: Vec<_> = (0..BURST).map(|_| start()).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(asked.load(Ordering::Relaxed), STARTING_MAX);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(asked.load(Ordering::Relaxed), BURST);
}

#[tokio::test]
async fn everything_of_a_start_reaches_the_port() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let ports = starts(move |start| {
        let WorkflowRef::Named {
            namespace,
            name,
            version,
        } = &start.workflow
        else {
            return false;
        };
        (namespace.as_str(), name.as_str(), version.as_deref()) == ("shop", "order", Some("2.0.0"))
            && start.input.as_str() == r#"{"total":12.50}"#
            && start.idempotency_key.as_deref() == Some("cart-1")
            && start.correlation.as_deref() == Some("cart-4711")
            && start.labels["region"] == "eu"
            && start.traceparent.as_deref() == Some(traceparent)
            && start.execution.is_none()
    });
    let body = r#"{"workflow":{"namespace":"shop","name":"order","version":"2.0.0"},
        "input": { "total": 12.50 }, "correlationId": "cart-4711", "labels": {"region": "eu"}}"#;
    let request = with(post("/v1/executions", body), "idempotency-key", "cart-1");
    let answer = ports.ask(with(request, "traceparent", traceparent)).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test]
async fn an_inline_document_and_an_own_id_reach_the_port() {
    let ports = starts(|start| {
        matches!(&start.workflow, WorkflowRef::Inline(document) if document.as_str() == r#"{"do":[]}"#)
            && start.execution == Some(id("mine"))
            && start.input.as_str() == "null"
    });
    let body = r#"{"definition":{"do":[]},"executionId":"mine"}"#;
    assert_eq!(ports.ask(post("/v1/executions", body)).await.status, 202);
}

#[tokio::test]
async fn a_start_that_is_wrong_is_422_at_every_place() {
    for (body, pointer, detail) in [
        ("{}", "", "say what to start"),
        (
            r#"{"workflow":{"name":"o"},"definition":{}}"#,
            "/definition",
            "not both",
        ),
        (
            r#"{"workflow":{"name":"o"},"input":1e999}"#,
            "/input",
            "out of range",
        ),
        (
            r#"{"workflow":{"name":7}}"#,
            "/workflow/name",
            "expected a string",
        ),
        (
            r#"{"workflow":{"name":"o"},"executionID":"x"}"#,
            "/executionID",
            "unknown field",
        ),
        (
            r#"{"workflow":{"name":"o"},"executionId":"a b"}"#,
            "/executionId",
            "is not a name",
        ),
        (
            r#"{"workflow":{"name":"o"},"labels":{"a/b":"\n"}}"#,
            "/labels/a~1b",
            "control",
        ),
        (
            r#"{"workflow":{"name":"o"},"correlationId":""}"#,
            "/correlationId",
            "1 to 256",
        ),
    ] {
        let answer = Ports::default().ask(post("/v1/executions", body)).await;
        let problem = answer.is_problem(422, detail);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let many = r#"{"input":"\ud800","definition":{"a":1e999}}"#;
    let answer = Ports::default().ask(post("/v1/executions", many)).await;
    let problem = answer.is_problem(422, "2 things");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_no_json_is_400_with_its_line() {
    for body in ["", "{", "{\"workflow\":\n ]}", "\u{0}", "{} {}"] {
        let answer = Ports::default().ask(post("/v1/executions", body)).await;
        answer.is_problem(400, "line ");
    }
}

#[tokio::test]
async fn an_id_and_an_idempotency_key_are_400_together() {
    let body = r#"{"workflow":{"name":"order"},"executionId":"mine"}"#;
    let request = with(post("/v1/executions", body), "idempotency-key", "cart-1");
    Ports::default()
        .ask(request)
        .await
        .is_problem(400, "not both");
}

#[tokio::test]
async fn a_body_that_is_not_said_to_be_json_is_415() {
    for media in [
        "text/plain",
        "application/yaml",
        "application/x-www-form-urlencoded",
    ] {
        let answer = Ports::default()
            .ask(post_as(media, "/v1/executions", START))
            .await;
        answer.is_problem(415, "application/json");
    }
    let mut request = post("/v1/executions", START);
    request.headers_mut().remove("content-type");
    Ports::default()
        .ask(request)
        .await
        .is_problem(415, "Content-Type");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let body = format!(r#"{{"input":"{}"}}"#, "x".repeat(1024 * 1024));
    let answer = Ports::default().ask(post("/v1/executions", body)).await;
    answer.is_problem(413, "1048576 bytes");
}

#[tokio::test]
async fn every_refusal_has_its_status() {
    let second_and_a_bit = Duration::from_millis(1_200);
    for (refusal, status, retry_after) in [
        (Refusal::malformed("why"), 400, ""),
        (Refusal::NotFound("why".into()), 404, ""),
        (Refusal::Contradiction("why".into()), 409, ""),
        (
            Refusal::TooLarge {
                what: "why",
                limit: 7,
            },
            413,
            "",
        ),
        (
            Refusal::Invalid {
                detail: "why".into(),
                faults: vec![],
            },
            422,
            "",
        ),
        (
            Refusal::Busy {
                detail: "why".into(),
                retry_after: Duration::ZERO,
            },
            429,
            "1",
        ),
        (
            Refusal::Unavailable {
                detail: "why".into(),
                retry_after: second_and_a_bit,
            },
            503,
            "2",
        ),
    ] {
        let answer = refuses(refusal).ask(post("/v1/executions", START)).await;
        answer.is_problem(status, "why");
        assert_eq!(answer.header("retry-after"), retry_after, "{status}");
    }
}

#[tokio::test]
async fn a_wait_that_sees_the_end_is_200_with_the_full_view() {
    let mut ports = starts(|_| true);
    ports
        .executions
        .expect_wait()
        .withf(|_, execution, within| {
            *execution == id("order-17") && *within == Duration::from_secs(5)
        })
        .returning(|_, _, _| now(Ok(view("order-17", Status::Completed))));
    let answer = ports
        .ask(with(post("/v1/executions", START), "prefer", "wait=5"))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("preference-applied"), "wait=5");
    assert_eq!(answer.json()["output"]["receipt"], "r-1");
    assert_eq!(answer.json()["endedAt"], "2026-03-01T09:30:01.500Z");
}

#[tokio::test]
async fn a_wait_that_does_not_see_the_end_is_202() {
    let mut ports = starts(|_| true);
    ports
        .executions
        .expect_wait()
        .returning(|_, _, _| now(Ok(view("order-17", Status::Running))));
    let answer = ports
        .ask(with(post("/v1/executions", START), "prefer", "wait=1"))
        .await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("location"), "/v1/executions/order-17");
    assert_eq!(answer.header("preference-applied"), "wait=1");
    assert_eq!(answer.json()["status"], "running");
    assert!(answer.json().get("input").is_none());
}

#[tokio::test]
async fn the_full_view_has_every_key_of_the_contract() {
    let mut ports = Ports::default();
    ports.executions.expect_view().returning(|_, _| {
        let mut view = view("order-17", Status::Running);
        view.tasks.push(TaskView {
            reference: TaskReference {
                pointer: "/do/0/charge".into(),
                iteration: vec![2, 0],
            },
            name: "charge".into(),
            status: TaskStatus::Running,
            attempt: Attempt(1),
            agent: None,
            scheduled_at: Some(T0),
            started_at: None,
            ended_at: None,
            output: None,
            error: None,
        });
        now(Ok(view))
    });
    let view = ports.ask(get("/v1/executions/order-17")).await.json();
    for key in [
        "executionId",
        "workflow",
        "tenant",
        "correlationId",
        "labels",
        "status",
        "input",
        "output",
        "error",
        "createdAt",
        "startedAt",
        "endedAt",
        "estimatedCompletion",
        "progress",
        "tasks",
    ] {
        assert!(view.get(key).is_some(), "{key}");
    }
    assert_eq!(view["tasks"][0]["iteration"], serde_json::json!([2, 0]));
    assert_eq!(view["tasks"][0]["reference"], "/do/0/charge");
}

#[tokio::test]
async fn an_unknown_execution_is_404_and_so_is_what_can_be_none() {
    let mut ports = Ports::default();
    ports
        .executions
        .expect_view()
        .returning(|_, _| now(Err(Refusal::NotFound("no execution x".into()))));
    let answer = ports.ask(get("/v1/executions/x")).await;
    assert_eq!(
        answer.is_problem(404, "no execution")["instance"],
        "/v1/executions/x"
    );
    let answer = Ports::default().ask(get("/v1/executions/a%20b")).await;
    answer.is_problem(404, "is not a name");
}

#[tokio::test]
async fn every_filter_reaches_the_port_and_pages_follow_each_other() {
    let place = (Timestamp(T0.0 + 7), id("order-18"));
    let next = place.clone();
    let mut ports = Ports::default();
    ports
        .executions
        .expect_list()
        .withf(|query| {
            query.statuses == [Status::Running, Status::Faulted, Status::Waiting]
                && query.workflow.as_deref() == Some("order")
                && query.labels == [("a".into(), "1:2".into()), ("b".into(), String::new())]
                && query.started_after == Some(T0)
                && query.started_before == Some(Timestamp(T0.0 + 1))
                && query.limit == 7
                && query.before.is_none()
        })
        .returning(move |_| {
            let executions = vec![view("order-18", Status::Running)];
            now(Ok(ListPage {
                executions,
                next: Some(next.clone()),
            }))
        });
    let path = "/v1/executions?status=running,faulted&status=waiting&workflow=order&label=a:1:2&label=b:\
        &startedAfter=2026-03-01T10:30:00%2B01:00&startedBefore=2026-03-01T09:30:00.001Z&limit=7";
    let page = ports.ask(get(path)).await.json();
    assert_eq!(page["executions"][0]["executionId"], "order-18");
    assert!(page["executions"][0].get("tasks").is_none());
    let cursor = page["next"].as_str().unwrap().to_owned();

    let mut ports = Ports::default();
    ports
        .executions
        .expect_list()
        .withf(move |query| query.before.as_ref() == Some(&place) && query.limit == 50)
        .returning(|_| {
            now(Ok(ListPage {
                executions: Vec::new(),
                next: None,
            }))
        });
    let page = ports
        .ask(get(&format!("/v1/executions?cursor={cursor}")))
        .await;
    assert_eq!(page.text, r#"{"executions":[],"next":null}"#);
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_400() {
    for (query, detail) in [
        ("status=done", "pending, running"),
        ("label=a", "key:value"),
        ("startedAfter=yesterday", "RFC 3339"),
        ("limit=0", "from 1 to 500"),
        ("limit=501", "from 1 to 500"),
        ("limit=-1", "from 1 to 500"),
        ("cursor=%00", "unchanged"),
        ("stauts=running", "no parameter `stauts`"),
    ] {
        let answer = Ports::default()
            .ask(get(&format!("/v1/executions?{query}")))
            .await;
        answer.is_problem(400, detail);
    }
}
