//! So many starts a second, by whichever node answers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use eventflow_tests::Client;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

/// Starts a second. Three nodes that are not optimised have no more than that to spare on a small machine.
const RATE: u32 = if cfg!(debug_assertions) { 30 } else { 100 };
/// Starts that wait for an answer; the next one waits for one of them.
const WAITING_MAX: usize = 2_000;
/// A node that is frozen answers nothing: the next one is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Between two tries, as `Retry-After` asks: those who wait must not outnumber those who work.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Whatever is broken is healed long before.
const PATIENCE: Duration = Duration::from_mins(3);

/// All nodes, asked in turn.
pub(crate) struct Anyone {
    clients: Vec<Client>,
    next: AtomicUsize,
}

impl Anyone {
    pub(crate) fn new(urls: &[String]) -> anyhow::Result<Self> {
        let clients = urls.iter().map(|url| Client::new(url, PATIENCE));
        Ok(Self {
            clients: clients.collect::<anyhow::Result<_>>()?,
            next: AtomicUsize::new(0),
        })
    }

    pub(crate) fn clients(&self) -> &[Client] {
        &self.clients
    }

    fn next(&self) -> &Client {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.clients[next % self.clients.len()]
    }

    /// The first answer that says what became of it.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let began = Instant::now();
        loop {
            let answer =
                tokio::time::timeout(ANSWER_WITHIN, self.next().post_once(path, body)).await;
            match answer {
                Ok(Ok((status, answer))) if !matches!(status, 429 | 503) => {
                    return Ok((status, answer));
                }
                last => ensure!(began.elapsed() < PATIENCE, "POST {path}: {last:?}"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// The view of an execution, from whichever node has it.
    pub(crate) async fn view(&self, id: &str) -> anyhow::Result<Value> {
        let began = Instant::now();
        let path = format!("/v1/executions/{id}");
        loop {
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.next().get_once(&path)).await;
            match answer {
                Ok(Ok((200, view))) => return Ok(view),
                // What was acknowledged is there.
                Ok(Ok((404, problem))) => anyhow::bail!("{id} is lost: {problem}"),
                last => ensure!(began.elapsed() < PATIENCE, "GET {path}: {last:?}"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

/// Starts executions until it is over.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) acknowledged: Mutex<Vec<String>>,
    pub(crate) is_over: AtomicBool,
}

impl Load {
    pub(crate) async fn run(self: Arc<Self>, anyone: Arc<Anyone>) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
        let places = Arc::new(Semaphore::new(WAITING_MAX));
        let mut starting = JoinSet::new();
        for number in 0_u64.. {
            tick.tick().await;
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let place = Arc::clone(&places).acquire_owned().await?;
            let (load, anyone) = (Arc::clone(&self), Arc::clone(&anyone));
            starting.spawn(async move {
                let id = format!("e-{number}");
                start(&anyone, &id).await?;
                load.acknowledged
                    .lock()
                    .expect("nobody panics with it")
                    .push(id);
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

/// Starts an execution, durably.
pub(crate) async fn start(anyone: &Anyone, id: &str) -> anyhow::Result<()> {
    let body = json!({"workflow": {"name": "chain"}, "executionId": id, "input": {"n": 0}});
    let (status, answer) = anyone.post("/v1/executions", &body).await?;
    ensure!(status == 202, "{id} was answered {status}: {answer}");
    Ok(())
}
