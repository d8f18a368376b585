//! `eventflow bench`: how fast, how quick and how heavy a service is, with every output checked.
//!
//! The service, the agent, the stub of the `http` workload and the load are processes of their own; the load is this
//! one. All of them share the machine, so the agent and the load are made to be light.

pub(super) mod agent;
mod load;
mod process;
mod report;
pub(super) mod stub;
mod workload;

use std::time::Instant;

use anyhow::{Context, bail};
use clap::ValueEnum;
use eventflow_adapter_nats::{ConnectOptions, connect, remove_store};
use eventflow_agent::Call;

use crate::{Common, Outcome, output, output::Format, service::Service, words};

use self::{
    load::{Finished, Load},
    process::{Agent, Measured, Spawned},
    report::{Report, Setting},
    workload::{Kind, Workload},
};

/// What the agent of a benchmark performs at a time, where nothing is said.
const AGENT_CONCURRENCY: u32 = 1_000;
/// Wrong outputs that are shown; all are counted.
const WRONG_SHOWN_MAX: usize = 5;

/// `eventflow bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is measured, and how:
  start to end   from sending POST /v1/executions (Prefer: wait) to its answer with the execution's end, by the load's clock
  routing        from a task's scheduledAt to its startedAt (its lease), every task of every execution, by the service's
                 clock, in whole milliseconds; null for local steps, which nobody is given
  rssMiB         the service's peak resident memory; cpuSeconds its user and system time during the load
  deviceBytes    what the service caused to be written to block devices (/proc/PID/io), per step
  fsyncs         the service's own count from /metrics; null where it has none
  requests       HTTP requests of the load and of the agent
One execution goes ahead, unmeasured: the queue of its tasks is made with the first one.
With --server the service's memory, CPU time and bytes are unknown: null.
Every output is checked; a wrong or missing one makes the exit code 1.")]
pub(crate) struct Bench {
    /// Start a service of its own on a store of its own (the default without --server)
    #[arg(long, conflicts_with = "nats")]
    embedded: bool,
    /// Start a service of its own on this NATS server, under a prefix of its own; its agent speaks NATS, too
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// How many services share the work, on NATS
    #[arg(long, value_name = "N", default_value_t = 1, requires = "nats", value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Partitions of its store [default: as the service has it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    partitions: Option<u16>,
    /// What the executions do
    #[arg(long, value_enum, default_value_t = Kind::Sequence)]
    workload: Kind,
    /// How many executions [default: 1000; fanout: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    executions: Option<u32>,
    /// How many at a time [default: 64; fanout and latency: 1]
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Option<u32>,
    /// Steps of each execution [default: 3; fanout: 100]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    steps: Option<u32>,
    /// How the agent brings its results
    #[arg(long, value_enum, default_value_t = Results::Batched)]
    results: Results,
    /// How long the agent works on a step, milliseconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    step_ms: u64,
    /// Of how many steps in a hundred the first attempt fails
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_percent: u8,
    /// How many steps the agent performs at a time
    #[arg(long, value_name = "N", default_value_t = AGENT_CONCURRENCY)]
    agent_concurrency: u32,
    /// Print JSON, as --output json
    #[arg(long)]
    json: bool,
}

/// How an agent brings results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Results {
    /// Each by a request of its own.
    Single,
    /// Many in a request, with the next tasks in its answer.
    Batched,
}

impl Bench {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        process::raise_open_files();
        let prefix = format!("bench-{:x}", words::now().0);
        let measured = self.measured(common, &prefix).await;
        if let Some(url) = &self.nats {
            clear(url, &prefix).await;
        }
        let (finished, report) = measured?;
        let format = if self.json {
            Format::Json
        } else {
            common.output
        };
        match format {
            Format::Json => output::json(&report)?,
            Format::Text => output::line(report.describe())?,
        }
        for wrong in finished.wrong.iter().take(WRONG_SHOWN_MAX) {
            eprintln!("{wrong}");
        }
        Ok(if finished.wrong.is_empty() {
            Outcome::Yes
        } else {
            Outcome::No
        })
    }

    /// Starts what is to be started, and measures.
    async fn measured(&self, common: &Common, prefix: &str) -> anyhow::Result<(Finished, Report)> {
        let setting = self.setting();
        let spawned = match &common.server {
            Some(_) if !self.embedded && self.nats.is_none() => Vec::new(),
            _ => process::services(self, prefix).await?,
        };
        let urls: Vec<_> = match &common.server {
            Some(url) if spawned.is_empty() => vec![url.clone()],
            _ => spawned.iter().map(|spawned| spawned.url.clone()).collect(),
        };
        let services = urls.iter().map(|url| {
            Service::new(&Common {
                server: Some(url.clone()),
                ..common.clone()
            })
        });
        let services = services.collect::<anyhow::Result<Vec<_>>>()?;
        let service = services.first().context("there is a service")?;
        let stub = match setting.workload {
            Kind::Http => Some(process::stub().await?),
            _ => None,
        };
        let stub_url = stub
            .as_ref()
            .map(|stub| stub.url.as_str())
            .unwrap_or_default();
        let workload = Workload::new(setting.workload, setting.steps, stub_url);
        register(service, &workload).await?;
        let agent = if setting.workload.needs_agent() {
            let url = self.nats.as_deref().unwrap_or(&urls[0]);
            Some(process::agent(url, prefix, common.token.as_deref(), self).await?)
        } else {
            None
        };
        measure(&services, spawned, agent, workload, setting).await
    }

    fn setting(&self) -> Setting {
        let (executions, concurrency, steps) = match self.workload {
            Kind::Fanout => (1, 1, 100),
            Kind::Latency => (1_000, 1, 3),
            Kind::Sequence | Kind::Local | Kind::Http => (1_000, 64, 3),
        };
        let executions = self.executions.unwrap_or(executions);
        let concurrency = match self.workload {
            Kind::Latency => 1,
            _ => self.concurrency.unwrap_or(concurrency).min(executions),
        };
        Setting {
            workload: self.workload,
            executions,
            concurrency,
            steps: self.steps.unwrap_or(steps),
            results: self.results,
        }
    }
}

async fn register(service: &Service, workload: &Workload) -> anyhow::Result<()> {
    let call = Call::post("/v1/workflows").json(&workload.document);
    service
        .ask(call)
        .await
        .context("the workload's workflow was not registered")?;
    Ok(())
}

/// Removes what the benchmark has kept on NATS: the next one must not be slower for it.
async fn clear(url: &str, prefix: &str) {
    let options = ConnectOptions {
        urls: vec![url.to_owned()],
        ..ConnectOptions::default()
    };
    let removed = async {
        let client = connect(&options).await?;
        anyhow::Ok(remove_store(&client, prefix).await?)
    };
    if let Err(error) = removed.await {
        eprintln!("what the benchmark kept with the prefix `{prefix}` is still there: {error:#}");
    }
}

async fn measure(
    services: &[Service],
    mut spawned: Vec<Spawned>,
    mut agent: Option<Agent>,
    workload: Workload,
    setting: Setting,
) -> anyhow::Result<(Finished, Report)> {
    let servers = services.iter().map(|service| service.server.clone());
    let load = Load::new(servers.collect(), workload, setting);
    unless_died(load.warm_up(), &mut spawned, &mut agent).await??;
    let before = Measured::now(services, &spawned, agent.as_ref()).await;
    let begun = Instant::now();
    let finished = unless_died(load.run(), &mut spawned, &mut agent).await?;
    let elapsed = begun.elapsed();
    let after = Measured::now(services, &spawned, agent.as_ref()).await;
    let performed = match agent {
        Some(agent) => agent.stop().await?,
        None => agent::Performed::default(),
    };
    let requests = finished.requests + performed.requests;
    let report = Report::new(setting, elapsed, &finished, requests, &before, &after);
    Ok((finished, report))
}

/// What comes of this, while every process that it needs lives.
async fn unless_died<T>(
    work: impl Future<Output = T>,
    spawned: &mut [Spawned],
    agent: &mut Option<Agent>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => Ok(done),
        ended = process::died(spawned) => bail!("the service ended during the load: {ended}"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        ended = process::agent_died(agent) => bail!("the agent ended during the load: {ended}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        bench: Bench,
    }

    fn setting(arguments: &[&str]) -> Setting {
        let all = ["bench"].iter().chain(arguments);
        Alone::parse_from(all).bench.setting()
    }

    #[test]
    fn each_workload_has_a_size_of_its_own() {
        let fanout = setting(&["--workload", "fanout"]);
        assert_eq!(
            (fanout.executions, fanout.concurrency, fanout.steps),
            (1, 1, 100)
        );
        let latency = setting(&["--workload", "latency", "--concurrency", "9"]);
        assert_eq!((latency.concurrency, latency.steps), (1, 3));
        let sequence = setting(&["--executions", "10", "--steps", "5"]);
        assert_eq!(
            (sequence.executions, sequence.concurrency, sequence.steps),
            (10, 10, 5)
        );
    }
}
