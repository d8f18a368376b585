//! The real service under load, killed again and again: whatever it acknowledged comes to its right end.

mod agents;
mod checks;
mod load;
mod workflows;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use agents::Agents;
use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service};
use load::Load;

/// Kills where `EVENTFLOW_KILLS` says nothing.
const KILLS: usize = 20;
/// Executions that are open at any time, at least.
const OPEN_MIN: usize = 100;
/// Kept open, so that those that end within a moment leave the least.
const OPEN_WANTED: usize = 200;
/// So often an agent dies as well, with whatever it holds.
const AGENT_KILLED_EVERY: u64 = 7;
/// So often the service dies again before it is ready.
const KILLED_WHILE_STARTING_EVERY: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_kill_9() -> anyhow::Result<()> {
    let kills = std::env::var("EVENTFLOW_KILLS")
        .ok()
        .map_or(Ok(KILLS), |kills| kills.parse())?;
    let directory = tempfile::tempdir()?;
    let folder = directory.path().join("workflows");
    std::fs::create_dir(&folder)?;
    for workflow in workflows::ALL {
        std::fs::write(folder.join(workflow.file), workflow.document)?;
    }
    let folder = folder.to_str().context("a temporary path is text")?;
    let service = Service::start(directory.path(), &["--workflows", folder]);
    let client = Client::new(&service.url, PATIENCE)?;
    let agents = Agents::start(&service.url, directory.path())?;

    let began = Instant::now();
    let load = Arc::new(Load::default());
    let mut starting = tokio::spawn(load.clone().keep_busy(client.clone()));
    let killing = {
        let load = load.clone();
        tokio::task::spawn_blocking(move || kill(service, agents, kills, &load))
    };
    let killed = tokio::select! {
        killed = killing => killed??,
        // It goes on until it is told that it is over, or says why it cannot.
        started = &mut starting => {
            started??;
            anyhow::bail!("the load ended by itself");
        }
    };
    load.is_over.store(true, Ordering::SeqCst);
    starting.await??;
    let of_kills = began.elapsed();

    let mut ended = HashMap::new();
    let acknowledged = load.acknowledged.lock().unwrap().clone();
    for start in &acknowledged {
        let view = client.ended(&start.id).await?;
        checks::end(&view, start).with_context(|| format!("{}: {view}", start.id))?;
        checks::history(&client, start)
            .await
            .with_context(|| start.id.clone())?;
        checks::repeat(&client, start, &view).await?;
        ended.insert(start.id.clone(), view);
    }
    let mut service = killed.service;
    let results = killed.agents.accepted()?;
    for result in &results {
        checks::result(&ended, result)?;
    }
    // One more kill, with nobody to tidy up.
    service.kill();
    let orders = load.orders.lock().unwrap().clone();
    service.verified(&checks::evidence(&acknowledged, &results, &orders));
    let least = (killed.at_ms.iter())
        .map(|&at_ms| checks::open_at(at_ms, &acknowledged, &ended))
        .min()
        .unwrap_or_default();
    println!(
        "{kills} kills, {} acknowledged starts all ended right, {} acknowledged results all stand, {} pauses, resumes \
         and stops were kept, at least {least} open at each kill; {of_kills:.1?} of kills, {:.1?} to the last end",
        acknowledged.len(),
        results.len(),
        orders.len(),
        began.elapsed().saturating_sub(of_kills),
    );
    ensure!(
        least >= OPEN_MIN,
        "only {least} executions were open at some kill"
    );
    ensure!(!results.is_empty(), "no agent got any result acknowledged");
    ensure!(!orders.is_empty(), "nothing was paused or stopped");
    Ok(())
}

/// What is left of the service after the last kill, and when each was.
struct Killed {
    service: Service,
    agents: Agents,
    at_ms: Vec<u64>,
}

/// What is killed in turn where the service keeps everything on a server: itself, the server, both.
const VICTIMS: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

/// Kills the service, its server or both, the service now and then twice in a row, or an agent besides.
fn kill(
    mut service: Service,
    mut agents: Agents,
    kills: usize,
    load: &Load,
) -> anyhow::Result<Killed> {
    let mut at_ms = Vec::new();
    while at_ms.len() < kills {
        let number = at_ms.len() as u64;
        // From right after the start to deep in the work.
        std::thread::sleep(Duration::from_millis(20 + number * 37 % 280));
        load.wait_until_busy()?;
        if number % AGENT_KILLED_EVERY == 1 {
            agents.replace_one()?;
        }
        let (itself, its_server) = match service.nats() {
            None => (true, false),
            Some(_) => VICTIMS[at_ms.len() % VICTIMS.len()],
        };
        if itself {
            service.kill();
        }
        if let Some(server) = service.nats()
            && its_server
        {
            server.kill();
            server.restart();
        }
        at_ms.push(now_ms());
        // What was open before says little of what is open at the next kill.
        load.open.store(0, Ordering::SeqCst);
        if !itself {
            continue;
        }
        if number % KILLED_WHILE_STARTING_EVERY == 2 && at_ms.len() < kills {
            service.kill_while_starting(Duration::from_millis(5 + number * 13 % 80));
            at_ms.push(now_ms());
        }
        service.restart();
    }
    Ok(Killed {
        service,
        agents,
        at_ms,
    })
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let since_epoch = since_epoch.expect("it is after 1970").as_millis();
    u64::try_from(since_epoch).expect("this is not the far future")
}
