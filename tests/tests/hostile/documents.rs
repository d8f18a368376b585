//! Documents and bodies that are wrong in every way: refused at once, with all that is wrong and where.

use std::fmt::Write as _;

use eventflow_tests::{Client, Service};
use serde_json::{Value, json};

use crate::{PATIENCE, control::Control, problem::Refused, scale};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const WORKFLOWS: &str = "/v1/workflows";
const EXECUTIONS: &str = "/v1/executions";
/// So often all of it is sent.
const ROUNDS: usize = 3;
/// Every route that takes a body.
const POSTED: [&str; 8] = [
    WORKFLOWS,
    "/v1/workflows/validate",
    EXECUTIONS,
    "/v1/tasks/lease",
    "/v1/tasks/x/complete",
    "/v1/tasks/x/fail",
    "/v1/tasks/x/heartbeat",
    "/v1/tasks/results",
];

fn ows(tasks: &str) -> String {
    format!("document: {{dsl: 1.0.3, namespace: default, name: bad, version: 1.0.0}}\ndo:\n{tasks}")
}

fn dag(steps: &Value) -> String {
    json!({"dag": "1.0", "name": "bad", "version": "1.0.0", "steps": steps}).to_string()
}

fn set(id: impl Into<String>, needs: &[&str]) -> Value {
    json!({"id": id.into(), "uses": "set", "with": {"value": 1}, "dependsOn": needs})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_documents_are_refused_with_every_fault_at_its_place() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let service = Service::start(directory.path(), &[]);
    let control = Control::begin(&service).await?;
    let client = Client::new(&service.url, PATIENCE)?;
    let wrong = async {
        for _ in 0..ROUNDS * scale() {
            malformed(&client).await?;
            wrong_types(&client).await?;
            contradictions(&client).await?;
            too_much(&client).await?;
        }
        Ok(())
    };
    control.beside(wrong).await?;
    let registered = client.get(WORKFLOWS).await?;
    let names = registered["workflows"].as_array().map(Vec::len);
    assert_eq!(
        names,
        Some(1),
        "something wrong was registered: {registered}"
    );
    control.end().await
}

/// What cannot be read at all says the line and the column.
async fn malformed(client: &Client) -> anyhow::Result<()> {
    for (path, media, body, words) in [
        (
            WORKFLOWS,
            JSON,
            "{\"dag\": \"1.0\",\n \"steps\": [}",
            "line 2 column 12",
        ),
        (WORKFLOWS, JSON, "{\"dag\": \"1.0\"", "line 1 column 13"),
        (
            WORKFLOWS,
            YAML,
            "document:\n  dsl: 1.0.3\n  name: [a, b\n  x: }\n",
            "line 4 column 4",
        ),
        (WORKFLOWS, YAML, "a: 1\n b: 2\n", "line 2 column 3"),
        (WORKFLOWS, YAML, "a: 1\na: 2\n", "line 2 column 1"),
        (WORKFLOWS, YAML, "a: *nowhere\n", "line 1 column 4"),
        (
            EXECUTIONS,
            JSON,
            "{\"workflow\":\n  {\"name\": order}}",
            "line 2 column 12",
        ),
        (
            "/v1/tasks/lease",
            JSON,
            "{\"agent\": \"a\",}",
            "line 1 column 15",
        ),
        (
            "/v1/tasks/results",
            JSON,
            "{\"results\": [",
            "line 1 column 13",
        ),
    ] {
        let refused = Refused::posting(client, path, media, body, 400).await;
        refused
            .and_then(|refused| refused.says(&[words]))
            .map_err(|error| error.context(body))?;
    }
    let latin = b"{\"name\": \"\xe9\"}".as_slice();
    Refused::posting(client, WORKFLOWS, JSON, latin, 400)
        .await?
        .says(&["UTF-8"])?;
    for path in POSTED {
        let refused = Refused::posting(client, path, "text/plain", "{}", 415).await?;
        refused.says(&["Content-Type"])?;
    }
    Ok(())
}

/// What has the wrong shape says where, by JSON Pointer.
async fn wrong_types(client: &Client) -> anyhow::Result<()> {
    for (path, body, pointer, words) in [
        (
            EXECUTIONS,
            json!({"workflow": {"name": 7}}),
            "/workflow/name",
            "string",
        ),
        (
            EXECUTIONS,
            json!({"workflow": []}),
            "/workflow",
            "WorkflowChoice",
        ),
        (
            EXECUTIONS,
            json!({"workflow": {"name": "x"}, "labels": {"k": 1}}),
            "/labels/k",
            "string",
        ),
        (
            EXECUTIONS,
            json!({"workflow": {"name": "x"}, "executionId": "a/b"}),
            "/executionId",
            "a/b",
        ),
        (EXECUTIONS, json!({}), "", "workflow"),
        (
            "/v1/tasks/lease",
            json!({"agent": 1, "capabilities": []}),
            "/agent",
            "string",
        ),
        (
            "/v1/tasks/lease",
            json!({"agent": "a", "capabilities": ["c"], "wait": "soon"}),
            "/wait",
            "soon",
        ),
        (
            "/v1/tasks/results",
            json!({"results": {"a": 1}}),
            "/results",
            "sequence",
        ),
    ] {
        let refused = Refused::posting(client, path, JSON, body.to_string(), 422).await;
        let named = refused.and_then(|refused| refused.names(&[(pointer, words)]));
        named.map_err(|error| error.context(body.to_string()))?;
    }
    for (media, body, pointer) in [
        (YAML, ows("  5"), "/do"),
        (YAML, ows("  - a: [set]"), "/do/0/a"),
        (
            YAML,
            ows("  - a: {set: {x: 1}, timeout: soon}"),
            "/do/0/a/timeout",
        ),
        (JSON, dag(&json!({})), "/steps"),
        (JSON, dag(&json!([7])), "/steps/0"),
        (JSON, "[]".to_owned(), ""),
        (JSON, "null".to_owned(), ""),
    ] {
        let refused = Refused::posting(client, WORKFLOWS, media, body.clone(), 422).await;
        let named = refused.and_then(|refused| refused.names(&[(pointer, "")]));
        named.map_err(|error| error.context(body))?;
    }
    Ok(())
}

/// Whatever contradicts itself or names what is not there, all of it at once.
async fn contradictions(client: &Client) -> anyhow::Result<()> {
    let unknown = json!({"workflow": {"name": "never-registered"}}).to_string();
    let refused = Refused::posting(client, EXECUTIONS, JSON, unknown, 404).await?;
    refused.says(&["default/never-registered", "register"])?;

    let twice = ows(
        "  - a: {set: {x: 1}}\n  - b: {set: {x: 2}}\n  - a: {set: {x: 3}}\n  - b: {set: {x: 4}}\n",
    );
    let refused = Refused::posting(client, WORKFLOWS, YAML, twice, 422).await?;
    refused.names(&[("/do/2/a", "`a`"), ("/do/3/b", "`b`")])?;
    let twice = dag(&json!([set("a", &[]), set("a", &[]), set("a", &[])]));
    let refused = Refused::posting(client, WORKFLOWS, JSON, twice, 422).await?;
    refused.names(&[("/steps/1/id", "`a`"), ("/steps/2/id", "`a`")])?;

    let cycles = dag(&json!([
        set("a", &["b"]),
        set("b", &["a"]),
        set("c", &["e"]),
        set("d", &["c"]),
        set("e", &["d"]),
        set("f", &["f"]),
        set("free", &[]),
    ]));
    let refused = Refused::posting(client, WORKFLOWS, JSON, cycles, 422).await?;
    refused.names(&[
        ("/steps/0", "a needs b needs a"),
        ("/steps/2", "c needs e needs d needs c"),
        ("/steps/5", "f needs f"),
    ])?;

    let nowhere = dag(&json!([
        set("a", &["x", "y"]),
        {"id": "b", "uses": "set", "with": {"value": "${z.out}"}},
    ]));
    let refused = Refused::posting(client, WORKFLOWS, JSON, nowhere, 422).await?;
    refused.names(&[
        ("/steps/0/dependsOn/0", "`x`"),
        ("/steps/0/dependsOn/1", "`y`"),
        ("/steps/1/with/value", "`z`"),
    ])?;
    let nowhere = ows("  - a: {set: {x: 1}, then: c}\n  - b: {set: {x: 1}, then: d}\n");
    let refused = Refused::posting(client, WORKFLOWS, YAML, nowhere, 422).await?;
    refused.names(&[("/do/0/a/then", "`c`"), ("/do/1/b/then", "`d`")])?;
    Ok(())
}

/// What is too large, too deep or too many.
async fn too_much(client: &Client) -> anyhow::Result<()> {
    let steps: Vec<Value> = (0..1_001)
        .map(|step| set(format!("s{step}"), &[]))
        .collect();
    let refused = Refused::posting(client, WORKFLOWS, JSON, dag(&json!(steps)), 422).await?;
    refused.mentions(&["1001", "1000"])?;
    let tasks = (0..1_001).fold(String::new(), |mut tasks, task| {
        let _ = writeln!(tasks, "  - t{task}: {{set: {{x: 1}}}}");
        tasks
    });
    let refused = Refused::posting(client, WORKFLOWS, YAML, ows(&tasks), 422).await?;
    refused.names(&[("/do", "at most 1000 tasks, /do/1000/t1000 is one more")])?;

    let large = format!("{{\"x\": \"{}\"}}", "y".repeat(2 * 1024 * 1024));
    for path in POSTED {
        let refused = Refused::posting(client, path, JSON, large.clone(), 413).await?;
        refused.says(&["1048576"])?;
    }

    let brackets = "[".repeat(10_000) + &"]".repeat(10_000);
    let braces = "{\"a\":".repeat(10_000) + "1" + &"}".repeat(10_000);
    for body in [&brackets, &braces] {
        for media in [JSON, YAML] {
            let posting = Refused::posting(client, WORKFLOWS, media, body.clone(), 422).await?;
            posting.mentions(&["64"])?;
        }
        let input = format!("{{\"workflow\": {{\"name\": \"control\"}}, \"input\": {body}}}");
        let posting = Refused::posting(client, EXECUTIONS, JSON, input, 422).await?;
        posting.names(&[("/input", "64")])?;
    }
    for block in ["- ".repeat(10_000) + "x", "? ".repeat(10_000) + "x"] {
        Refused::posting(client, WORKFLOWS, YAML, block, 422)
            .await?
            .mentions(&["64"])?;
    }

    let bomb = (1..10).fold(
        String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n"),
        |mut text, level| {
            let uses = vec![format!("*a{}", level - 1); 9].join(",");
            let _ = writeln!(text, "a{level}: &a{level} [{uses}]");
            text
        },
    );
    Refused::posting(client, WORKFLOWS, YAML, bomb, 422)
        .await?
        .mentions(&["alias"])?;
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(20));
    Refused::posting(client, WORKFLOWS, YAML, long, 422)
        .await?
        .mentions(&["alias"])?;
    Ok(())
}
