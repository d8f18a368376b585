//! The service on a NATS server that goes away, and whose task stream is emptied: it says so, and goes on by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use eventflow_agent::{Agent, Failure, Task};
use eventflow_nats_server::{NatsServer, Options};
use eventflow_tests::{Client, Service};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Seconds without a server where `EVENTFLOW_AWAY_SECONDS` says nothing.
const AWAY_SECONDS: u64 = 6;
/// Of one core, while there is no server.
const CPU_SHARE_MAX: f64 = 0.05;
/// A start that cannot be stored is refused within this.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
/// Until it is noticed that the server is gone, and that it is back.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_mins(1);
/// Executions under way while tasks are lost.
const EXECUTIONS: usize = 60;
/// So often all tasks are lost.
const PURGES: usize = 4;

const CHAIN: &str = "
document: {dsl: 1.0.3, namespace: default, name: chain, version: 1.0.0}
do:
  - first: &work {call: agent:1.0.0@default, with: {capability: work, input: '${ . }'}}
  - second: *work
  - third: *work
";

/// A service on a server of its own, and an agent.
struct Site {
    server: NatsServer,
    service: Service,
    client: Client,
    stop: watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

impl Site {
    fn start() -> anyhow::Result<Self> {
        let server = NatsServer::start(Options { sync_always: true });
        let directory = tempfile::tempdir()?;
        let workflows = directory.path().join("workflows");
        std::fs::create_dir(&workflows)?;
        std::fs::write(workflows.join("chain.yaml"), CHAIN)?;
        let workflows = workflows.to_str().context("a temporary path is text")?;
        let arguments = ["--workflows", workflows];
        let service = Service::start_at(server.url(), directory.path(), &arguments);
        let client = Client::new(&service.url, PATIENCE)?;
        let (stop, mut stopped) = watch::channel(false);
        let agent = Agent::builder(server.url())
            .name("worker")
            .capability("work", |task: Task| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let input: Value = task.input()?;
                Ok::<_, Failure>(json!({"n": input["n"].as_i64().unwrap_or(0) + 1}))
            })
            .lease(Duration::from_secs(2))
            .build()?;
        tokio::spawn(agent.run_until(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Ok(Self {
            server,
            service,
            client,
            stop,
            _directory: directory,
        })
    }

    async fn start_some(&self, what: &str) -> anyhow::Result<Vec<String>> {
        let ids: Vec<_> = (0..EXECUTIONS)
            .map(|number| format!("{what}-{number}"))
            .collect();
        for id in &ids {
            self.client.start("chain", id, &json!({"n": 0})).await?;
        }
        Ok(ids)
    }

    async fn end_right(&self, ids: &[String]) -> anyhow::Result<()> {
        for id in ids {
            let view = self.client.ended(id).await?;
            ensure!(view["output"]["n"] == 3, "{id}: {view}");
        }
        Ok(())
    }

    async fn status_of(&self, path: &str) -> anyhow::Result<u16> {
        Ok(self.client.get_once(path).await?.0)
    }

    async fn until_ready_is(&self, wanted: u16) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.status_of("/readyz").await? != wanted {
            ensure!(began.elapsed() < NOTICED_WITHIN, "/readyz is not {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.service.kill();
        // A test that fails says why itself.
        if !std::thread::panicking() {
            self.service.verified(&[]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_server_it_lives_refuses_and_goes_on_by_itself() -> anyhow::Result<()> {
    let away = std::env::var("EVENTFLOW_AWAY_SECONDS")
        .ok()
        .map_or(Ok(AWAY_SECONDS), |seconds| seconds.parse())?;
    let mut site = Site::start()?;
    let ids = site.start_some("before").await?;
    site.server.kill();
    let killed = Instant::now();
    site.until_ready_is(503).await?;

    let cpu_before = site.service.cpu_seconds();
    let watched = Instant::now();
    let body =
        json!({"workflow": {"name": "chain"}, "executionId": "meanwhile", "input": {"n": 0}});
    let request = site
        .client
        .request(reqwest::Method::POST, "/v1/executions")
        .json(&body);
    let refused = tokio::time::timeout(REFUSED_WITHIN, request.send()).await??;
    ensure!(
        refused.status() == 503,
        "a start was answered {}",
        refused.status()
    );
    let later = refused.headers().get("retry-after");
    ensure!(later.is_some(), "503 without Retry-After");
    while killed.elapsed() < Duration::from_secs(away) {
        ensure!(site.status_of("/healthz").await? == 200, "it does not live");
        ensure!(
            site.status_of("/readyz").await? == 503,
            "it says that it is ready"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let share = (site.service.cpu_seconds() - cpu_before) / watched.elapsed().as_secs_f64();
    println!("{:.1} % of a core while there was no server", share * 100.0);
    ensure!(share < CPU_SHARE_MAX, "it used {share:.3} of a core");

    site.server.restart();
    site.until_ready_is(200).await?;
    site.end_right(&ids).await?;
    site.client
        .start("chain", "meanwhile", &json!({"n": 0}))
        .await?;
    site.end_right(&["meanwhile".to_owned()]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_lost_are_sent_again() -> anyhow::Result<()> {
    let site = Site::start()?;
    let jetstream = async_nats::jetstream::new(async_nats::connect(site.server.url()).await?);
    let mut ids = Vec::new();
    let mut purged = 0;
    for round in 0..PURGES {
        ids.extend(site.start_some(&format!("round-{round}")).await?);
        let stream = jetstream.get_stream("EVENTFLOW_TASKS").await?;
        purged += stream.purge().await?.purged;
    }
    site.end_right(&ids).await?;
    println!(
        "{purged} tasks were lost in {PURGES} purges, {} executions ended right",
        ids.len()
    );
    ensure!(purged > 0, "nothing was purged");
    Ok(())
}
