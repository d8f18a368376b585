//! What the agent holds: every attempt from its lease until its result is delivered, kept alive by signs of life.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use eventflow_domain::Json;
use eventflow_wire::v1::{
    RESULTS_MAX,
    tasks::{HeartbeatBody, ResultAnswer, ResultItem, ResultsBody},
};
use tokio::sync::watch;

use crate::{
    calls::{self, Refused},
    running::Running,
    task::Order,
};

/// Signs of life are looked after so many times per lease. What was not heard of for one such span is told: so each
/// attempt is heard of at least every third of its lease.
const TICKS_PER_LEASE: u32 = 6;

/// The attempts of an agent by their tokens. Bounded by the agent's slots.
#[derive(Debug, Default)]
pub(crate) struct Held {
    attempts: Mutex<HashMap<Arc<str>, Attempt>>,
}

#[derive(Debug)]
struct Attempt {
    orders: watch::Sender<Order>,
    progress: Arc<Mutex<Option<Json>>>,
    heard_of: Instant,
}

impl Held {
    /// Holds one more; `None` where it is held already: it was delivered twice.
    pub(crate) fn hold(
        &self,
        token: &Arc<str>,
        progress: &Arc<Mutex<Option<Json>>>,
    ) -> Option<watch::Receiver<Order>> {
        let mut attempts = self.lock();
        if attempts.contains_key(token) {
            return None;
        }
        let (orders, receiver) = watch::channel(Order::GoOn);
        let attempt = Attempt {
            orders,
            progress: Arc::clone(progress),
            heard_of: Instant::now(),
        };
        attempts.insert(Arc::clone(token), attempt);
        Some(receiver)
    }

    /// Its result is delivered, or nobody wants it.
    pub(crate) fn release(&self, token: &str) {
        self.lock().remove(token);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether a result of it would be of no use.
    pub(crate) fn is_stopped(&self, token: &str) -> bool {
        self.lock()
            .get(token)
            .is_none_or(|attempt| *attempt.orders.borrow() == Order::Stop)
    }

    /// Orders what is more urgent than the order before.
    pub(crate) fn order_all(&self, order: Order) {
        for attempt in self.lock().values() {
            attempt.order(order);
        }
    }

    fn stop(&self, token: &str) {
        if let Some(attempt) = self.lock().get(token) {
            attempt.order(Order::Stop);
        }
    }

    /// Those not heard of for `span`, marked as heard of now.
    fn due(&self, span: Duration) -> Vec<ResultItem> {
        let now = Instant::now();
        let mut attempts = self.lock();
        let due = attempts.iter_mut().filter(|(_, attempt)| {
            *attempt.orders.borrow() != Order::Stop && now - attempt.heard_of >= span
        });
        due.map(|(token, attempt)| {
            attempt.heard_of = now;
            let progress = attempt
                .progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            ResultItem {
                heartbeat: Some(HeartbeatBody { progress }),
                ..ResultItem::heartbeat(Arc::clone(token))
            }
        })
        .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    fn order(&self, order: Order) {
        self.orders.send_if_modified(|current| {
            let more = order > *current;
            *current = order.max(*current);
            more
        });
    }
}

/// Sends signs of life for ever, and stops what the service does not want any more.
pub(crate) async fn keep_alive(running: Arc<Running>) {
    let span = running.asking.lease / TICKS_PER_LEASE;
    loop {
        tokio::time::sleep(span).await;
        for results in running.held.due(span).chunks(RESULTS_MAX) {
            let body = ResultsBody {
                results: results.to_vec(),
                lease: None,
            };
            match running.transport.results(&body, None).await {
                Ok(answer) => answer
                    .results
                    .iter()
                    .for_each(|answer| obey(&running.held, answer)),
                // The next tick tries again; leases outlast several.
                Err(Refused::Later { why, .. }) => {
                    tracing::warn!(why, "a sign of life was not heard");
                }
                Err(Refused::Never(problem)) => {
                    tracing::error!(
                        problem = calls::said(&problem),
                        "a sign of life was refused"
                    );
                }
            }
        }
    }
}

fn obey(held: &Held, answer: &ResultAnswer) {
    let unwanted = matches!(answer.status, 404 | 409);
    if unwanted
        || answer
            .heartbeat
            .is_some_and(|heartbeat| heartbeat.cancelled)
    {
        tracing::info!(token = %answer.token, "a task is not wanted any more");
        held.stop(&answer.token);
    }
}
