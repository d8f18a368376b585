//! HTTP targets that are slow, endless, broken or a way into the inside: the step fails, clearly and cheaply.

use anyhow::ensure;
use eventflow_tests::{Client, Service};
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    control::Control,
    stub::{FORBIDDEN, Stub},
};

const CALL: &str = "
document: {dsl: 1.0.3, namespace: default, name: call, version: 1.0.0}
do:
  - ask:
      call: http
      with: {method: get, endpoint: '${ .url }', redirect: true}
      timeout: {after: PT3S}
";
/// What the service may take of an endless answer: its own limit, and what fills the sockets' buffers.
const TAKEN_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What all of it together may cost in memory.
const RSS_GROWTH_MIB_MAX: u64 = 64;

struct Answered {
    path: &'static str,
    kind: &'static str,
    status: u16,
    words: &'static [&'static str],
}

const fn answered(
    path: &'static str,
    kind: &'static str,
    status: u16,
    words: &'static [&'static str],
) -> Answered {
    Answered {
        path,
        kind,
        status,
        words,
    }
}

const TARGETS: &[Answered] = &[
    answered("silence", "timeout", 408, &[]),
    answered("trickle", "timeout", 408, &[]),
    answered("trickled-head", "timeout", 408, &[]),
    answered("garbage", "communication", 500, &["/garbage", "127.0.0.1"]),
    answered(
        "half",
        "communication",
        500,
        &["/half", "lost the connection"],
    ),
    answered(
        "promised",
        "communication",
        500,
        &["/promised", "65536 bytes"],
    ),
    answered(
        "chunked",
        "communication",
        500,
        &["/chunked", "65536 bytes"],
    ),
    answered(
        "until-closed",
        "communication",
        500,
        &["/until-closed", "65536 bytes"],
    ),
    answered(
        "error-endless",
        "communication",
        500,
        &["/error-endless", "answered 500"],
    ),
    answered("headers", "communication", 500, &["/headers"]),
    answered("header", "communication", 500, &["/header"]),
    answered(
        "loop",
        "configuration",
        400,
        &["/loop", "redirected more than 10 times"],
    ),
    answered(
        "forbidden",
        "configuration",
        400,
        &["169.254.169.254", "--http-allow"],
    ),
    answered(
        "forbidden-v6",
        "configuration",
        400,
        &["::ffff:", "--http-allow"],
    ),
    answered(
        "forbidden-number",
        "configuration",
        400,
        &["169.254.169.254", "--http-allow"],
    ),
    answered(
        "scheme",
        "configuration",
        400,
        &["/scheme", "http or https"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_target_fails_its_step_and_nothing_else() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let workflows = directory.path().join("workflows");
    std::fs::create_dir(&workflows)?;
    std::fs::write(workflows.join("call.yaml"), CALL)?;
    let service = Service::start(directory.path(), &["--workflows", "workflows"]);
    let control = Control::begin(&service).await?;
    let client = Client::new(&service.url, PATIENCE)?;
    let stub = Stub::start().await?;
    let before = service.rss_mib();
    control.beside(all(&client, &stub)).await?;
    let grown = service.rss_mib().saturating_sub(before);
    println!(
        "{} MiB sent, {} requests, {grown} MiB more in use",
        stub.sent() >> 20,
        stub.requests()
    );
    ensure!(grown < RSS_GROWTH_MIB_MAX, "it uses {grown} MiB more");
    let endless = TARGETS
        .iter()
        .filter(|target| target.words.contains(&"65536 bytes"))
        .count() as u64;
    ensure!(
        stub.sent() < TAKEN_BYTES_MAX * (endless + 3),
        "{} bytes were taken",
        stub.sent()
    );
    control.end().await
}

async fn all(client: &Client, stub: &Stub) -> anyhow::Result<()> {
    for target in TARGETS {
        let url = format!("{}/{}", stub.url, target.path);
        client
            .start("call", target.path, &json!({"url": url}))
            .await?;
    }
    for address in [
        "http://10.0.0.1/",
        "http://0xa9fea9fe/",
        FORBIDDEN,
        "http://[fd00::1]/",
    ] {
        let view = client.run("call", &json!({"url": address})).await?;
        fails(
            &view,
            "configuration",
            400,
            &["--http-allow", "not a public address"],
        )?;
    }
    for (path, output) in [("fine", json!(42)), ("no-json", json!("{\"a\":"))] {
        let view = client
            .run("call", &json!({"url": format!("{}/{path}", stub.url)}))
            .await?;
        ensure!(view["output"] == output, "{view}");
    }
    // Nothing is unpacked: what was sent is the output, as it is.
    let view = client
        .run("call", &json!({"url": format!("{}/bomb", stub.url)}))
        .await?;
    ensure!(view["status"] == "completed", "{view}");
    let kept = view["output"].as_str().unwrap_or_default().len();
    ensure!(
        (60_000..4 * 60_000).contains(&kept),
        "{kept} bytes were kept of the bomb"
    );
    for target in TARGETS {
        let view = client.ended(target.path).await?;
        fails(&view, target.kind, target.status, target.words)?;
    }
    Ok(())
}

/// It faulted with this error, which says where and holds these words.
fn fails(view: &Value, kind: &str, status: u16, words: &[&str]) -> anyhow::Result<()> {
    let id = view["executionId"].as_str().unwrap_or_default();
    ensure!(view["status"] == "faulted", "{view:#}");
    let error = &view["error"];
    let wanted = format!("https://serverlessworkflow.io/spec/1.0.0/errors/{kind}");
    ensure!(error["type"] == wanted, "{id}: {error:#}");
    ensure!(error["status"] == status, "{id}: {error:#}");
    ensure!(error["instance"] == "/do/0/ask", "{id}: {error:#}");
    ensure!(
        error["title"].is_string() && error["detail"].is_string(),
        "{id}: {error:#}"
    );
    let detail = error["detail"].as_str().unwrap_or_default();
    for word in words {
        ensure!(detail.contains(word), "{id}: no `{word}` in {error:#}");
    }
    Ok(())
}
