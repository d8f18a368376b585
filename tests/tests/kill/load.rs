//! Executions that are started, paused, resumed and stopped all the time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use eventflow_tests::Client;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{OPEN_MIN, OPEN_WANTED, PATIENCE, now_ms, workflows};

/// One of so many executions is paused right after its start, and resumed some rounds later.
const PAUSED_EVERY: usize = 17;
/// One of so many is stopped some rounds after its start.
const STOPPED_EVERY: usize = 29;
/// Starts at a time: one after the other, executions would end as fast as they are started.
const STARTED_AT_ONCE: usize = 16;
/// Rounds between a start and what is ordered later.
const LATER_ROUNDS: usize = 12;

/// A start that was answered.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    pub(crate) id: String,
    pub(crate) workflow: &'static str,
    pub(crate) at_ms: u64,
    /// Whether a stop was acknowledged as well.
    pub(crate) is_stopped: bool,
}

impl Acknowledged {
    pub(crate) fn body(id: &str, workflow: &str) -> Value {
        json!({"workflow": {"name": workflow}, "executionId": id, "input": {"n": 0}})
    }
}

/// A pause, resume or stop that was answered.
#[derive(Clone)]
pub(crate) struct Ordered {
    pub(crate) id: String,
    pub(crate) order: &'static str,
    pub(crate) at_ms: u64,
}

/// Keeps executions open.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) acknowledged: Mutex<Vec<Acknowledged>>,
    pub(crate) orders: Mutex<Vec<Ordered>>,
    /// Open when it was last looked.
    pub(crate) open: AtomicUsize,
    pub(crate) is_over: AtomicBool,
}

/// What is to be ordered in which round: the place of the start, and the order.
type Later = VecDeque<(usize, usize, &'static str)>;

impl Load {
    pub(crate) fn wait_until_busy(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.open.load(Ordering::SeqCst) < usize::midpoint(OPEN_MIN, OPEN_WANTED) {
            ensure!(began.elapsed() < PATIENCE, "too little is started");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts executions until it is over; then everything that is paused goes on.
    pub(crate) async fn keep_busy(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let mut later = Later::new();
        let mut number = 0_usize;
        for round in 0.. {
            let is_over = self.is_over.load(Ordering::SeqCst);
            while let Some((_, place, order)) =
                later.pop_front_if(|(due, ..)| is_over || *due <= round)
            {
                self.order(&client, place, order).await?;
            }
            if is_over {
                break;
            }
            let list = client
                .get("/v1/executions?status=pending,running,waiting&limit=500")
                .await?;
            let open = list["executions"].as_array().map_or(0, Vec::len);
            self.open.store(open, Ordering::SeqCst);
            let missing = OPEN_WANTED.saturating_sub(open);
            for _ in 0..missing.div_ceil(STARTED_AT_ONCE) {
                let numbers = number..number + STARTED_AT_ONCE;
                for started in join_all(numbers.map(|number| start(&client, number))).await {
                    self.acknowledged.lock().unwrap().push(started?);
                    let due = round + LATER_ROUNDS;
                    if number % PAUSED_EVERY == 3 {
                        self.order(&client, number, "pause").await?;
                        later.push_back((due, number, "resume"));
                    }
                    if number % STOPPED_EVERY == 4 {
                        later.push_back((due, number, "stop"));
                    }
                    number += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Pauses, resumes or stops an execution, which may have ended meanwhile.
    async fn order(
        &self,
        client: &Client,
        place: usize,
        order: &'static str,
    ) -> anyhow::Result<()> {
        let id = format!("e-{place}");
        let path = format!("/v1/executions/{id}/{order}");
        let (status, answer) = client
            .post(&path, &json!({"reason": "the test says so"}))
            .await?;
        ensure!(
            matches!(status, 202 | 409),
            "{order} was answered {status}: {answer}"
        );
        if status == 202 {
            let at_ms = now_ms();
            self.acknowledged.lock().unwrap()[place].is_stopped |= order == "stop";
            self.orders
                .lock()
                .unwrap()
                .push(Ordered { id, order, at_ms });
        }
        Ok(())
    }
}

async fn start(client: &Client, number: usize) -> anyhow::Result<Acknowledged> {
    let workflow = workflows::ALL[number % workflows::ALL.len()].name;
    let id = format!("e-{number}");
    let body = Acknowledged::body(&id, workflow);
    let (status, answer) = client.post("/v1/executions", &body).await?;
    ensure!(status == 202, "a start was answered {status}: {answer}");
    Ok(Acknowledged {
        id,
        workflow,
        at_ms: now_ms(),
        is_stopped: false,
    })
}
