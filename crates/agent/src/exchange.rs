//! Results in batches, each of which also brings the next tasks or asks to begin them: one round trip for both.
//!
//! While a request is under way, results gather; the next request takes them all. So batches are as large as the load
//! is high, without a timer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eventflow_wire::v1::{
    Problem, REQUEST_BYTES_MAX, RESULTS_MAX,
    tasks::{BeginAnswer, LeasedTask, ResultAnswer, ResultItem, ResultsAnswer, ResultsBody},
};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::{
    backoff::Backoff,
    calls::{self, Refused, Settled},
    deliver,
    queue::Queued,
    running::{Report, Running},
};

/// Requests under way at a time: one is on its way to the disk while the next one is read and the last one answered.
pub(crate) const CONNECTIONS: usize = 3;
/// A further request beside one under way must carry so many results: below, waiting for it costs less than sending.
const WORTH_A_CONNECTION: usize = 64;
/// Results of one request together: half of what the service takes, so that estimates may be wrong.
const BATCH_BYTES_MAX: usize = REQUEST_BYTES_MAX / 2;
/// What a result has besides its output: its token and the JSON around it.
const RESULT_BYTES: usize = 300;

/// Results, and tasks that ask to begin, waiting for a request. Bounded by the agent's slots: each holds one.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Report>,
    under_way: usize,
}

impl Outbox {
    pub(crate) fn push(&self, report: Report) {
        self.lock().waiting.push_back(report);
        self.changed.notify_one();
    }

    /// The next batch, once there is one that is worth a request.
    async fn next(&self) -> Vec<Report> {
        loop {
            if let Some(batch) = self.lock().take() {
                return batch;
            }
            self.changed.notified().await;
        }
    }

    /// A request is over; what has to be brought again goes first.
    fn over(&self, again: Vec<Report>) {
        let mut state = self.lock();
        state.under_way -= 1;
        for report in again.into_iter().rev() {
            state.waiting.push_front(report);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Option<Vec<Report>> {
        // A task that asks to begin has waited already.
        let begins = || self.waiting.iter().any(|report| report.queued.is_some());
        let worth = if self.under_way == 0 || begins() {
            1
        } else {
            WORTH_A_CONNECTION
        };
        if self.waiting.len() < worth {
            return None;
        }
        let mut bytes = 0;
        let fitting = self.waiting.iter().take(RESULTS_MAX).take_while(|report| {
            bytes += weight(&report.item);
            bytes <= BATCH_BYTES_MAX
        });
        // One that is too large for any batch goes alone.
        let count = fitting.count().max(1);
        self.under_way += 1;
        Some(self.waiting.drain(..count).collect())
    }
}

fn weight(item: &ResultItem) -> usize {
    let output = item.complete.as_ref();
    RESULT_BYTES + output.map_or(0, |complete| complete.output.as_str().len())
}

/// Brings batches for ever; as many of these run as there are connections.
pub(crate) async fn run(running: Arc<Running>) {
    let mut backoff = Backoff::new();
    loop {
        let batch = running.outbox.next().await;
        let batch = if running.is_draining() {
            hand_back(batch).await
        } else {
            batch
        };
        let (again, pause) = if batch.is_empty() {
            (batch, None)
        } else {
            bring(&running, batch).await
        };
        if let Some((why, after)) = pause {
            let pause = backoff.pause(after);
            let results = again.len();
            tracing::warn!(results, why, ?pause, "results were not taken, trying again");
            running.pause(pause).await;
        } else {
            backoff.reset();
        }
        running.outbox.over(again);
    }
}

type Pause = Option<(String, Option<std::time::Duration>)>;

/// Brings a batch, and gives what of it has to be brought again.
async fn bring(running: &Arc<Running>, batch: Vec<Report>) -> (Vec<Report>, Pause) {
    let leases = running.transport.leases() && !running.is_draining();
    let body = ResultsBody {
        results: batch.iter().map(|report| report.item.clone()).collect(),
        lease: leases.then(|| running.asking.body(batch.len(), None)),
    };
    match running.transport.results(&body).await {
        Ok(answer) => settle(running, batch, answer).await,
        Err(Refused::Never(problem)) => {
            one_by_one(running, batch, &problem).await;
            (Vec::new(), None)
        }
        Err(Refused::Later { why, after }) => (batch, Some((why, after))),
    }
}

/// Sorts the answers, starts the next tasks in the slots that became free, and gives what has to be brought again.
async fn settle(
    running: &Arc<Running>,
    batch: Vec<Report>,
    answer: ResultsAnswer,
) -> (Vec<Report>, Pause) {
    let mut free: Option<OwnedSemaphorePermit> = None;
    let mut tasks = answer.tasks.unwrap_or_default();
    let mut again = Vec::new();
    let mut pause = None;
    for (mut report, answer) in batch.into_iter().zip(answer.results) {
        let slot = if let Some(queued) = report.queued {
            tasks.extend(begun(*queued, answer).await);
            report.slot
        } else {
            match result(&mut report.item, answer) {
                Ok(()) => {
                    running.held.release(&report.item.token);
                    report.slot
                }
                Err(later) => {
                    pause = later.or(pause);
                    again.push(report);
                    continue;
                }
            }
        };
        match &mut free {
            Some(free) => free.merge(slot),
            None => free = Some(slot),
        }
    }
    if let Some(problem) = answer.lease_problem {
        tracing::debug!(
            problem = calls::said(&problem),
            "no tasks came with the results"
        );
    }
    running.start(tasks, free);
    (again, pause)
}

/// What became of a result; the error where it, or what was put in its place, has to be brought again, with the pause
/// before that.
fn result(item: &mut ResultItem, answer: ResultAnswer) -> Result<(), Pause> {
    let status = answer.status;
    let problem = || answer.problem.unwrap_or_else(|| unexplained(status));
    let settled = match status {
        200 => Ok(Settled::Accepted),
        _ => Settled::refused(status, problem, None),
    };
    match settled {
        Ok(settled) => deliver::log(item, &settled),
        Err(Refused::Later { why, after }) => return Err(Some((why, after))),
        Err(Refused::Never(problem)) => {
            if let Some(failure) = deliver::instead(item, &problem) {
                *item = failure;
                return Err(None);
            }
        }
    }
    Ok(())
}

/// The task of a queue, where it may be performed.
async fn begun(queued: Queued, answer: ResultAnswer) -> Option<LeasedTask> {
    match answer.begin {
        Some(BeginAnswer {
            granted: true,
            lease_until: Some(until),
            ..
        }) => Some(queued.settle().await.begun(until)),
        Some(BeginAnswer {
            granted: false,
            reason,
            ..
        }) => {
            tracing::debug!(token = %answer.token, reason, "a task is not wanted any more");
            queued.settle().await;
            None
        }
        _ => {
            let problem = answer.problem.unwrap_or_else(|| unexplained(answer.status));
            let problem = calls::said(&problem);
            tracing::warn!(token = %answer.token, problem, "a task could not begin");
            queued.again().await;
            None
        }
    }
}

/// Nothing new is begun: what waits for it is for other agents. Gives the results.
async fn hand_back(batch: Vec<Report>) -> Vec<Report> {
    let mut results = Vec::with_capacity(batch.len());
    for report in batch {
        match report.queued {
            Some(queued) => queued.hand_back().await,
            None => results.push(report),
        }
    }
    results
}

/// A batch that can never be taken as it is: each result has its own request, so that one cannot spoil the others.
async fn one_by_one(running: &Running, batch: Vec<Report>, problem: &Problem) {
    tracing::warn!(
        problem = calls::said(problem),
        "a batch was refused, its results go one by one"
    );
    for report in batch {
        match report.queued {
            Some(queued) => queued.again().await,
            None => deliver::singly(running, report).await,
        }
    }
}

fn unexplained(status: u16) -> Problem {
    Problem::new(status, "Refused", "the service gave no reason")
}
