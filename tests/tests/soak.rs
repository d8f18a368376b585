//! The real service for a long time at part of what it can do, killed again and again: what it uses does not grow.
//!
//! `just soak MINUTES` runs it long; on every change it runs for a moment.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use eventflow_agent::{Agent, Task};
use eventflow_tests::{Client, Service, process, verified::verified_within};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// Minutes where `EVENTFLOW_SOAK_MINUTES` says nothing.
const MINUTES: f64 = 0.2;
/// Starts a second where `EVENTFLOW_SOAK_RATE` says nothing.
const RATE: f64 = 50.0;
/// The service lives so long at most before it is killed again.
const LIFE_MAX: Duration = Duration::from_mins(1);
/// Kills, at least.
const KILLS_MIN: u32 = 4;
/// Starts under way at once; a service that is away holds the next ones up.
const STARTING_MAX: usize = 512;
/// Steps at a time.
const AGENT_CONCURRENCY: u32 = 256;
const PATIENCE: Duration = Duration::from_secs(90);
/// What a usual later life may use more than a usual early one: memory, files, threads and bytes per execution depend on
/// where in its work it is looked at.
const GROWTH_MAX: f64 = 1.5;
/// The same, for what is little: sockets of requests that happen to be open.
const FILES_SLACK: f64 = 64.0;
/// Files that are open in any life, beside a socket for each start that waits on a machine that is busy otherwise.
const FILES_MAX: usize = STARTING_MAX + 128;
/// Memory that an allocator may keep.
const MIB_SLACK: f64 = 24.0;

const WORK: &str = "
document: {dsl: 1.0.3, namespace: default, name: work, version: 1.0.0}
do:
  - first: &step {call: agent:1.0.0@default, with: {capability: echo, input: '${ . }'}}
  - second: *step
  - third: {fork: {branches: [{left: *step}, {right: *step}]}}
";

/// What the service uses at one moment.
#[derive(Debug, Clone, Copy)]
struct Use {
    rss_mib: f64,
    files: f64,
    threads: f64,
    bytes_per_execution: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_uses_does_not_grow() -> anyhow::Result<()> {
    let minutes = setting("EVENTFLOW_SOAK_MINUTES", MINUTES)?;
    let rate = setting("EVENTFLOW_SOAK_RATE", RATE)?;
    let whole = Duration::from_secs_f64(minutes * 60.0);
    let life = (whole / KILLS_MIN).min(LIFE_MAX);
    let directory = tempfile::tempdir()?;
    let workflows = directory.path().join("workflows");
    std::fs::create_dir(&workflows)?;
    std::fs::write(workflows.join("work.yaml"), WORK)?;
    let folder = workflows.to_str().context("a temporary path is text")?;
    let mut service = Service::start(directory.path(), &["--workflows", folder]);
    let client = Client::new(&service.url, PATIENCE)?;
    let agent = Agent::builder(&service.url)
        .name("echo")
        .capability("echo", async |task: Task| task.input::<Value>())
        .concurrency(AGENT_CONCURRENCY)
        .batched(true)
        .build()?;
    let agent = tokio::spawn(agent.run_until(std::future::pending()));

    let load = Arc::new(Load::default());
    let starting = tokio::spawn(load.clone().start(client.clone(), rate));
    let began = Instant::now();
    let mut lives = Vec::new();
    while began.elapsed() < whole {
        tokio::time::sleep(life).await;
        let used = used(&service, directory.path(), &load)?;
        println!("{used:?}");
        lives.push(used);
        service.kill();
        service.restart();
    }
    load.is_over.store(true, Ordering::SeqCst);
    starting.await??;
    let acknowledged = load.acknowledged.load(Ordering::SeqCst);
    let open = |list: &Value| list["executions"].as_array().is_some_and(Vec::is_empty);
    client
        .until(
            "/v1/executions?status=pending,running,waiting&limit=1",
            open,
        )
        .await?;
    agent.abort();
    service.kill();
    println!(
        "{acknowledged} executions in {:.0?}, {} kills",
        began.elapsed(),
        lives.len()
    );
    grows_not(&lives)?;
    // Reading all of it again takes less time than it took to come about.
    let report = verified_within(process::END_MAX + whole, &service.store_url(), &[]);
    let ended = report["partitions"][0]["executions"]["completed"].as_u64();
    ensure!(
        ended == Some(acknowledged),
        "{ended:?} of {acknowledged} completed: {report:#}"
    );
    Ok(())
}

/// The later lives use no more than the early ones did: by their medians, since one that is looked at in a burst has all
/// of its sockets open.
fn grows_not(lives: &[Use]) -> anyhow::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let is_bounded = lives.iter().all(|used| used.files <= FILES_MAX as f64);
    ensure!(is_bounded, "more than {FILES_MAX} files were open");
    let (early, late) = lives.split_at(lives.len() / 2);
    for (what, of, slack) in [
        ("RSS", (|used| used.rss_mib) as fn(&Use) -> f64, MIB_SLACK),
        ("open files", |used| used.files, FILES_SLACK),
        ("threads", |used| used.threads, 2.0),
        ("bytes per execution", |used| used.bytes_per_execution, 0.0),
    ] {
        let usual = |lives: &[Use]| {
            let mut all: Vec<_> = lives.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let (before, after) = (usual(early), usual(late));
        ensure!(
            after <= before * GROWTH_MAX + slack,
            "{what} grew from {before:.0} to {after:.0}"
        );
    }
    Ok(())
}

fn used(service: &Service, directory: &Path, load: &Load) -> anyhow::Result<Use> {
    let acknowledged = load.acknowledged.load(Ordering::SeqCst).max(1);
    let bytes = size_of(&directory.join("store"))?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(Use {
        rss_mib: service.rss_mib() as f64,
        files: service.open_files() as f64,
        threads: service.threads() as f64,
        bytes_per_execution: bytes as f64 / acknowledged as f64,
    })
}

fn size_of(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() {
            size_of(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(bytes)
}

/// Starts executions at a steady pace.
#[derive(Default)]
struct Load {
    acknowledged: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    async fn start(self: Arc<Self>, client: Client, rate: f64) -> anyhow::Result<()> {
        let places = Arc::new(Semaphore::new(STARTING_MAX));
        let mut starting = tokio::task::JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        let mut number = 0_u64;
        while !self.is_over.load(Ordering::SeqCst) {
            ticks.tick().await;
            let place = places.clone().acquire_owned().await?;
            let (load, client, id) = (self.clone(), client.clone(), format!("e-{number}"));
            number += 1;
            starting.spawn(async move {
                client.start("work", &id, &json!({"n": id})).await?;
                load.acknowledged.fetch_add(1, Ordering::SeqCst);
                drop(place);
                anyhow::Ok(())
            });
            while let Some(started) = starting.try_join_next() {
                started??;
            }
        }
        while let Some(started) = starting.join_next().await {
            started??;
        }
        Ok(())
    }
}

fn setting(name: &str, usual: f64) -> anyhow::Result<f64> {
    let given = std::env::var(name).ok();
    Ok(given.map_or(Ok(usual), |given| given.parse())?)
}
