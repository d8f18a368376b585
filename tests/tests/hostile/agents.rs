//! Agents that lie: tokens that are not theirs, results that contradict each other, outputs beyond all bounds.

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service};
use serde_json::{Value, json};

use crate::{PATIENCE, control::Control, problem::Refused, scale};

const WORK: &str = r#"{
  "dag": "1.0", "name": "work", "version": "1.0.0",
  "steps": [
    {"id": "a", "uses": "agent", "with": {"capability": "lies"}, "inputs": {"n": "${input.n}"},
     "retry": {"limit": 3, "delay": "10ms", "backoff": "constant"}},
    {"id": "b", "uses": "agent", "with": {"capability": "waits"}, "inputs": {"n": "${a.n}"}}
  ]
}"#;

async fn with_work(directory: &std::path::Path) -> anyhow::Result<(Service, Client)> {
    let service = Service::start(directory, &[]);
    let client = Client::new(&service.url, PATIENCE)?;
    let (status, answer) = client
        .post("/v1/workflows", &serde_json::from_str(WORK)?)
        .await?;
    ensure!(status == 201, "{answer}");
    Ok((service, client))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_are_refused_and_change_nothing() -> anyhow::Result<()> {
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (service, client) = with_work(one.path()).await?;
    let (_elsewhere, foreign) = with_work(other.path()).await?;
    let control = Control::begin(&service).await?;
    foreign.start("work", "e", &json!({"n": 1})).await?;
    let foreign = token(&foreign.lease("lies").await?)?;
    let lies = async {
        for round in 0..scale() {
            tokens(&client, &foreign, &format!("tokens-{round}")).await?;
            contradictions(&client, &format!("contradictions-{round}")).await?;
            superseded(&client, &format!("superseded-{round}")).await?;
            oversize(&client, &format!("oversize-{round}")).await?;
        }
        Ok(())
    };
    control.beside(lies).await?;
    control.end().await
}

fn token(task: &Value) -> anyhow::Result<String> {
    let token = task["token"].as_str().context("a task has a token")?;
    Ok(token.to_owned())
}

/// Brings a result that is to be refused, alone and among others, and says why.
async fn refused(
    client: &Client,
    token: &str,
    how: &str,
    body: &Value,
    status: u16,
) -> anyhow::Result<Refused> {
    let (code, batch) = client
        .post(
            "/v1/tasks/results",
            &json!({"results": [{"token": token, how: body}]}),
        )
        .await?;
    ensure!(
        code == 200 && batch["results"][0]["status"] == status,
        "{batch}"
    );
    ensure!(
        batch["results"][0]["problem"]["detail"].is_string(),
        "{batch}"
    );
    let path = format!("/v1/tasks/{token}/{how}");
    Refused::posting(client, &path, "application/json", body.to_string(), status).await
}

/// Nobody gets in with a token of another store, a forged or an invented one.
async fn tokens(client: &Client, foreign: &str, id: &str) -> anyhow::Result<()> {
    client.start("work", id, &json!({"n": 1})).await?;
    let own = client.lease("lies").await?;
    let own_token = token(&own)?;
    let mut forged = Vec::new();
    for at in [0, own_token.len() / 2, own_token.len() - 2] {
        let mut bytes = own_token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        forged.push(String::from_utf8(bytes)?);
    }
    // Cut, doubled, invented.
    forged.push(own_token[..own_token.len() / 2].to_owned());
    forged.push(own_token.repeat(2));
    forged.extend([foreign.to_owned(), "x".to_owned(), "%00".to_owned()]);
    forged.extend([200, 60_000].map(|size| "A".repeat(size)));
    for token in forged {
        for (how, body) in [
            ("complete", json!({"output": {"n": 666}})),
            (
                "fail",
                json!({"error": {"title": "no"}, "retryable": false}),
            ),
            ("heartbeat", json!({})),
        ] {
            refused(client, &token, how, &body, 404)
                .await?
                .says(&["token"])?;
        }
    }
    // None of it counted.
    client.complete(&own, &json!({"n": 1})).await?;
    let next = client.lease("waits").await?;
    ensure!(next["input"] == json!({"n": 1}), "{next}");
    client.complete(&next, &Value::Null).await
}

/// The first result wins; the same again is fine, another one is refused, also after the end.
async fn contradictions(client: &Client, id: &str) -> anyhow::Result<()> {
    client.start("work", id, &json!({"n": 2})).await?;
    let task = client.lease("lies").await?;
    let (own, right) = (token(&task)?, json!({"output": {"n": 2}}));
    client.complete(&task, &right["output"]).await?;
    for ended in [false, true] {
        if ended {
            let next = client.lease("waits").await?;
            client.complete(&next, &Value::Null).await?;
            client.ended(id).await?;
        }
        client.complete(&task, &right["output"]).await?;
        for (how, body) in [
            ("complete", json!({"output": {"n": 3}})),
            (
                "fail",
                json!({"error": {"title": "changed my mind"}, "retryable": true}),
            ),
        ] {
            refused(client, &own, how, &body, 409)
                .await?
                .says(&["result"])?;
        }
    }
    let view = client.ended(id).await?;
    ensure!(view["status"] == "completed", "{view}");
    ensure!(view["tasks"][0]["output"] == json!({"n": 2}), "{view}");
    Ok(())
}

/// Of an attempt that has failed, been retried or run out, no result counts.
async fn superseded(client: &Client, id: &str) -> anyhow::Result<()> {
    client.start("work", id, &json!({"n": 3})).await?;
    let first = client.lease("lies").await?;
    client
        .fail(&first, &json!({"title": "the first try"}))
        .await?;
    let second = client.lease("lies").await?;
    ensure!(second["attempt"] == 2, "{second}");
    for (how, body) in [
        ("complete", json!({"output": {"n": 666}})),
        (
            "fail",
            json!({"error": {"title": "another"}, "retryable": false}),
        ),
    ] {
        refused(client, &token(&first)?, how, &body, 409)
            .await?
            .says(&["attempt"])?;
    }
    client.complete(&second, &json!({"n": 3})).await?;
    let next = client.lease("waits").await?;
    ensure!(next["input"] == json!({"n": 3}), "{next}");
    client.complete(&next, &Value::Null).await
}

/// What is beyond a request is refused and can be brought again; what is large and allowed arrives.
async fn oversize(client: &Client, id: &str) -> anyhow::Result<()> {
    client.start("work", id, &json!({"n": 4})).await?;
    let task = client.lease("lies").await?;
    let path = format!("/v1/tasks/{}/complete", token(&task)?);
    let whole = json!({"output": "x".repeat(2 * 1024 * 1024)}).to_string();
    let posting = Refused::posting(client, &path, "application/json", whole, 413).await?;
    posting.says(&["1048576"])?;
    let deep = format!("{{\"output\": {}{}}}", "[".repeat(1_000), "]".repeat(1_000));
    let posting = Refused::posting(client, &path, "application/json", deep, 422).await?;
    posting.names(&[("/output", "64")])?;
    let large = json!({"n": "y".repeat(900_000)});
    client.complete(&task, &large).await?;
    let next = client.lease("waits").await?;
    ensure!(next["input"] == large, "a large output did not arrive");
    client.complete(&next, &Value::Null).await
}
