//! The agents' protocol over HTTP.

use std::time::Duration;

use crate::support::*;
use eventflow_domain::{AgentName, Attempt, Capability, DurationMs, TaskReference, Timestamp};
use eventflow_ports::inbound::{
    Heartbeat, LeasedTask, Refusal, ResultOutcome, TaskToken, TaskVerdict,
};

fn task(token: &str) -> LeasedTask {
    LeasedTask {
        token: TaskToken(token.into()),
        execution: id("order-17"),
        workflow: workflow(),
        task: TaskReference {
            pointer: "/do/0/charge".into(),
            iteration: vec![3],
        },
        capability: Capability::parse("charge").unwrap(),
        attempt: Attempt(2),
        input: json(r#"{"total":12.5}"#),
        deadline: Timestamp(T0.0 + 60_000),
        traceparent: None,
    }
}

/// Takes every result; each token is its own instruction.
fn answers() -> Ports {
    let mut ports = Ports::default();
    ports.tasks.expect_results().returning(|_, results| {
        let answer = |token: &str| match token {
            "gone" => ResultOutcome::Refused(Refusal::NotFound("no such task".into())),
            "late" => ResultOutcome::Refused(Refusal::Contradiction("attempt 2 is current".into())),
            "alive" => ResultOutcome::Alive(Heartbeat {
                cancelled: true,
                lease_until: T0,
            }),
            _ => ResultOutcome::Accepted,
        };
        now(results
            .iter()
            .map(|result| answer(&result.token.0))
            .collect())
    });
    ports
}

#[tokio::test]
async fn a_lease_reaches_the_port_and_its_tasks_come_back() {
    let mut ports = Ports::default();
    ports
        .tasks
        .expect_lease()
        .withf(|tenant, request| {
            tenant.as_str() == "default"
                && request.agent == AgentName::parse("worker-1").unwrap()
                && request.capabilities == [Capability::parse("charge").unwrap()]
                && request.max == 10
                && request.wait == Duration::from_secs(30)
                && request.lease_for == Some(DurationMs(60_000))
        })
        .returning(|_, _| now(Ok(vec![task("t1")])));
    let body = r#"{"agent":"worker-1","capabilities":["charge"],"max":10,"wait":"30s","leaseFor":"PT60S","later":1}"#;
    let answer = ports.ask(post("/v1/tasks/lease", body)).await;
    let expected = serde_json::json!({"tasks": [{
        "token": "t1", "executionId": "order-17", "tenant": "default",
        "workflow": {"namespace": "default", "name": "order", "version": "1.0.0"},
        "task": "/do/0/charge", "iteration": [3], "capability": "charge", "attempt": 2,
        "input": {"total": 12.5}, "idempotencyKey": "order-17:/do/0/charge[3]:2",
        "deadline": "2026-03-01T09:31:00.000Z",
    }]});
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn a_lease_is_cut_to_what_is_allowed() {
    let mut ports = Ports::default();
    ports
        .tasks
        .expect_lease()
        .withf(|_, request| request.max == 1_024 && request.wait == Duration::from_secs(55))
        .returning(|_, _| now(Ok(Vec::new())));
    let body = r#"{"agent":"a","capabilities":["c"],"max":1000000,"wait":"1d"}"#;
    let answer = ports.ask(post("/v1/tasks/lease", body)).await;
    assert_eq!(answer.text, r#"{"tasks":[]}"#);
}

#[tokio::test]
async fn a_lease_that_is_wrong_is_422_at_every_place() {
    for (body, pointers) in [
        (
            r#"{"agent":"a","capabilities":[],"max":0,"leaseFor":"0s"}"#,
            "/capabilities /max /leaseFor",
        ),
        (r#"{"agent":"a","capabilities":["c d"]}"#, "/capabilities/0"),
        (r#"{"agent":"","capabilities":["c"]}"#, "/agent"),
        (
            r#"{"agent":"a","capabilities":["c"],"wait":"soon"}"#,
            "/wait",
        ),
        (r#"{"agent":"a","capabilities":["c"],"max":-1}"#, "/max"),
        (
            r#"{"agent":"a","capabilities":["c"],"leaseFor":"25h"}"#,
            "/leaseFor",
        ),
    ] {
        let answer = Ports::default().ask(post("/v1/tasks/lease", body)).await;
        let problem = answer.is_problem(422, "");
        let told: Vec<&str> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| fault["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(told.join(" "), pointers, "{body}");
    }
}

#[tokio::test]
async fn a_completion_is_200_with_its_output_as_it_was_sent() {
    let mut ports = Ports::default();
    ports
        .tasks
        .expect_results()
        .withf(|_, results| {
            matches!(&results[0].verdict, TaskVerdict::Complete(output) if output.as_str() == r#"{"a b":[1.50]}"#)
                && *results[0].token.0 == *"a.b=" && results.len() == 1
        })
        .returning(|_, _| now(vec![ResultOutcome::Accepted]));
    let answer = ports
        .ask(post(
            "/v1/tasks/a.b%3D/complete",
            "{\"output\": {\"a b\":\r\n [1.50]}}",
        ))
        .await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "{}"));
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn a_failure_carries_the_agents_own_error() {
    let mut ports = Ports::default();
    ports
        .tasks
        .expect_results()
        .withf(|_, results| {
            let TaskVerdict::Fail(failure) = &results[0].verdict else {
                return false;
            };
            failure.error.title.as_deref() == Some("Declined")
                && failure.error.status == 500
                && failure.error.kind.ends_with("/errors/runtime")
                && failure
                    .error
                    .detail
                    .as_ref()
                    .is_some_and(|detail| detail.len() == 4_095)
                && !failure.retryable
                && failure.retry_after == Some(DurationMs(5_000))
        })
        .returning(|_, _| now(vec![ResultOutcome::Accepted]));
    let detail = "€".repeat(10_000);
    let body = format!(
        r#"{{"error":{{"title":"Declined","detail":"{detail}"}},"retryable":false,"retryAfter":"5s"}}"#
    );
    let answer = ports.ask(post("/v1/tasks/t/fail", body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn a_heartbeat_answers_the_lease_with_and_without_a_body() {
    for body in ["", "{}", r#"{"progress":{"percent":40}}"#] {
        let answer = answers().ask(post("/v1/tasks/alive/heartbeat", body)).await;
        assert_eq!(
            answer.text, r#"{"cancelled":true,"leaseUntil":"2026-03-01T09:30:00.000Z"}"#,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_result_that_is_not_taken_is_a_problem() {
    let answer = answers().ask(post("/v1/tasks/gone/complete", "{}")).await;
    let problem = answer.is_problem(404, "no such task");
    assert_eq!(problem["instance"], "/v1/tasks/gone/complete");
    let answer = answers()
        .ask(post("/v1/tasks/late/fail", r#"{"error":{}}"#))
        .await;
    answer.is_problem(409, "attempt 2");
    let answer = Ports::default()
        .ask(post("/v1/tasks/t/complete", r#"{"output":1e999}"#))
        .await;
    answer.is_problem(422, "out of range");
}

#[tokio::test]
async fn a_batch_is_answered_one_by_one_in_order() {
    let body = r#"{"results":[
        {"token":"one","complete":{"output":1}},
        {"token":"neither"},
        {"token":"late","fail":{"error":{}}},
        {"token":"both","complete":{},"heartbeat":{}},
        {"token":"alive","heartbeat":{}},
        {"token":"gone","complete":{}}]}"#;
    let answer = answers().ask(post("/v1/tasks/results", body)).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    let told: Vec<(&str, u64)> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["token"].as_str().unwrap(),
                one["status"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("one", 200),
            ("neither", 422),
            ("late", 409),
            ("both", 422),
            ("alive", 200),
            ("gone", 404)
        ]
    );
    assert_eq!(
        answer["results"][2]["problem"]["detail"],
        "attempt 2 is current"
    );
    assert_eq!(answer["results"][4]["heartbeat"]["cancelled"], true);
    assert!(answer.get("tasks").is_none());
}

#[tokio::test]
async fn a_batch_brings_the_next_tasks_as_well() {
    let mut ports = answers();
    ports
        .tasks
        .expect_lease()
        .returning(|_, _| now(Ok(vec![task("t2")])));
    let body =
        r#"{"results":[{"token":"one","complete":{}}],"lease":{"agent":"a","capabilities":["c"]}}"#;
    let answer = ports.ask(post("/v1/tasks/results", body)).await.json();
    assert_eq!(answer["results"][0]["status"], 200);
    assert_eq!(answer["tasks"][0]["token"], "t2");
}

#[tokio::test]
async fn results_stand_although_the_lease_is_refused() {
    let mut ports = answers();
    ports
        .tasks
        .expect_lease()
        .returning(|_, _| now(Err(Refusal::unavailable("moving house"))));
    let body =
        r#"{"results":[{"token":"one","complete":{}}],"lease":{"agent":"a","capabilities":["c"]}}"#;
    let answer = ports.ask(post("/v1/tasks/results", body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["results"][0]["status"], 200);
    assert_eq!(answer.json()["leaseProblem"]["status"], 503);
}

#[tokio::test]
async fn a_batch_whose_lease_is_wrong_does_nothing() {
    let body =
        r#"{"results":[{"token":"one","complete":{}}],"lease":{"agent":"a","capabilities":[]}}"#;
    let answer = Ports::default().ask(post("/v1/tasks/results", body)).await;
    let problem = answer.is_problem(422, "capabilities");
    assert_eq!(problem["errors"][0]["pointer"], "/lease/capabilities");
}

#[tokio::test]
async fn a_result_that_the_port_forgets_is_asked_for_again() {
    let mut ports = Ports::default();
    ports
        .tasks
        .expect_results()
        .returning(|_, _| now(Vec::new()));
    let answer = ports.ask(post("/v1/tasks/t/complete", "{}")).await;
    answer.is_problem(503, "send it again");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_batch_has_a_size() {
    let item = r#"{"token":"t","heartbeat":{}}"#;
    let body = format!(r#"{{"results":[{}]}}"#, vec![item; 1_025].join(","));
    let answer = Ports::default().ask(post("/v1/tasks/results", body)).await;
    answer.is_problem(422, "at most 1024");
}
