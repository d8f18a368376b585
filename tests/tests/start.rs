//! How the service starts, ends, starts again, and refuses to.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use eventflow_tests::{
    Client, Said, Service,
    directory::contents,
    process,
    service::{STOP_MAX, free_port, program},
};
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_mins(1);

/// A service that is to refuse its start, on a store and a port of its own unless `arguments` say otherwise.
fn start(directory: &Path, arguments: &[&str]) -> Said {
    let mut command = program(directory);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let has = |flag: &str| arguments.contains(&flag);
    if !has("--listen") && !has("--config") {
        command.args(["--listen", &listen]);
    }
    if !has("--store") {
        command.args(["--store", "sqlite:./store"]);
    }
    process::run(command.args(arguments))
}

/// One line, and every word of it.
#[track_caller]
fn refused(said: Said, words: &[&str]) {
    let said = said.exits(2);
    assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
    assert_eq!(said.out, "", "it said that it is ready");
    for word in words {
        assert!(said.err.contains(word), "no {word} in: {}", said.err);
    }
}

#[tokio::test]
async fn when_it_says_that_it_is_ready_it_is() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let service = Service::with_fixtures(directory.path());
    assert!(
        service.ready_line.contains(&service.url),
        "{}",
        service.ready_line
    );
    assert!(
        service.ready_line.contains("10 workflows"),
        "{}",
        service.ready_line
    );
    let client = Client::new(&service.url, PATIENCE)?;
    assert_eq!(
        client.get_once("/readyz").await?,
        (200, json!({"status": "ready"}))
    );
    assert_eq!(
        client.get_once("/healthz").await?,
        (200, json!({"status": "ok"}))
    );
    let openapi = client.get("/openapi.json").await?;
    assert!(
        openapi["paths"]["/v1/executions"]["post"].is_object(),
        "{openapi}"
    );
    let docs = client.request(Method::GET, "/docs").send().await?;
    assert_eq!(docs.status(), 200);
    let metrics = client.request(Method::GET, "/metrics").send().await?;
    assert!(metrics.text().await?.contains("eventflow_"));
    let system = client.get("/v1/system").await?;
    assert!(system["limits"].is_object(), "{system}");
    Ok(())
}

#[tokio::test]
async fn told_to_stop_it_ends_whoever_is_waiting() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut service = Service::with_fixtures(directory.path());
    let client = Client::new(&service.url, PATIENCE)?;
    client.start("retrying", "r-1", &Value::Null).await?;
    // A stream, a lease and a start that all have long to wait.
    let mut events = client.events("r-1", None).await?;
    events.next().await?.context("it is read")?;
    let waiting = |path: &str, body: Value| {
        let request = client
            .request(Method::POST, path)
            .header("prefer", "wait=50");
        tokio::spawn(request.json(&body).send())
    };
    let lease = waiting(
        "/v1/tasks/lease",
        json!({"agent": "a", "capabilities": ["nothing"], "wait": "50s"}),
    );
    let start = waiting("/v1/executions", json!({"workflow": {"name": "retrying"}}));
    // The start is under way when what it started is there.
    let two = |list: &Value| list["executions"].as_array().map(Vec::len) == Some(2);
    client.until("/v1/executions", two).await?;

    let told = Instant::now();
    let (code, service) =
        tokio::task::spawn_blocking(move || (service.terminate(), service)).await?;
    assert_eq!(code, Some(0), "it did not end well within {STOP_MAX:?}");
    println!("it ended after {:?}", told.elapsed());
    // Nobody was cut off: the stream has ended, the lease is empty, the start is accepted.
    events.rest().await?;
    let leased: Value = lease.await??.json().await?;
    assert_eq!(leased["tasks"], json!([]));
    assert_eq!(start.await??.status(), 202);
    drop(service);
    Ok(())
}

#[test]
fn told_to_stop_as_soon_as_it_is_ready_it_ends_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start(directory.path(), &[]);
    for _ in 0..5 {
        assert_eq!(service.terminate(), Some(0));
        service.restart();
    }
}

#[tokio::test]
async fn a_restart_on_the_same_store_keeps_everything() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut service = Service::with_fixtures(directory.path());
    let client = Client::new(&service.url, PATIENCE)?;
    let ended = client.run("greeting", &json!({"name": "Ada"})).await?;
    let ended_id = ended["executionId"]
        .as_str()
        .context("it has an id")?
        .to_owned();
    let ended_history = client.history(&ended_id).await?;
    client.start("retrying", "open", &json!({"job": 7})).await?;
    let leased = client.lease("flaky").await?;
    let document = json!({"dag": "1.0", "namespace": "mine", "name": "late", "version": "1.0.0",
                          "steps": [{"id": "a", "uses": "set", "with": {"value": 1}}]});
    let (status, registered) = client.post("/v1/workflows", &document).await?;
    assert_eq!(status, 201, "{registered}");
    let workflows = client.get("/v1/workflows").await?;

    let mut service = tokio::task::spawn_blocking(move || {
        assert_eq!(service.terminate(), Some(0));
        service.restart();
        service
    })
    .await?;
    let path = format!("/v1/executions/{ended_id}");
    assert_eq!(client.get(&path).await?, ended);
    assert_eq!(client.history(&ended_id).await?, ended_history);
    assert_eq!(client.get("/v1/workflows").await?, workflows);
    // The agent's lease and token outlive the service.
    client.complete(&leased, &json!("done")).await?;
    let view = client.ended("open").await?;
    assert_eq!(view["output"], json!({"result": "done"}));
    assert_eq!(view["tasks"][0]["attempt"], 1);
    // The same start is the same execution, which has ended meanwhile.
    let again =
        json!({"workflow": {"name": "retrying"}, "executionId": "open", "input": {"job": 7}});
    let (status, answer) = client.post("/v1/executions", &again).await?;
    assert_eq!((status, &answer["status"]), (202, &json!("completed")));
    assert_eq!(
        tokio::task::spawn_blocking(move || service.terminate()).await?,
        Some(0)
    );

    refused(
        start(directory.path(), &["--partitions", "2"]),
        &["1 partition", "not 2"],
    );
    Ok(())
}

#[test]
fn a_port_in_use_is_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = start(directory.path(), &["--listen", &address]);
    refused(said, &[&address, "--listen"]);
    assert!(!directory.path().join("store").exists());
}

/// Refuses the store with these words, and leaves every file of it as it was.
#[track_caller]
fn refused_and_left_as_it_is(directory: &Path, arguments: &[&str], words: &[&str]) {
    let before = contents(&directory.join("store"));
    assert!(!before.is_empty());
    refused(start(directory, arguments), words);
    assert!(before == contents(&directory.join("store")), "changed");
}

#[test]
fn a_store_in_use_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let _service = Service::start(directory.path(), &[]);
    // Until the service that runs has nothing left to write.
    let heads = directory.path().join("store/journal.heads");
    let began = Instant::now();
    while !heads.exists() {
        assert!(began.elapsed() < PATIENCE, "no heads are written");
        std::thread::sleep(Duration::from_millis(20));
    }
    refused_and_left_as_it_is(directory.path(), &[], &["./store", "in use"]);
}

/// The directory of a store whose service has ended.
fn closed_store() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start(directory.path(), &[]);
    assert_eq!(service.terminate(), Some(0));
    directory
}

#[test]
fn another_number_of_partitions_is_refused_and_left_as_it_is() {
    let directory = closed_store();
    let arguments = ["--partitions", "2"];
    refused_and_left_as_it_is(directory.path(), &arguments, &["1 partition", "not 2"]);
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let directory = closed_store();
    let journal = Connection::open(directory.path().join("store/journal.db")).unwrap();
    journal.pragma_update(None, "user_version", 99).unwrap();
    drop(journal);
    let words = ["journal.db", "format 99", "newer"];
    refused_and_left_as_it_is(directory.path(), &[], &words);
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    let noise = vec![0x5a; 8192];
    for damage in [&noise[..], b"", b"SQLite format 3\0"] {
        let directory = closed_store();
        std::fs::write(directory.path().join("store/journal.db"), damage).unwrap();
        let words = ["journal.db", "damaged or not an EventFlow store", "restore"];
        refused_and_left_as_it_is(directory.path(), &[], &words);
    }
    let directory = closed_store();
    std::fs::remove_file(directory.path().join("store/journal.db")).unwrap();
    refused_and_left_as_it_is(directory.path(), &[], &["journal.db", "missing"]);
}

#[test]
fn a_store_that_is_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let of = |store: &str| start(directory.path(), &["--store", store]);
    refused(
        of("nats://127.0.0.1:9"),
        &["no NATS server answers at 127.0.0.1:9", "start one"],
    );
    refused(
        of("postgres://localhost"),
        &["postgres://localhost", "sqlite:<directory>"],
    );
}

#[test]
fn the_environment_says_which_servers_of_nats_are_meant() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(directory.path());
    command.args(["--listen", "127.0.0.1:0", "--store", "nats:"]);
    let said = process::run(command.env("NATS_URL", "nats://127.0.0.1:9"));
    refused(said, &["no NATS server answers at 127.0.0.1:9"]);
}

#[test]
fn a_wrong_flag_is_refused_with_the_right_one() {
    let directory = tempfile::tempdir().unwrap();
    let said = start(directory.path(), &["--partition", "2"]).exits(2);
    assert!(said.err.contains("'--partitions'"), "{}", said.err);
    refused(
        start(directory.path(), &["--partitions", "0"]),
        &["--partitions", "at least 1"],
    );
}

#[test]
fn a_wrong_configuration_file_is_refused_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("eventflow.toml");
    let of = |text: &str| {
        std::fs::write(&file, text).unwrap();
        start(directory.path(), &["--config", "eventflow.toml"])
    };
    refused(
        of("lisen = \"127.0.0.1:0\"\n"),
        &["eventflow.toml", "`lisen`", "`listen`"],
    );
    refused(
        of("listen = \"here\"\n"),
        &["eventflow.toml", "`listen`", "socket address"],
    );
    let none = start(directory.path(), &["--config", "none.toml"]);
    refused(none, &["none.toml"]);
}

#[test]
fn a_flag_is_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("eventflow.toml");
    std::fs::write(&file, "store = \"from-file:\"\n").unwrap();
    let complaint = |change: fn(&mut Command)| {
        let mut command = program(directory.path());
        change(command.args(["--listen", "127.0.0.1:0"]));
        process::run(&mut command)
    };
    refused(
        complaint(|_| ()),
        &["`from-file:` is no store", "eventflow.toml"],
    );
    let environment = complaint(|command| {
        command.env("EVENTFLOW_STORE", "from-environment:");
    });
    refused(environment, &["`from-environment:` is no store"]);
    let flag = complaint(|command| {
        command
            .env("EVENTFLOW_STORE", "from-environment:")
            .args(["--store", "from-flag:"]);
    });
    refused(flag, &["`from-flag:` is no store"]);
}

#[test]
fn a_broken_workflow_is_refused_with_its_file_and_every_fault() {
    let directory = tempfile::tempdir().unwrap();
    let workflows = directory.path().join("workflows");
    std::fs::create_dir(&workflows).unwrap();
    let broken = "document: {dsl: 1.0.3, namespace: default, name: wrong, version: 1.0.0}\n\
                  do:\n  - a:\n      frobnicate: 1\n  - b:\n      set: {x: '${ .a | nonsense }'}\n";
    std::fs::write(workflows.join("broken.yaml"), broken).unwrap();
    let said = start(directory.path(), &["--workflows", "workflows"]).exits(2);
    assert_eq!(said.out, "");
    for words in [
        "workflows/broken.yaml",
        "/do/0/a/frobnicate",
        "/do/1/b/set/x",
        "`nonsense`",
    ] {
        assert!(said.err.contains(words), "no {words} in: {}", said.err);
    }
    std::fs::write(workflows.join("broken.yaml"), "document: {dsl: 1.0.3\n").unwrap();
    let said = start(directory.path(), &["--workflows", "workflows"]);
    refused(said, &["workflows/broken.yaml", "not YAML", "line 1"]);
    refused(
        start(directory.path(), &["--workflows", "nowhere"]),
        &["nowhere"],
    );
}
