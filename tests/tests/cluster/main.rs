//! Three servers, three nodes, agents over NATS, many starts a second, and one fault after the other: nothing that
//! was acknowledged is lost, everything ends right, and work goes on soon after each healing.

mod load;
mod site;

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use eventflow_agent::{Agent, Failure, Task};
use eventflow_tests::verified::verified_within;
use load::{Anyone, Load};
use serde_json::{Value, json};
use site::{Fault, SIZE, Site};
use tokio::{sync::watch, task::JoinSet};

/// Faults where `EVENTFLOW_FAULTS` says nothing.
const FAULTS: usize = 5;
/// How long a fault lasts, seconds.
const LASTS: std::ops::RangeInclusive<u64> = 1..=20;
/// On every change they last no longer.
const LASTS_MAX_OF_FEW: u64 = 6;
/// Work goes on this soon after a healing.
const GOES_ON_WITHIN: Duration = Duration::from_secs(10);
/// A node that says what it waits for says so within this.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(3);
/// Between a healing and the next fault.
const REST: Duration = Duration::from_secs(2);
/// What is open at the end is done by then.
const END_WITHIN: Duration = Duration::from_mins(2);
/// A hundred faults leave a million and a half events behind: three quarters of a minute.
const VERIFIED_WITHIN: Duration = Duration::from_mins(5);
/// Agents, each of its own.
const AGENTS: usize = 2;
/// Executions whose ends are asked for at a time.
const ASKED_AT_ONCE: usize = 64;

const CHAIN: &str = "
document: {dsl: 1.0.3, namespace: default, name: chain, version: 1.0.0}
do:
  - first: &work
      call: agent:1.0.0@default
      with:
        capability: work
        heartbeat: PT2S
        retry: {delay: {milliseconds: 50}, backoff: {constant: {}}, limit: {attempt: {count: 1000}}}
  - second: *work
  - third: *work
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_what_breaks_between_machines() -> anyhow::Result<()> {
    let faults: usize = setting("EVENTFLOW_FAULTS", FAULTS)?;
    let seed: u64 = setting("EVENTFLOW_SEED", fastrand::u64(..))?;
    println!("EVENTFLOW_SEED={seed}");
    let directory = tempfile::tempdir()?;
    let workflows = directory.path().join("workflows");
    std::fs::create_dir(&workflows)?;
    std::fs::write(workflows.join("chain.yaml"), CHAIN)?;
    let workflows = workflows.to_str().context("a temporary path is text")?;
    let site = Site::start(directory.path(), workflows)?;
    let urls: Vec<_> = site.nodes.iter().map(|node| node.url.clone()).collect();
    let servers = site.servers.urls().join(",");
    let anyone = Arc::new(Anyone::new(&urls)?);
    let (stop, agents) = agents(&servers)?;
    let load = Arc::new(Load::default());
    let mut starting = tokio::spawn(Arc::clone(&load).run(Arc::clone(&anyone)));

    let began = Instant::now();
    let breaking = break_and_heal(
        site,
        Arc::clone(&anyone),
        faults,
        fastrand::Rng::with_seed(seed),
    );
    let (mut site, slowest) = tokio::select! {
        broken = breaking => broken?,
        started = &mut starting => {
            started??;
            anyhow::bail!("the load ended by itself");
        }
    };
    load.is_over.store(true, Ordering::SeqCst);
    starting.await??;
    let acknowledged = load
        .acknowledged
        .lock()
        .expect("nobody panics with it")
        .clone();
    all_end_right(&anyone, &acknowledged).await?;
    println!(
        "{faults} faults in {:.0?}, {} acknowledged starts all ended right, work went on within {slowest:.1?} of each healing",
        began.elapsed(),
        acknowledged.len(),
    );
    stop.send_replace(true);
    agents.join_all().await;
    for node in &mut site.nodes {
        node.kill();
    }
    let evidence = acknowledged
        .iter()
        .map(|id| json!({"start": {"executionId": id, "status": "completed"}}));
    verified_within(VERIFIED_WITHIN, &servers, &evidence.collect::<Vec<_>>());
    Ok(())
}

fn setting<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    name: &str,
    otherwise: T,
) -> anyhow::Result<T> {
    match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| name.to_owned()),
        Err(_) => Ok(otherwise),
    }
}

/// Agents that count `n` up, until they are told to stop.
fn agents(servers: &str) -> anyhow::Result<(watch::Sender<bool>, JoinSet<()>)> {
    let (stop, stopped) = watch::channel(false);
    let mut agents = JoinSet::new();
    for number in 0..AGENTS {
        let agent = Agent::builder(servers)
            .name(format!("agent-{number}"))
            .capability("work", |task: Task| async move {
                let input: Value = task.input()?;
                Ok::<_, Failure>(json!({"n": input["n"].as_i64().unwrap_or(0) + 1}))
            })
            .concurrency(64)
            .lease(Duration::from_secs(2))
            .build()?;
        let mut stopped = stopped.clone();
        agents.spawn(async move {
            let told = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            agent
                .run_until(told)
                .await
                .expect("an agent goes on whatever breaks");
        });
    }
    Ok((stop, agents))
}

/// One fault after the other; how long it took at most until work went on.
async fn break_and_heal(
    mut site: Site,
    anyone: Arc<Anyone>,
    faults: usize,
    mut dice: fastrand::Rng,
) -> anyhow::Result<(Site, Duration)> {
    let mut slowest = Duration::ZERO;
    works(&anyone, "before").await?;
    for number in 0..faults {
        let fault = Fault::of(number, &mut dice);
        let lasts = dice.u64(LASTS);
        let lasts = if faults > FAULTS {
            lasts
        } else {
            lasts.min(LASTS_MAX_OF_FEW)
        };
        let lasts = Duration::from_secs(lasts);
        println!("fault {number}: {fault:?} for {lasts:?}");
        site = tokio::task::spawn_blocking(move || {
            site.break_it(fault);
            std::thread::sleep(lasts);
            site.heal(fault);
            site
        })
        .await?;
        let took = works(&anyone, &format!("after-{number}"))
            .await
            .with_context(|| format!("after fault {number}, {fault:?} for {lasts:?}"))?;
        println!("work went on within {took:.1?}");
        slowest = slowest.max(took);
        tokio::time::sleep(REST).await;
    }
    Ok((site, slowest))
}

/// Every node starts an execution that completes: how long that took.
async fn works(anyone: &Anyone, when: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut working = JoinSet::new();
    for (node, client) in anyone.clients().iter().cloned().enumerate() {
        let id = format!("{when}-node-{node}");
        working.spawn(async move {
            client.start("chain", &id, &json!({"n": 0})).await?;
            client.ended(&id).await
        });
    }
    let all = async {
        while let Some(ended) = working.join_next().await {
            let view = ended??;
            ensure!(view["output"]["n"] == 3, "{view}");
        }
        Ok(())
    };
    let Ok(done) = tokio::time::timeout(GOES_ON_WITHIN, all).await else {
        anyhow::bail!(
            "work does not go on within {GOES_ON_WITHIN:?} on all {SIZE} nodes:{}",
            explained(anyone, when).await
        );
    };
    done?;
    Ok(began.elapsed())
}

/// What each node says of what was started there, and of the partitions.
async fn explained(anyone: &Anyone, when: &str) -> String {
    let mut all = String::new();
    for (node, client) in anyone.clients().iter().enumerate() {
        let explain = format!("/v1/executions/{when}-node-{node}/explain");
        for path in [explain.as_str(), "/v1/system"] {
            let said = tokio::time::timeout(EXPLAINED_WITHIN, client.get_once(path)).await;
            let _ = write!(all, "\n  node {node}, {path}: {said:?}");
        }
    }
    all
}

async fn all_end_right(anyone: &Arc<Anyone>, acknowledged: &[String]) -> anyhow::Result<()> {
    let began = Instant::now();
    for some in acknowledged.chunks(ASKED_AT_ONCE) {
        let mut asking = JoinSet::new();
        for id in some {
            let (anyone, id) = (Arc::clone(anyone), id.clone());
            asking.spawn(async move {
                loop {
                    let view = anyone.view(&id).await?;
                    match view["status"].as_str() {
                        Some("completed") => {
                            ensure!(view["output"]["n"] == 3, "{id} ended wrong: {view}");
                            return Ok(());
                        }
                        Some("faulted" | "cancelled") => anyhow::bail!("{id} ended: {view}"),
                        _ => ensure!(began.elapsed() < END_WITHIN, "{id} does not end: {view}"),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        while let Some(ended) = asking.join_next().await {
            ended??;
        }
    }
    Ok(())
}
