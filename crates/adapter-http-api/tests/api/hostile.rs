//! Input that nobody sends by mistake: every route answers all of it, with a success or a problem of the caller's.

use eventflow_adapter_http_api::router;
use eventflow_domain::execution::Status;
use eventflow_ports::{
    Definition,
    inbound::{Registered, ResultOutcome, Started},
};

use crate::support::*;

const POSTED: &[&str] = &[
    "/v1/workflows",
    "/v1/workflows/validate",
    "/v1/executions",
    "/v1/tasks/lease",
    "/v1/tasks/t/complete",
    "/v1/tasks/t/fail",
    "/v1/tasks/t/heartbeat",
    "/v1/tasks/results",
];

/// Bodies that have broken parsers, with `@` where a value stands in a body of the right shape.
const SHAPES: &[&str] = &[
    "@",
    r#"{"workflow":{"name":"o"},"input":@}"#,
    r#"{"definition":@}"#,
    r#"{"workflow":{"name":"o"},"labels":@}"#,
    r#"{"output":@}"#,
    r#"{"error":@,"retryAfter":@}"#,
    r#"{"agent":"a","capabilities":@,"max":@,"wait":@,"unknown":@}"#,
    r#"{"results":[{"token":"t","complete":{"output":@}},{"token":@}],"lease":@}"#,
    r#"{"progress":@}"#,
];

fn values() -> Vec<Vec<u8>> {
    let deep =
        |open: &str, close: &str| (open.repeat(100_000) + &close.repeat(100_000)).into_bytes();
    let mut values: Vec<Vec<u8>> = [
        "",
        "null",
        "1e999",
        "-0",
        "99999999999999999999999999999999",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"-9223372036854775808s\"",
        "\"P9999999999999999Y\"",
        "\"PT99999999999999999999S\"",
        "{\"\":{\"~/\":[]}}",
        "\u{feff}{}",
        "{}}",
        "[1,]",
        "&a [*a]",
        "!!binary x",
        "? {a: ? b}",
        "%YAML 9.9\n---\n",
        "\u{0}",
        "'",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    values.push(vec![b'"', 0xff, 0xfe, b'"']);
    values.push(vec![0xed, 0xa0, 0x80]);
    values.push(deep("[", "]"));
    values.push(deep("{\"a\":", "}"));
    values.push(deep("[{\"a\":", ""));
    values
}

fn generous() -> Ports {
    let definition = |document| Definition {
        workflow: workflow(),
        digest: eventflow_domain::Digest([7; 32]),
        document,
    };
    let mut ports = Ports::default();
    ports
        .workflows
        .expect_validate()
        .returning(|_, _| Vec::new());
    ports.workflows.expect_register().returning(move |_, _, _| {
        let definition = definition(json("{}"));
        let created = true;
        now(Ok(Registered {
            definition,
            created,
        }))
    });
    ports.executions.expect_start().returning(|start| {
        start.input.to_value();
        now(Ok(Started {
            execution: id("order-17"),
            repeated: false,
            view: view("order-17", Status::Pending),
        }))
    });
    ports
        .tasks
        .expect_lease()
        .returning(|_, _| now(Ok(Vec::new())));
    ports
        .tasks
        .expect_results()
        .returning(|_, results| now(results.iter().map(|_| ResultOutcome::Accepted).collect()));
    ports
}

#[tokio::test]
async fn every_body_is_answered_by_every_route() {
    let app = router(generous().api());
    for value in values() {
        for shape in SHAPES {
            let mut body = Vec::new();
            for (index, part) in shape.split('@').enumerate() {
                if index > 0 {
                    body.extend_from_slice(&value);
                }
                body.extend_from_slice(part.as_bytes());
            }
            for path in POSTED {
                for media in ["application/json", "application/yaml"] {
                    let request = post_as(media, path, body.clone());
                    let answer = ask(&app, request).await;
                    assert!(
                        answer.status.is_success() || answer.status.is_client_error(),
                        "{path} {media} {}: {}",
                        String::from_utf8_lossy(&body[..body.len().min(100)]),
                        answer.text
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn every_path_and_query_is_answered() {
    for path in [
        "/v1/executions/%00",
        "/v1/executions/..%2f..%2fetc",
        "/v1/executions?status=%ff&label=%00:%00",
        "/v1/executions?startedAfter=-999999-01-01T00:00:00Z",
        "/v1/executions?limit=99999999999999999999999",
        "/v1/executions?cursor=LTkyMjMzNzIwMzY4NTQ3NzU4MDkuYQ",
        "/v1/executions/x/history?after=-1",
        "/v1/executions/x/history?after=99999999999999999999",
        "/v1/tasks//complete",
        "/v1/workflows/%2e%2e/%2e%2e/%2e%2e/x",
    ] {
        let answer = Ports::default().ask(get(path)).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
}
