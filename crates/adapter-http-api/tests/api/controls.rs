//! Steering over HTTP: pause, resume, stop, explain.

use crate::support::*;
use eventflow_domain::{Attempt, TaskReference, execution::Status};
use eventflow_ports::inbound::{Action, Cause, Explanation, Refusal, Wait};
use serde_json::json;

fn orders(action: Action, reason: Option<&'static str>, comes_to: Status) -> Ports {
    let mut ports = Ports::default();
    ports
        .controls
        .expect_control()
        .withf(move |owner, execution, given, why| {
            *owner == tenant()
                && *execution == id("order-17")
                && *given == action
                && why.as_deref() == reason
        })
        .returning(move |_, _, _, _| now(Ok(view("order-17", comes_to))));
    ports
}

#[tokio::test]
async fn each_action_is_202_with_where_it_stands() {
    for (action, word, status) in [
        (Action::Pause, "pause", Status::Suspending),
        (Action::Resume, "resume", Status::Running),
        (Action::Stop, "stop", Status::Cancelled),
    ] {
        let path = format!("/v1/executions/order-17/{word}");
        let ports = orders(action, Some("the shop is closed"), status);
        let answer = ports
            .ask(post(&path, r#"{"reason":"the shop is closed"}"#))
            .await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(answer.json()["status"], status.as_str());
        assert_eq!(answer.json()["executionId"], "order-17");
    }
}

#[tokio::test]
async fn the_body_may_be_left_out() {
    let mut request = post("/v1/executions/order-17/pause", "");
    request.headers_mut().remove("content-type");
    let answer = orders(Action::Pause, None, Status::Suspended)
        .ask(request)
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test]
async fn what_is_wrong_with_an_order_is_said() {
    let path = "/v1/executions/order-17/stop";
    let answer = Ports::default().ask(post(path, r#"{"why":"x"}"#)).await;
    answer.is_problem(422, "why");
    let long = json!({"reason": "x".repeat(1_001)}).to_string();
    let problem = Ports::default()
        .ask(post(path, long))
        .await
        .is_problem(422, "1001 characters");
    assert_eq!(problem["errors"][0]["pointer"], "/reason");
    let answer = Ports::default()
        .ask(post("/v1/executions/no%20good/stop", "{}"))
        .await;
    assert!(answer.status.is_client_error(), "{}", answer.text);
    let mut ports = Ports::default();
    let ended = || Refusal::Contradiction("the execution is completed already".to_owned());
    ports
        .controls
        .expect_control()
        .returning(move |_, _, _, _| now(Err(ended())));
    ports
        .ask(post(path, "{}"))
        .await
        .is_problem(409, "completed already");
}

#[tokio::test]
async fn an_explanation_tells_everything_that_is_waited_for() {
    let mut ports = Ports::default();
    ports.controls.expect_explain().returning(|_, _| {
        now(Ok(Explanation {
            execution: id("order-17"),
            status: Status::Running,
            summary: "`charge` is with worker-1".to_owned(),
            waits: vec![Wait {
                cause: Cause::Result,
                task: Some(TaskReference::at("/do/0/charge")),
                attempt: Some(Attempt(2)),
                since: T0,
                held_by: Some(eventflow_domain::AgentName::parse("worker-1").unwrap()),
                held_until: Some(T0),
                due: None,
                detail: "`charge` is with worker-1".to_owned(),
                next: "if it is silent, attempt 3 of 4 follows".to_owned(),
            }],
            more: 0,
        }))
    });
    let answer = ports.ask(get("/v1/executions/order-17/explain")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "executionId": "order-17", "status": "running", "summary": "`charge` is with worker-1",
            "waitsFor": [{
                "cause": "result", "task": "/do/0/charge", "attempt": 2, "since": "2026-03-01T09:30:00.000Z",
                "heldBy": "worker-1", "heldUntil": "2026-03-01T09:30:00.000Z",
                "detail": "`charge` is with worker-1", "next": "if it is silent, attempt 3 of 4 follows",
            }],
            "more": 0,
        })
    );
}
