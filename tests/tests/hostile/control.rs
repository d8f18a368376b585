//! Work that goes on beside the bad input: it must be neither lost nor slowed.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service};
use serde_json::{Value, json};

use crate::PATIENCE;

/// One step by an agent, one inside of the service.
const WORKFLOW: &str = r#"{
  "dag": "1.0", "name": "control", "version": "1.0.0",
  "steps": [
    {"id": "work", "uses": "agent", "with": {"capability": "control"}, "inputs": {"n": "${input.n}"}},
    {"id": "after", "uses": "set", "with": {"n": "${work.n}"}}
  ],
  "output": "${after.n}"
}"#;
/// Rounds before the bad input comes, and at least so many while it does.
const CALM_ROUNDS: usize = 20;
/// How much slower the median round may be, besides [`SLOWER_BY_MAX`]: the hostile client shares two cores with everybody.
const SLOWER_TIMES_MAX: u32 = 10;
const SLOWER_BY_MAX: Duration = Duration::from_millis(150);
/// No single round may hang.
const ROUND_MAX: Duration = Duration::from_secs(8);

/// An execution that stays open throughout, and short ones one after the other.
pub(crate) struct Control {
    client: Client,
    open: Value,
    calm: Duration,
    rounds: AtomicUsize,
}

impl Control {
    /// Starts the long execution and measures the short ones in peace.
    pub(crate) async fn begin(service: &Service) -> anyhow::Result<Self> {
        let client = Client::new(&service.url, PATIENCE)?;
        let document: Value = serde_json::from_str(WORKFLOW)?;
        let (status, answer) = client.post("/v1/workflows", &document).await?;
        ensure!(status == 201, "{answer}");
        client.start("control", "open", &json!({"n": -1})).await?;
        let open = client.lease("control").await?;
        let mut control = Self {
            client,
            open,
            calm: Duration::ZERO,
            rounds: AtomicUsize::new(0),
        };
        let mut times = Vec::new();
        for _ in 0..CALM_ROUNDS {
            times.push(control.round().await?);
        }
        control.calm = median(times);
        Ok(control)
    }

    /// Goes on beside `hostile` and compares.
    pub(crate) async fn beside<T>(
        &self,
        hostile: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut hostile = std::pin::pin!(hostile);
        let mut times = Vec::new();
        let outcome = loop {
            let round = async {
                let time = self.round().await;
                // Leaves the machine to the others half of the time.
                tokio::time::sleep(*time.as_ref().unwrap_or(&Duration::ZERO)).await;
                time
            };
            let mut round = std::pin::pin!(round);
            tokio::select! {
                biased;
                outcome = hostile.as_mut() => {
                    times.push(round.await?);
                    break outcome?;
                }
                time = round.as_mut() => times.push(time?),
            }
        };
        let (rounds, longest) = (times.len(), times.iter().max().copied().unwrap_or_default());
        let during = median(times);
        println!(
            "control: median {:.1?} in peace, {during:.1?} and at most {longest:.1?} in {rounds} rounds beside it",
            self.calm
        );
        let allowed = self.calm * SLOWER_TIMES_MAX + SLOWER_BY_MAX;
        ensure!(
            during < allowed,
            "slowed to {during:?} from {:?}",
            self.calm
        );
        ensure!(longest < ROUND_MAX, "a round took {longest:?}");
        Ok(outcome)
    }

    /// Ends the long execution; the service is as ready as before.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let (status, ready) = self.client.get_once("/readyz").await?;
        ensure!(status == 200, "not ready any more: {ready}");
        self.client
            .complete(&self.open, &json!({"n": "kept"}))
            .await?;
        let view = self.client.ended("open").await?;
        ensure!(view["output"] == "kept", "{view}");
        let attempt = &view["tasks"][0]["attempt"];
        ensure!(attempt == 1, "its lease was lost: {view}");
        Ok(())
    }

    async fn round(&self) -> anyhow::Result<Duration> {
        let number = self.rounds.fetch_add(1, Ordering::Relaxed);
        let id = format!("control-{number}");
        let began = Instant::now();
        self.client
            .start("control", &id, &json!({"n": number}))
            .await?;
        let task = self.client.lease("control").await?;
        ensure!(task["executionId"] == *id, "leased {task} instead of {id}");
        let output = json!({"n": task["input"]["n"]});
        self.client.complete(&task, &output).await?;
        let view = self.client.ended(&id).await.context(id)?;
        ensure!(view["output"] == number, "a wrong output: {view}");
        Ok(began.elapsed())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
