//! A store with a long past starts as fast as a young one: what has ended is not read, what is open comes from snapshots.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service};
use serde_json::json;
use tokio::sync::Semaphore;

/// Finished executions where `EVENTFLOW_FINISHED` says nothing.
const FINISHED: usize = 1_000;
/// Open ones for a hundred finished.
const OPEN_PER_HUNDRED: usize = 1;
/// Requests at a time.
const AT_A_TIME: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);
/// An open execution that changed is in the view by then: snapshots are taken five seconds after a change.
const SNAPSHOTS_AFTER: Duration = Duration::from_secs(8);

const DONE: &str = "
document: {dsl: 1.0.3, namespace: default, name: done, version: 1.0.0}
do:
  - greet: {set: {greeting: '${ \"Hello, \" + .name }'}}
";
const OPEN: &str = "
document: {dsl: 1.0.3, namespace: default, name: open, version: 1.0.0}
do:
  - first: {call: agent:1.0.0@default, with: {capability: nobody, startWithin: P1D}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_past_does_not_hold_a_start_up() -> anyhow::Result<()> {
    let finished = std::env::var("EVENTFLOW_FINISHED")
        .ok()
        .map_or(Ok(FINISHED), |finished| finished.parse())?;
    let open = (finished * OPEN_PER_HUNDRED / 100).max(1);
    let directory = tempfile::tempdir()?;
    let workflows = directory.path().join("workflows");
    std::fs::create_dir(&workflows)?;
    std::fs::write(workflows.join("done.yaml"), DONE)?;
    std::fs::write(workflows.join("open.yaml"), OPEN)?;
    let folder = workflows.to_str().context("a temporary path is text")?;
    let mut service = Service::start(directory.path(), &["--workflows", folder]);
    let client = Client::new(&service.url, PATIENCE)?;
    let young = ready_ms(&service.ready_line)?;

    start_all(&client, "done", finished).await?;
    start_all(&client, "open", open).await?;
    tokio::time::sleep(SNAPSHOTS_AFTER).await;
    service.kill();
    service.restart();
    let (killed, after_kill_mib) = (ready_ms(&service.ready_line)?, service.rss_mib());
    all_are_there(&client, finished, open).await?;
    ensure!(service.terminate() == Some(0), "it ends well");
    service.restart();
    let (ended, after_end_mib) = (ready_ms(&service.ready_line)?, service.rss_mib());
    all_are_there(&client, finished, open).await?;

    println!(
        "{finished} finished and {open} open: ready {killed} ms after a kill with {after_kill_mib} MiB, {ended} ms after \
         a shutdown with {after_end_mib} MiB; {young} ms when it was empty"
    );
    // A bound that only a start that reads the past would miss; the aim is measured in release (`just large-store`).
    if let Ok(bound) = std::env::var("EVENTFLOW_READY_MS") {
        let bound: u64 = bound.parse()?;
        ensure!(
            killed <= bound && ended <= bound,
            "ready after more than {bound} ms"
        );
        ensure!(
            after_kill_mib < 200 && after_end_mib < 200,
            "more than 200 MiB"
        );
    }
    Ok(())
}

/// How long the service says that it took.
fn ready_ms(line: &str) -> anyhow::Result<u64> {
    let rest = line
        .split(" after ")
        .nth(1)
        .context("the ready line says after how long")?;
    let number = rest.split(' ').next().context("a number")?;
    Ok(number.parse()?)
}

async fn start_all(client: &Client, workflow: &'static str, count: usize) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut starting = tokio::task::JoinSet::new();
    for number in 0..count {
        let place = places.clone().acquire_owned().await?;
        let client = client.clone();
        starting.spawn(async move {
            let id = format!("{workflow}-{number}");
            let started = client.start(workflow, &id, &json!({"name": id})).await;
            drop(place);
            started
        });
    }
    while let Some(started) = starting.join_next().await {
        started??;
    }
    Ok(())
}

async fn all_are_there(client: &Client, finished: usize, open: usize) -> anyhow::Result<()> {
    for number in [0, finished / 2, finished - 1] {
        let view = client.get(&format!("/v1/executions/done-{number}")).await?;
        ensure!(view["status"] == "completed", "{view}");
        let greeting = format!("Hello, done-{number}");
        ensure!(view["output"]["greeting"] == greeting.as_str(), "{view}");
    }
    for number in [0, open - 1] {
        let view = client.get(&format!("/v1/executions/open-{number}")).await?;
        ensure!(view["status"] == "running", "{view}");
    }
    Ok(())
}
