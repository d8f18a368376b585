//! The embedded mode's task queue: hands ready attempts to whoever takes them, in turns between executions.
//!
//! One lock around plain data ([`waiting`] tasks and [`takers`]), held for microseconds; waking happens outside of it.
//! An offer hands its tasks straight to the takers that have waited longest, so that nobody is woken in vain and
//! nobody who comes later is served first. A taker that is dropped after it was served gives its tasks back.

mod takers;
mod waiting;
mod watched;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use eventflow_domain::{Capability, PartitionId, Tenant};
use eventflow_ports::{OfferedAttempt, QueueError, TaskOffer, TaskQueue};
use tokio::sync::oneshot;

use self::{
    takers::{TakerId, Takers},
    waiting::Waiting,
    watched::Watched,
};
use crate::lock;

/// Tasks of all tenants that wait here; more are refused with `Unavailable` and offered again later. A task is about
/// half a kilobyte beside its input, which the execution holds anyway: half a gigabyte when full.
pub const QUEUED_TASKS_MAX: usize = 1_000_000;
/// The metric's name.
const QUEUED_TASKS: &str = "eventflow_queued_tasks";

/// Ready attempts by tenant and capability. A clone serves the same queue.
#[derive(Debug, Clone)]
pub struct MemoryTaskQueue {
    queues: Arc<Mutex<Queues>>,
    /// Nothing where nobody asks what got lost: alone on its store, an engine has everything that was taken itself.
    watched: Option<Arc<Mutex<Watched>>>,
    tasks_max: usize,
    /// The metric of how many tasks wait.
    level: metrics::Gauge,
}

/// All tenants' queues.
#[derive(Debug, Default)]
struct Queues {
    tenants: HashMap<Tenant, Queue>,
    /// Tasks that wait or are handed over but not fetched yet, of all tenants.
    tasks: usize,
}

/// One tenant's: where a task waits that a taker could have, that taker is served before the lock is released.
#[derive(Debug, Default)]
struct Queue {
    waiting: Waiting,
    takers: Takers,
}

/// Takers that were served and are to be woken, outside of the lock.
type Wakes = Vec<oneshot::Sender<()>>;

impl Default for MemoryTaskQueue {
    fn default() -> Self {
        Self::new(QUEUED_TASKS_MAX)
    }
}

impl MemoryTaskQueue {
    /// An empty queue for so many tasks.
    pub fn new(tasks_max: usize) -> Self {
        metrics::describe_gauge!(QUEUED_TASKS, "Ready attempts that wait for an agent");
        Self {
            queues: Arc::default(),
            watched: None,
            tasks_max,
            level: metrics::gauge!(QUEUED_TASKS),
        }
    }

    /// An instance of one of several engines on the same queue: it tells what was offered through it and got lost with
    /// whoever took it.
    #[must_use]
    pub fn watching(&self) -> Self {
        Self {
            watched: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// How many tasks wait, of all tenants.
    pub fn len(&self) -> usize {
        lock(&self.queues).tasks
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what is there, or a place in the line where there is nothing.
    fn take_or_wait(
        &self,
        tenant: &Tenant,
        capabilities: &[Capability],
        max: usize,
        may_wait: bool,
    ) -> Taken<'_> {
        let queues = &mut *lock(&self.queues);
        if let Some(queue) = queues.tenants.get_mut(tenant) {
            let taken = queue.waiting.take(capabilities, max);
            if !taken.is_empty() {
                queue.waiting.forget(&taken);
                queues.tasks -= taken.len();
                self.tell(queues);
                queues.close(tenant);
                return Taken::Now(taken);
            }
            queues.close(tenant);
        }
        if !may_wait || max == 0 || capabilities.is_empty() {
            return Taken::Now(Vec::new());
        }
        let queue = queues.tenants.entry(tenant.clone()).or_default();
        let (id, woken) = queue.takers.join(capabilities, max);
        Taken::Later(InLine {
            queue: self,
            tenant: tenant.clone(),
            id: Some(id),
            woken,
        })
    }

    /// Leaves the line with what was handed over meanwhile, and with what came since: the busier the service, the later
    /// this runs, and the more it takes.
    fn leave(&self, tenant: &Tenant, id: TakerId) -> Vec<TaskOffer> {
        let queues = &mut *lock(&self.queues);
        let Some(queue) = queues.tenants.get_mut(tenant) else {
            return Vec::new();
        };
        let Some(leaving) = queue.takers.leave(id) else {
            return Vec::new();
        };
        let mut taken = leaving.handed_over;
        let more = leaving.max - taken.len();
        taken.extend(queue.waiting.take(&leaving.capabilities, more));
        queue.waiting.forget(&taken);
        queues.tasks -= taken.len();
        self.tell(queues);
        queues.close(tenant);
        taken
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 tasks")]
    fn tell(&self, queues: &Queues) {
        self.level.set(queues.tasks as f64);
    }

    /// Leaves the line without wanting anything: what was handed over goes back to where it was, or to the next taker.
    fn give_up(&self, tenant: &Tenant, id: TakerId) {
        let mut wakes = Wakes::new();
        {
            let queues = &mut *lock(&self.queues);
            let Some(queue) = queues.tenants.get_mut(tenant) else {
                return;
            };
            let Some(taker) = queue.takers.leave(id) else {
                return;
            };
            let unwanted = taker.handed_over;
            let capabilities: Vec<_> = unwanted
                .iter()
                .map(|task| task.capability.clone())
                .collect();
            queue.waiting.put_back(unwanted);
            queue.serve(capabilities.iter(), &mut wakes);
            queues.close(tenant);
        }
        wake(wakes);
    }

    /// Adds tasks, as far as there is room, and serves those who wait for them.
    fn add(&self, tasks: Vec<TaskOffer>) -> Result<(), QueueError> {
        let offered = tasks.len();
        let mut added = 0;
        let mut wakes = Wakes::new();
        {
            let queues = &mut *lock(&self.queues);
            // In order, so that the same offer always serves in the same one.
            let mut to_serve: BTreeMap<Tenant, Vec<Capability>> = BTreeMap::new();
            for task in tasks {
                if queues.tasks >= self.tasks_max {
                    break;
                }
                added += 1;
                let capabilities = to_serve.entry(task.tenant.clone()).or_default();
                if !capabilities.contains(&task.capability) {
                    capabilities.push(task.capability.clone());
                }
                let queue = queues.tenants.entry(task.tenant.clone()).or_default();
                if queue.waiting.add(task) {
                    queues.tasks += 1;
                }
            }
            self.tell(queues);
            for (tenant, capabilities) in to_serve {
                if let Some(queue) = queues.tenants.get_mut(&tenant) {
                    queue.serve(capabilities.iter(), &mut wakes);
                }
            }
        }
        wake(wakes);
        if added == offered {
            return Ok(());
        }
        Err(QueueError::Unavailable(
            format!(
                "the task queue is full with {} tasks: {} of {offered} were not taken, offer them again later and \
                 start more agents",
                self.tasks_max,
                offered - added
            )
            .into(),
        ))
    }
}

impl Queues {
    /// Whether a task waits, or is handed over but not fetched yet.
    fn has(&self, attempt: &OfferedAttempt) -> bool {
        let queue = self.tenants.get(&attempt.tenant);
        queue.is_some_and(|queue| queue.waiting.knows(attempt))
    }

    /// Forgets a tenant who has nothing here and wants nothing.
    fn close(&mut self, tenant: &Tenant) {
        if let Some(queue) = self.tenants.get(tenant)
            && queue.waiting.is_empty()
            && queue.takers.is_empty()
        {
            self.tenants.remove(tenant);
        }
    }
}

impl Queue {
    /// Hands waiting tasks of these capabilities to the takers that have waited longest for them.
    fn serve<'a>(&mut self, capabilities: impl Iterator<Item = &'a Capability>, wakes: &mut Wakes) {
        for capability in capabilities {
            while let Some((id, taker)) = self.takers.longest_waiting(capability) {
                let tasks = self.waiting.take(&taker.capabilities, taker.max);
                if tasks.is_empty() {
                    break;
                }
                wakes.extend(self.takers.hand_over(id, tasks));
            }
        }
    }
}

/// Wakes takers. Those that are gone meanwhile have given their tasks back.
fn wake(wakes: Wakes) {
    for taker in wakes {
        let _ = taker.send(());
    }
}

/// What a take gets.
enum Taken<'a> {
    /// What was there; empty where it does not wait.
    Now(Vec<TaskOffer>),
    /// Nothing yet.
    Later(InLine<'a>),
}

/// A place in the line, given up when it is dropped.
struct InLine<'a> {
    queue: &'a MemoryTaskQueue,
    tenant: Tenant,
    /// `None` once it was left.
    id: Option<TakerId>,
    woken: oneshot::Receiver<()>,
}

impl InLine<'_> {
    async fn wait(mut self, wait: Duration) -> Vec<TaskOffer> {
        // Woken, or not in time: what counts is what has been handed over when the line is left.
        let _ = tokio::time::timeout(wait, &mut self.woken).await;
        self.id
            .take()
            .map_or_else(Vec::new, |id| self.queue.leave(&self.tenant, id))
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.queue.give_up(&self.tenant, id);
        }
    }
}

#[async_trait]
impl TaskQueue for MemoryTaskQueue {
    async fn offer(&self, tasks: Vec<TaskOffer>) -> Result<(), QueueError> {
        if let Some(watched) = &self.watched {
            let watched = &mut *lock(watched);
            for task in &tasks {
                watched.watch(task);
            }
        }
        self.add(tasks)
    }

    async fn take(
        &self,
        tenant: &Tenant,
        capabilities: &[Capability],
        max: usize,
        wait: Duration,
    ) -> Result<Vec<TaskOffer>, QueueError> {
        match self.take_or_wait(tenant, capabilities, max, !wait.is_zero()) {
            Taken::Now(tasks) => Ok(tasks),
            Taken::Later(in_line) => Ok(in_line.wait(wait).await),
        }
    }

    async fn lost(&self, partition: PartitionId) -> Result<Vec<OfferedAttempt>, QueueError> {
        let Some(watched) = &self.watched else {
            return Ok(Vec::new());
        };
        let (watched, queues) = (&mut *lock(watched), &*lock(&self.queues));
        Ok(watched.lost(partition, |attempt| queues.has(attempt)))
    }

    fn settle(&self, attempt: &OfferedAttempt) {
        if let Some(watched) = &self.watched {
            lock(watched).settle(attempt);
        }
    }

    fn forget(&self, partition: PartitionId) {
        if let Some(watched) = &self.watched {
            lock(watched).forget(partition);
        }
    }
}

#[cfg(test)]
mod tests;
