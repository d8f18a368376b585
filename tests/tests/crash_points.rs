//! The table of `docs/crash-points.md`: every test that it names as a proof is there, and one that is nowhere else.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use eventflow_tests::{Client, Service, workspace};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

/// Fewer rows would mean that the table was not understood.
const ROWS_MIN: usize = 35;

/// A row of the table: the gap, and the tests that prove what is said of it.
struct Row {
    gap: String,
    tests: Vec<String>,
}

fn rows(page: &str) -> Vec<Row> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let is_row = |cells: &Vec<String>| {
        cells.len() == 4 && !cells[0].starts_with("died") && !cells[0].starts_with("---")
    };
    let lines = page.lines().filter(|line| line.starts_with('|'));
    lines
        .map(cells)
        .filter(is_row)
        .map(|cells| Row {
            tests: quoted(&cells[3]),
            gap: cells[0].clone(),
        })
        .collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The Rust sources of all crates.
fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *found += &fs::read_to_string(&path).expect("a source can be read");
        }
    }
}

/// Whether there is a function of this name, or a line of the macro that makes the tests of `crash_everywhere.rs`.
fn is_there(test: &str, sources: &str) -> bool {
    let begins = [format!("fn {test}("), format!("    {test}: ")];
    begins.iter().any(|begin| sources.contains(begin))
}

#[test]
fn every_test_that_the_table_names_exists() {
    let page = workspace().join("docs/crash-points.md");
    let page = fs::read_to_string(page).expect("the table can be read");
    let rows = rows(&page);
    assert!(
        rows.len() >= ROWS_MIN,
        "only {} rows were found",
        rows.len()
    );

    let mut all = String::new();
    for folder in ["apps", "crates", "tests"] {
        sources(&workspace().join(folder), &mut all);
    }
    for Row { gap, tests } in rows {
        assert!(!tests.is_empty(), "`{gap}` is proved by nothing");
        for test in tests {
            assert!(
                is_there(&test, &all),
                "`{gap}` is proved by {test}, which is nowhere"
            );
        }
    }
}

/// Reads a request's head: its idempotency key.
fn key_of(request: &TcpStream) -> anyhow::Result<String> {
    let mut key = None;
    for line in BufReader::new(request).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(("idempotency-key", value)) = line.split_once(": ") {
            key = Some(value.to_owned());
        }
    }
    key.ok_or_else(|| anyhow::anyhow!("a request came without an idempotency key"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_attempt_that_a_crash_cut_is_sent_again_with_the_same_key() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let stub = TcpListener::bind("127.0.0.1:0")?;
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "call", "version": "1.0.0"},
        "do": [{"ask": {"call": "http", "with": {
            "method": "post", "endpoint": format!("http://{}/", stub.local_addr()?), "body": {}}}}],
    });
    let mut service = Service::start(directory.path(), &[]);
    let client = Client::new(&service.url, PATIENCE)?;
    let start = json!({"definition": document, "executionId": "e"});
    let (status, answer) = client.post("/v1/executions", &start).await?;
    assert_eq!(status, 202, "{answer}");

    let (unanswered, _) = stub.accept()?;
    let first = key_of(&unanswered)?;
    service.kill();
    service.restart();
    let (mut answered, _) = stub.accept()?;
    assert_eq!(key_of(&answered)?, first);
    answered.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
    )?;
    let view = client.ended("e").await?;
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(view["tasks"][0]["attempt"], 1, "{view}");
    Ok(())
}
