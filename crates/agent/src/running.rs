//! An agent at work: leases into free slots, one Tokio task per attempt.

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use eventflow_domain::{Capability, Json};
use eventflow_wire::v1::{
    LEASE_TASKS_MAX, Problem,
    tasks::{LeasedTask, ResultItem},
};
use futures::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    Failure, Handler, Server, Task,
    backoff::Backoff,
    calls::{self, Asking, Refused},
    deliver,
    exchange::Outbox,
    held::Held,
    task::Order,
};

/// How long the service may hold back a lease for a first task: rare enough to cost nothing, short enough for proxies.
const LEASE_WAIT: Duration = Duration::from_secs(30);

/// Leases asked for at a time: while the tasks of one are on their way, what becomes ready goes with the next. In a
/// burst, tasks would otherwise wait for a whole round trip.
const LEASES: u32 = 3;

/// What all parts of an agent share.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) asking: Asking,
    /// One for each attempt that is performed or whose result is on its way.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) held: Held,
    pub(crate) outbox: Outbox,
    /// How many single results may be on their way.
    pub(crate) deliveries: Semaphore,
    handlers: HashMap<Capability, Arc<dyn Handler>>,
    concurrency: u32,
    batched: bool,
    draining: AtomicBool,
    /// The attempts' Tokio tasks: as many as there are slots.
    tasks: Mutex<JoinSet<()>>,
}

/// A result on its way, and the slot it leaves free.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) item: ResultItem,
    pub(crate) slot: OwnedSemaphorePermit,
}

impl Running {
    pub(crate) fn new(
        server: Server,
        asking: Asking,
        handlers: HashMap<Capability, Arc<dyn Handler>>,
        concurrency: u32,
        batched: bool,
    ) -> Self {
        Self {
            server,
            asking,
            slots: Arc::new(Semaphore::new(concurrency as usize)),
            held: Held::default(),
            outbox: Outbox::default(),
            deliveries: Semaphore::new(deliver::CONNECTIONS),
            handlers,
            concurrency,
            batched,
            draining: AtomicBool::new(false),
            tasks: Mutex::new(JoinSet::new()),
        }
    }

    /// From now on nothing new is leased.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Leases tasks into free slots, until the service says never.
    pub(crate) async fn poll(self: &Arc<Self>) -> Box<Problem> {
        let leases = LEASES.min(self.concurrency);
        let polls = (0..leases).map(|_| Box::pin(self.poll_one()));
        futures::future::select_all(polls).await.0
    }

    async fn poll_one(self: &Arc<Self>) -> Box<Problem> {
        let mut backoff = Backoff::new();
        let mut heard = true;
        loop {
            let free = self.free_slots().await;
            match calls::lease(&self.server, &self.asking, free.num_permits(), LEASE_WAIT).await {
                Ok(tasks) => {
                    if !heard {
                        tracing::info!(server = self.server.url(), "the service answers again");
                        heard = true;
                    }
                    backoff.reset();
                    self.start(tasks, Some(free));
                }
                Err(Refused::Never(problem)) => return problem,
                Err(Refused::Later { why, after }) => {
                    let pause = backoff.pause(after);
                    tracing::warn!(why, ?pause, "no lease, trying again");
                    heard = false;
                    drop(free);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// The slots that are free now, at least one, and at most one lease's share of all.
    async fn free_slots(&self) -> OwnedSemaphorePermit {
        let mut free = self.one_slot().await;
        let share = self.concurrency.div_ceil(LEASES) as usize;
        let more = self.slots.available_permits();
        let more = more.min(share.min(LEASE_TASKS_MAX) - 1);
        let more = u32::try_from(more).expect("the most tasks of a lease fit");
        // Others take slots too: where these are gone meanwhile, one will do.
        if let Ok(more) = Arc::clone(&self.slots).try_acquire_many_owned(more) {
            free.merge(more);
        }
        free
    }

    async fn one_slot(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .expect("the slots are never closed")
    }

    /// Performs tasks, each in one of these slots; a task beyond them waits for one.
    pub(crate) fn start(
        self: &Arc<Self>,
        leased: Vec<LeasedTask>,
        mut free: Option<OwnedSemaphorePermit>,
    ) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        for leased in leased {
            let progress = Arc::new(Mutex::new(None));
            let Some(orders) = self.held.hold(&leased.token, &progress) else {
                continue;
            };
            let task = Task {
                leased: Arc::new(leased),
                agent: self.asking.agent.clone(),
                progress,
                orders: orders.clone(),
            };
            let slot = free.as_mut().and_then(|free| free.split(1));
            tasks.spawn(Arc::clone(self).attempt(task, orders, slot));
        }
    }

    async fn attempt(
        self: Arc<Self>,
        task: Task,
        orders: watch::Receiver<Order>,
        slot: Option<OwnedSemaphorePermit>,
    ) {
        let slot = match slot {
            Some(slot) => slot,
            None => self.one_slot().await,
        };
        let token = Arc::clone(&task.leased.token);
        let outcome = tokio::select! {
            biased;
            outcome = self.perform(task) => outcome,
            failure = abandoned(orders) => Err(failure),
        };
        if self.held.is_stopped(&token) {
            self.held.release(&token);
            return;
        }
        let item = match outcome {
            Ok(output) => ResultItem::complete(token, output),
            Err(failure) => ResultItem::fail(token, failure.into_body()),
        };
        let report = Report { item, slot };
        if self.batched {
            self.outbox.push(report);
        } else {
            deliver::singly(&self, report).await;
        }
    }

    async fn perform(&self, task: Task) -> Result<Json, Failure> {
        let Some(handler) = self.handlers.get(task.capability()) else {
            return Err(Failure::transient(format!(
                "agent `{}` was given a task of capability `{}`, which it does not have",
                self.asking.agent,
                task.capability()
            )));
        };
        // A handler's panic is its attempt's failure, and nobody else's.
        AssertUnwindSafe(handler.perform(task))
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(panicked(&*panic)))
    }

    /// Ends every attempt that is under way.
    pub(crate) fn abort(&self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("server", &self.server)
            .field("asking", &self.asking)
            .finish_non_exhaustive()
    }
}

async fn abandoned(mut orders: watch::Receiver<Order>) -> Failure {
    if orders
        .wait_for(|order| *order == Order::Abandon)
        .await
        .is_err()
    {
        // Held no longer: the attempt itself ends.
        std::future::pending::<()>().await;
    }
    Failure::transient("the agent shut down before the task was done").titled("Agent shut down")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    Failure::transient(format!("the handler panicked: {said}")).titled("Handler panicked")
}
