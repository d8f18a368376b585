//! The agent of a benchmark: a process of its own that performs steps by the SDK until its stdin ends.

use std::time::Duration;

use eventflow_agent::{Agent, Failure, Task};
use eventflow_domain::Digest;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::{
    Results,
    workload::{Baton, CAPABILITY, number},
};
use crate::{Common, Outcome, output, service};

/// `eventflow bench-agent`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchAgent {
    #[arg(long, value_enum)]
    results: Results,
    #[arg(long)]
    step_ms: u64,
    #[arg(long)]
    fail_percent: u8,
    #[arg(long)]
    concurrency: u32,
    /// Of subjects, where the server is NATS.
    #[arg(long)]
    prefix: String,
}

/// What it says at its end.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Performed {
    /// Requests to the service.
    pub(crate) requests: u64,
}

impl BenchAgent {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let (work, fail_percent) = (Duration::from_millis(self.step_ms), self.fail_percent);
        let agent = Agent::builder(service::url(common))
            .token(common.token.clone())
            .prefix(self.prefix)
            .name("bench")
            .capability(CAPABILITY, move |task| step(task, work, fail_percent))
            .concurrency(self.concurrency)
            .batched(self.results == Results::Batched)
            .build()?;
        let transport = agent.transport().clone();
        output::line("ready")?;
        agent.run_until(stdin_ended()).await?;
        output::json(&Performed {
            requests: transport.requests(),
        })?;
        Ok(Outcome::Yes)
    }
}

async fn step(task: Task, work: Duration, fail_percent: u8) -> Result<Baton, Failure> {
    let baton: Baton = task.input()?;
    let number = number(task.reference())
        .ok_or_else(|| Failure::permanent(format!("{} has no number", task.reference())))?;
    if !work.is_zero() {
        tokio::time::sleep(work).await;
    }
    if task.attempt().0 == 1 && draw(&baton.id, number) < fail_percent {
        return Err(Failure::transient("the benchmark lets this attempt fail"));
    }
    Ok(baton.after(number))
}

/// A number below 100 for each step of each execution, the same in every run.
fn draw(execution: &str, step: u64) -> u8 {
    let digest = Digest::of(format!("{execution} {step}").as_bytes());
    digest.0[0] % 100
}

/// The benchmark closes the pipe at its end, and so does its death.
async fn stdin_ended() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while let Ok(1..) = stdin.read(&mut buffer).await {}
}
