//! An agent at work: tasks into free slots, one Tokio task per attempt.

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eventflow_domain::{Capability, Json, NodeName};
use eventflow_wire::v1::{
    LEASE_TASKS_MAX, Problem,
    tasks::{LeasedTask, ResultItem},
};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    Failure, Handler, Server, Task, Transport,
    backoff::Backoff,
    calls::{Asking, Refused},
    deliver,
    exchange::Outbox,
    held::Held,
    http,
    queue::{Queue, Queued},
    task::Order,
};

/// How long the service may hold back a lease for a first task: rare enough to cost nothing, short enough for proxies.
const LEASE_WAIT: Duration = Duration::from_secs(30);

/// Leases asked for at a time, or pulls from an agent's only queue: while the tasks of one are on their way, what becomes
/// ready goes with the next. In a burst, tasks would otherwise wait for a whole round trip.
const LEASES: u32 = 3;

/// What all parts of an agent share.
pub(crate) struct Running {
    pub(crate) transport: Transport,
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
    draining: watch::Sender<bool>,
    /// How many wait for a first slot.
    waiting: watch::Sender<usize>,
    /// The attempts' Tokio tasks: as many as there are slots.
    tasks: Mutex<JoinSet<()>>,
}

/// What is to be said of an attempt, and the slot it holds.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) item: ResultItem,
    pub(crate) slot: OwnedSemaphorePermit,
    /// Who has given out the task, and is told of it without a detour; nothing where that is not known.
    pub(crate) node: Option<NodeName>,
    /// The task that asks to begin; nothing with a result.
    pub(crate) queued: Option<Box<Queued>>,
}

impl Report {
    /// A task from a queue asks to begin in this slot.
    pub(crate) fn begin(asking: &Asking, queued: Queued, slot: OwnedSemaphorePermit) -> Self {
        Self {
            item: ResultItem::begin(Arc::clone(&queued.task.token), asking.begin()),
            slot,
            node: queued.node.clone(),
            queued: Some(Box::new(queued)),
        }
    }

    /// A result.
    fn result(item: ResultItem, slot: OwnedSemaphorePermit, node: Option<NodeName>) -> Self {
        Self {
            item,
            slot,
            node,
            queued: None,
        }
    }
}

/// A task that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) task: LeasedTask,
    /// Who has given it out, where that is known.
    pub(crate) node: Option<NodeName>,
}

impl From<LeasedTask> for Begun {
    fn from(task: LeasedTask) -> Self {
        Self { task, node: None }
    }
}

/// Who asks for tasks, again and again.
struct Source<'a> {
    tasks: Tasks<'a>,
    /// The most slots that it fills at a time.
    share: usize,
}

/// Where tasks come from.
enum Tasks<'a> {
    /// Leases of all capabilities.
    Leased(&'a Server),
    /// The queue of one.
    Queued(Queue),
}

impl Running {
    pub(crate) fn new(
        transport: Transport,
        asking: Asking,
        handlers: HashMap<Capability, Arc<dyn Handler>>,
        concurrency: u32,
        batched: bool,
    ) -> Self {
        Self {
            transport,
            asking,
            slots: Arc::new(Semaphore::new(concurrency as usize)),
            held: Held::default(),
            outbox: Outbox::default(),
            deliveries: Semaphore::new(deliver::CONNECTIONS),
            handlers,
            concurrency,
            batched,
            draining: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
            tasks: Mutex::new(JoinSet::new()),
        }
    }

    /// From now on nothing new is taken.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits for something, but not once nothing new is to be taken.
    pub(crate) async fn unless_draining<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut draining = self.draining.subscribe();
        tokio::select! {
            done = work => Some(done),
            _ = draining.wait_for(|draining| *draining) => None,
        }
    }

    /// Waits for so long, or until the end begins: what waits for its next try has one more at once then.
    pub(crate) async fn pause(&self, pause: Duration) {
        let sleep = tokio::time::sleep(pause);
        if self.is_draining() {
            sleep.await;
        } else {
            self.unless_draining(sleep).await;
        }
    }

    /// Takes tasks into free slots until nothing new is to be taken, or until the service says never.
    pub(crate) async fn poll(self: &Arc<Self>) -> Option<Box<Problem>> {
        let polls = self.sources().into_iter();
        let mut polls: FuturesUnordered<_> = polls.map(|source| self.poll_one(source)).collect();
        while let Some(ended) = polls.next().await {
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// Several times the only one there is, so that they take turns; each once where there are more.
    fn sources(&self) -> Vec<Source<'_>> {
        let of = |tasks, polls| Source {
            tasks,
            share: (self.concurrency.div_ceil(polls) as usize).min(LEASE_TASKS_MAX),
        };
        let polls = LEASES.min(self.concurrency);
        let capabilities = &self.asking.capabilities;
        match &self.transport {
            Transport::Http(server) => (0..polls)
                .map(|_| of(Tasks::Leased(server), polls))
                .collect(),
            Transport::Nats(nats) => {
                let alone = capabilities.len() == 1;
                let polls = if alone { polls } else { 1 };
                let queues = capabilities.iter().flat_map(|capability| {
                    (0..polls).map(|_| Queue::new(nats.clone(), capability.clone(), alone))
                });
                let queues = queues.map(|queue| of(Tasks::Queued(queue), polls));
                queues.collect()
            }
        }
    }

    async fn poll_one(self: &Arc<Self>, mut source: Source<'_>) -> Option<Box<Problem>> {
        let mut backoff = Backoff::new();
        let mut heard = true;
        loop {
            let free = self.unless_draining(self.free_slots(&source)).await?;
            let taken = match &mut source.tasks {
                Tasks::Leased(server) => self.unless_draining(self.lease(server, free)).await?,
                Tasks::Queued(queue) => queue.pull(self, free).await,
            };
            match taken {
                Ok(()) => {
                    if !heard {
                        tracing::info!(server = self.transport.url(), "the service answers again");
                        heard = true;
                    }
                    backoff.reset();
                }
                Err(Refused::Never(problem)) => return Some(problem),
                Err(Refused::Later { why, after }) => {
                    let pause = backoff.pause(after);
                    tracing::warn!(why, ?pause, "no tasks, trying again");
                    heard = false;
                    self.unless_draining(tokio::time::sleep(pause)).await?;
                }
            }
        }
    }

    async fn lease(
        self: &Arc<Self>,
        server: &Server,
        free: OwnedSemaphorePermit,
    ) -> Result<(), Refused> {
        let tasks = http::lease(server, &self.asking, free.num_permits(), LEASE_WAIT).await?;
        self.start(tasks.into_iter().map(Begun::from), Some(free));
        Ok(())
    }

    /// The slots that are free now, at least one, and at most the share of who asks.
    async fn free_slots(&self, source: &Source<'_>) -> OwnedSemaphorePermit {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let mut free = self.one_slot().await;
        self.waiting.send_modify(|waiting| *waiting -= 1);
        let share = match &source.tasks {
            Tasks::Leased(_) => source.share,
            Tasks::Queued(queue) => queue.slots(source.share),
        };
        let more = self.slots.available_permits().min(share - 1);
        let more = u32::try_from(more).expect("the most tasks of a lease fit");
        // Others take slots too: where these are gone meanwhile, one will do.
        if let Ok(more) = Arc::clone(&self.slots).try_acquire_many_owned(more) {
            free.merge(more);
        }
        free
    }

    /// Waits until somebody waits for a slot. Who does not any more has got one, or the agent ends.
    pub(crate) async fn slot_is_wanted(&self) {
        let mut waiting = self.waiting.subscribe();
        // An error would mean that the agent is gone, and this with it.
        let _ = waiting.wait_for(|waiting| *waiting > 0).await;
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
        begun: impl IntoIterator<Item = Begun>,
        mut free: Option<OwnedSemaphorePermit>,
    ) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        for Begun { task: leased, node } in begun {
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
            tasks.spawn(Arc::clone(self).attempt(task, node, orders, slot));
        }
    }

    async fn attempt(
        self: Arc<Self>,
        task: Task,
        node: Option<NodeName>,
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
        let report = Report::result(item, slot, node);
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
            .field("transport", &self.transport)
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
