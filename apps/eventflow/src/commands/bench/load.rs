//! The load: starts executions, waits for their ends and checks their outputs.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use eventflow_agent::{Answer, Call, Server};
use eventflow_domain::execution::Status;
use eventflow_wire::v1::{Problem, Time};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{report::Setting, workload::Workload};
use crate::{
    error::Refused,
    service::{execution_path, waiting},
    words,
};

/// An execution that has not ended by then is missing.
const END_WITHIN: Duration = Duration::from_mins(5);
/// Between two looks at an execution whose end the start's answer did not wait for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Where the service is busy and does not say for how long.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What is to be started, and by how many at a time.
pub(crate) struct Load {
    /// Every service; executions take turns.
    servers: Vec<Server>,
    workload: Workload,
    setting: Setting,
    /// Makes the ids of this run its own.
    run: String,
    next: AtomicU32,
    finished: Mutex<Finished>,
    bar: ProgressBar,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Start to end of each execution, microseconds.
    pub(crate) latencies_us: Vec<u64>,
    /// Schedule to lease of each task, milliseconds.
    pub(crate) routing_ms: Vec<u64>,
    /// What was wrong, one line per execution.
    pub(crate) wrong: Vec<String>,
    pub(crate) requests: u64,
}

/// What is read of an execution's view: the rest only costs time.
#[derive(Debug, Deserialize)]
struct Ended<'a> {
    status: Status,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    error: Option<Problem>,
    #[serde(default)]
    tasks: Vec<Times>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    scheduled_at: Option<Time>,
    started_at: Option<Time>,
}

impl Load {
    pub(crate) fn new(servers: Vec<Server>, workload: Workload, setting: Setting) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(u64::from(setting.executions)), target);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40.cyan/dim} {pos}/{len} executions, {per_sec}")
        {
            bar.set_style(style);
        }
        Self {
            servers,
            workload,
            setting,
            run: format!("bench-{:x}", words::now().0),
            next: AtomicU32::new(0),
            finished: Mutex::default(),
            bar,
        }
    }

    /// Runs one execution to its end, whatever that is: those that are measured are checked.
    pub(crate) async fn warm_up(&self) -> anyhow::Result<()> {
        let id = format!("{}-first", self.run);
        let execution = self.execute(self.server_of(0), &id);
        let answer = tokio::time::timeout(END_WITHIN, execution).await;
        answer
            .context("the first execution has not ended")?
            .map(drop)
    }

    /// Runs all of it.
    pub(crate) async fn run(self) -> Finished {
        let load = Arc::new(self);
        let sent_before = load.requests();
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..load.setting.concurrency {
            workers.spawn(Arc::clone(&load).work());
        }
        workers.join_all().await;
        load.bar.finish_and_clear();
        let mut finished =
            std::mem::take(&mut *load.finished.lock().unwrap_or_else(PoisonError::into_inner));
        finished.requests = load.requests() - sent_before;
        finished
    }

    fn requests(&self) -> u64 {
        self.servers.iter().map(Server::requests).sum()
    }

    fn server_of(&self, number: u32) -> &Server {
        &self.servers[number as usize % self.servers.len()]
    }

    /// One after the other, until none is left.
    async fn work(self: Arc<Self>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.setting.executions {
                return;
            }
            let id = format!("{}-{number}", self.run);
            let begun = Instant::now();
            let outcome =
                tokio::time::timeout(END_WITHIN, self.execute(self.server_of(number), &id)).await;
            let latency = begun.elapsed();
            let checked = match outcome {
                Ok(Ok(answer)) => self.check(&id, &answer),
                Ok(Err(error)) => Err(error),
                Err(_elapsed) => Err(anyhow::anyhow!(
                    "not ended within {} s",
                    END_WITHIN.as_secs()
                )),
            };
            let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
            match checked {
                Ok(routing) => {
                    finished
                        .latencies_us
                        .push(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
                    finished.routing_ms.extend(routing);
                }
                Err(error) => finished.wrong.push(format!("execution {id}: {error:#}")),
            }
            drop(finished);
            self.bar.inc(1);
        }
    }

    /// Starts one and gives the first answer that has its end.
    async fn execute(&self, server: &Server, id: &str) -> anyhow::Result<Answer> {
        let body = self.workload.start(id);
        loop {
            let started = server
                .send(waiting(Call::post("/v1/executions").json(&body)))
                .await;
            match started {
                Ok(answer) if answer.status == 200 && has_ended(&answer) => return Ok(answer),
                Ok(answer) if answer.is_success() => break,
                // Nothing or maybe something was done: the same id again does no harm.
                Ok(answer) if matches!(answer.status, 429 | 503) => {
                    tokio::time::sleep(answer.retry_after().unwrap_or(BUSY_PAUSE)).await;
                }
                Ok(answer) => bail!(Refused(answer.problem())),
                Err(_unreachable) => tokio::time::sleep(BUSY_PAUSE).await,
            }
        }
        loop {
            let answer = server.send(Call::get(execution_path(id))).await?;
            ensure!(answer.is_success(), Refused(answer.problem()));
            if has_ended(&answer) {
                return Ok(answer);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Checks an execution's end, and gives how long each of its tasks waited for the agent.
    fn check(&self, id: &str, answer: &Answer) -> anyhow::Result<Vec<u64>> {
        let ended: Ended = serde_json::from_slice(&answer.body)?;
        if let Some(problem) = ended.error {
            bail!(Refused(problem));
        }
        ensure!(
            ended.status == Status::Completed,
            "it is {}",
            ended.status.as_str()
        );
        self.workload
            .check(id, ended.output.map_or("null", RawValue::get))?;
        let waited = ended
            .tasks
            .iter()
            .filter_map(|task| Some(task.started_at?.0.since(task.scheduled_at?.0).0));
        Ok(waited.collect())
    }
}

fn has_ended(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Only {
        status: Status,
    }
    answer
        .json()
        .is_ok_and(|view: Only| words::has_ended(view.status))
}
