//! Results in batches, each of which also brings the next tasks or asks to begin them: one round trip for both.
//!
//! While a request is under way, results gather; the next request takes them all. So batches are as large as the load
//! is high, without a timer.
//!
//! Where it is known which node has given out a task, what is said of it goes to that node, in a line of its own: another
//! one would only pass it on. A node that does not answer holds up its own line only, which then goes to any other.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, btree_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use eventflow_domain::NodeName;
use eventflow_wire::v1::{
    Problem, REQUEST_BYTES_MAX, RESULTS_MAX,
    tasks::{BeginAnswer, ResultAnswer, ResultItem, ResultsAnswer, ResultsBody},
};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::{
    backoff::Backoff,
    calls::{self, Refused, Settled},
    deliver,
    queue::Queued,
    running::{Begun, Report, Running},
};

/// Requests of a line under way at a time: one is on its way to the disk while the next one is read and the last one
/// answered.
const CONNECTIONS: usize = 3;
/// Nodes with lines of their own; what is for more goes to any of them.
const NODES_MAX: usize = 16;
/// Runs of [`run`]: as many as there can be requests.
pub(crate) const RUNS: usize = CONNECTIONS * (NODES_MAX + 1);
/// So long a node that did not answer has no line of its own.
const AVOIDED_FOR: Duration = Duration::from_secs(30);
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
    /// By the node that is told; nothing where it is whichever takes the request.
    lines: BTreeMap<Option<NodeName>, Line>,
    /// Nodes that did not answer, and until when they are told nothing themselves.
    avoided: HashMap<NodeName, Instant>,
}

/// What goes the same way.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Report>,
    under_way: usize,
}

/// What goes together.
struct Batch {
    node: Option<NodeName>,
    reports: Vec<Report>,
}

impl Outbox {
    pub(crate) fn push(&self, report: Report) {
        self.lock().line(&report).waiting.push_back(report);
        self.changed.notify_one();
    }

    /// The next batch, once there is one that is worth a request.
    async fn next(&self) -> Batch {
        loop {
            if let Some(batch) = self.lock().take() {
                return batch;
            }
            self.changed.notified().await;
        }
    }

    /// A request is over; what has to be brought again goes first.
    fn over(&self, node: Option<NodeName>, again: Vec<Report>) {
        let mut state = self.lock();
        state.over(node);
        for report in again.into_iter().rev() {
            state.line(&report).waiting.push_front(report);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A node does not answer: what waits for it goes to any other.
    fn avoid(&self, node: &NodeName) {
        self.lock().avoid(node);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Where a report waits.
    fn line(&mut self, report: &Report) -> &mut Line {
        let node = report.node.clone().filter(|node| self.is_direct(node));
        self.lines.entry(node).or_default()
    }

    fn is_direct(&self, node: &NodeName) -> bool {
        let avoided = self.avoided.get(node);
        let is_avoided = avoided.is_some_and(|until| Instant::now() < *until);
        let has_room = self.lines.len() < NODES_MAX || self.lines.contains_key(&Some(node.clone()));
        has_room && !is_avoided
    }

    fn avoid(&mut self, node: &NodeName) {
        let now = Instant::now();
        self.avoided.retain(|_, until| now < *until);
        self.avoided.insert(node.clone(), now + AVOIDED_FOR);
        if let Some(line) = self.lines.get_mut(&Some(node.clone())) {
            let waiting = mem::take(&mut line.waiting);
            let any = self.lines.entry(None).or_default();
            any.waiting.extend(waiting);
        }
    }

    fn take(&mut self) -> Option<Batch> {
        self.lines.iter_mut().find_map(|(node, line)| {
            let reports = line.take()?;
            let node = node.clone();
            Some(Batch { node, reports })
        })
    }

    /// One of a line's requests is over.
    fn over(&mut self, node: Option<NodeName>) {
        if let Entry::Occupied(mut line) = self.lines.entry(node) {
            line.get_mut().under_way -= 1;
            if line.get().under_way == 0 && line.get().waiting.is_empty() {
                line.remove();
            }
        }
    }
}

impl Line {
    fn take(&mut self) -> Option<Vec<Report>> {
        if self.under_way == CONNECTIONS {
            return None;
        }
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

/// Brings batches for ever; [`RUNS`] of these run.
pub(crate) async fn run(running: Arc<Running>) {
    let mut backoff = Backoff::new();
    loop {
        let Batch { node, reports } = running.outbox.next().await;
        let reports = if running.is_draining() {
            hand_back(reports).await
        } else {
            reports
        };
        let (again, pause) = if reports.is_empty() {
            (reports, None)
        } else {
            bring(&running, node.as_ref(), reports).await
        };
        if let Some((why, after)) = pause {
            let pause = backoff.pause(after);
            let results = again.len();
            tracing::warn!(results, why, ?pause, "results were not taken, trying again");
            running.pause(pause).await;
        } else {
            backoff.reset();
        }
        running.outbox.over(node, again);
    }
}

type Pause = Option<(String, Option<std::time::Duration>)>;

/// Brings a batch, and gives what of it has to be brought again.
async fn bring(
    running: &Arc<Running>,
    node: Option<&NodeName>,
    batch: Vec<Report>,
) -> (Vec<Report>, Pause) {
    let leases = running.transport.leases() && !running.is_draining();
    let body = ResultsBody {
        results: batch.iter().map(|report| report.item.clone()).collect(),
        lease: leases.then(|| running.asking.body(batch.len(), None)),
    };
    match running.transport.results(&body, node).await {
        Ok(answer) => settle(running, batch, answer).await,
        Err(Refused::Never(problem)) => {
            one_by_one(running, batch, &problem).await;
            (Vec::new(), None)
        }
        Err(Refused::Later { why, after }) => match node {
            Some(node) => {
                tracing::debug!(%node, why, "a node was told nothing, another one is");
                running.outbox.avoid(node);
                (batch, None)
            }
            None => (batch, Some((why, after))),
        },
    }
}

/// Sorts the answers, starts the next tasks in the slots that became free, and gives what has to be brought again.
async fn settle(
    running: &Arc<Running>,
    batch: Vec<Report>,
    answer: ResultsAnswer,
) -> (Vec<Report>, Pause) {
    let mut free: Option<OwnedSemaphorePermit> = None;
    let leased = answer.tasks.unwrap_or_default();
    let mut tasks: Vec<_> = leased.into_iter().map(Begun::from).collect();
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
async fn begun(queued: Queued, answer: ResultAnswer) -> Option<Begun> {
    match answer.begin {
        Some(BeginAnswer {
            granted: true,
            lease_until: Some(until),
            ..
        }) => {
            let node = queued.node.clone();
            let task = queued.settle().await.begun(until);
            Some(Begun { task, node })
        }
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
