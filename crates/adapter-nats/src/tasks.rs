//! The `TaskQueue` port: ready attempts on a work queue that agents pull from, and that may lose what it holds.
//!
//! The engine owes every attempt until it has begun; what is here is only its way to an agent. So the stream is soft: on
//! one server it is written without waiting for the disk, on three it is in their memories. [`watched`] knows where each
//! attempt is, [`publishing`] brings it there, [`looking`] finds out what got lost, [`remaking`] replaces what has no
//! leader, [`taking`] pulls for an agent that came over HTTP. An agent on NATS pulls by itself.

mod consumers;
mod lines;
mod looking;
mod message;
mod publishing;
mod remaking;
mod taking;
mod watched;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{
        Context,
        stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, Stream},
    },
};
use async_trait::async_trait;
use eventflow_domain::{Capability, NodeName, PartitionId, Tenant};
use eventflow_ports::{OfferedAttempt, QueueError, Source, TaskOffer, TaskQueue};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use self::{
    consumers::{Consumers, Queue},
    lines::Lines,
    publishing::{Outgoing, Publishing},
    taking::Taking,
    watched::{Accepted, Watched},
};
use crate::{NatsConfig, OpenError, bucket, stream as streams};

/// Attempts that are watched; more are refused with `Unavailable` and offered again later. Each is some 500 bytes.
const WATCHED_MAX: usize = 1_000_000;
/// How long a message waits for an agent: an execution's longest life. What is still wanted is offered again.
const KEPT: Duration = Duration::from_hours(24);
/// The metric's name, as in memory.
const QUEUED_TASKS: &str = "eventflow_queued_tasks";

/// [`TaskQueue`] on the stream `<PREFIX>_TASKS`.
#[derive(Debug)]
pub struct NatsTaskQueue {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
}

/// What offers, looks and takes have in common.
#[derive(Debug)]
struct Shared {
    client: Client,
    context: Context,
    stream: Stream<()>,
    needed: Config,
    /// The stream of the roll of nodes.
    roll: String,
    prefix: String,
    /// Who gives them out.
    node: Option<NodeName>,
    answer_within: Duration,
    consumers: Consumers,
    lines: Lines,
    watched: Mutex<Watched>,
    /// When the last look was taken; one at a time.
    looked: tokio::sync::Mutex<Option<Instant>>,
    /// The metric of how many tasks wait.
    level: metrics::Gauge,
}

impl NatsTaskQueue {
    /// Creates the stream where it is not there, and verifies it where it is.
    pub async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        streams::check_prefix(&config.prefix)?;
        metrics::describe_gauge!(QUEUED_TASKS, "Ready attempts that wait for an agent");
        let (context, needed) = (config.context(client), needed(config));
        let deadline = Instant::now() + config.open_within;
        let stream = streams::open(&context, &needed, deadline).await?;
        let shared = Arc::new(Shared {
            client: client.clone(),
            consumers: Consumers::new(stream.clone(), config.prefix.clone()),
            lines: Lines::new(client.clone()),
            stream,
            needed,
            roll: bucket::keys_stream(config, "LEASES"),
            prefix: config.prefix.clone(),
            node: config.node.clone(),
            answer_within: config.answer_within,
            watched: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
            level: metrics::gauge!(QUEUED_TASKS),
            context: context.clone(),
        });
        tokio::spawn(lines::tend(Arc::downgrade(&shared)));
        let (outgoing, waiting) = mpsc::channel(publishing::WAITING_MAX);
        tokio::spawn(Publishing::new(shared.clone(), context).run(waiting));
        Ok(Self { shared, outgoing })
    }

    /// Offers that have to be sent; what is on its way is not.
    fn accepted(&self, tasks: Vec<TaskOffer>) -> (Vec<Outgoing>, usize) {
        let limit = self.shared.client.max_payload();
        let mut watched = self.shared.watched();
        let (mut accepted, mut full) = (Vec::with_capacity(tasks.len()), 0);
        for offer in tasks {
            let attempt = offer.offered();
            if message::bytes_max(&offer) > limit {
                tracing::error!(
                    execution = %attempt.execution, task = %attempt.task, bytes = message::bytes_max(&offer), limit,
                    "a task is too large for a message and cannot be given to an agent: make its input smaller, or raise \
                     max_payload of the NATS server"
                );
                continue;
            }
            match watched.offer(&attempt, Queue::of(&offer), WATCHED_MAX) {
                Accepted::Send(dispatch) => accepted.push(Outgoing {
                    offer,
                    attempt,
                    dispatch,
                }),
                Accepted::Repeated => {}
                Accepted::Full => full += 1,
            }
        }
        (accepted, full)
    }

    /// Hands offers over to be sent; those that there was no room for may be offered again.
    async fn send(&self, accepted: Vec<Outgoing>) -> Result<(), QueueError> {
        let deadline = Instant::now() + self.shared.answer_within;
        let mut rest = accepted.into_iter();
        for next in rest.by_ref() {
            let attempt = (next.attempt.clone(), next.dispatch);
            let sent = tokio::time::timeout_at(deadline, self.outgoing.send(next)).await;
            if !matches!(sent, Ok(Ok(()))) {
                let mut watched = self.shared.watched();
                watched.unsent(&attempt.0, attempt.1);
                for left in rest {
                    watched.unsent(&left.attempt, left.dispatch);
                }
                return Err(unavailable(format!(
                    "{} tasks wait to be sent to NATS already",
                    publishing::WAITING_MAX
                )));
            }
        }
        Ok(())
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        // Nothing is left half-changed by a panic.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TaskQueue for NatsTaskQueue {
    async fn offer(&self, tasks: Vec<TaskOffer>) -> Result<(), QueueError> {
        let (accepted, full) = self.accepted(tasks);
        self.send(accepted).await?;
        if full == 0 {
            return Ok(());
        }
        Err(unavailable(format!(
            "{WATCHED_MAX} tasks wait for agents already: {full} were not taken, offer them again later and start more \
             agents"
        )))
    }

    async fn take(
        &self,
        tenant: &Tenant,
        capabilities: &[Capability],
        max: usize,
        wait: Duration,
    ) -> Result<Vec<TaskOffer>, QueueError> {
        let deadline = Instant::now() + wait;
        if max == 0 || capabilities.is_empty() {
            return Ok(Vec::new());
        }
        let taking = Taking::begin(&self.shared, tenant, capabilities, max, deadline).await?;
        taking.wait().await
    }

    async fn lost(&self, partition: PartitionId) -> Result<Vec<OfferedAttempt>, QueueError> {
        // Whoever asks again finds the same server, or its successor.
        let looked = timeout(self.shared.answer_within, self.shared.look()).await;
        looked
            .map_err(|elapsed| QueueError::Unavailable(elapsed.into()))?
            .map_err(QueueError::Unavailable)?;
        Ok(self.shared.watched().take_lost(partition))
    }

    fn settle(&self, attempt: &OfferedAttempt) {
        self.shared.watched().settle(attempt);
    }

    fn forget(&self, partition: PartitionId) {
        self.shared.watched().forget(partition);
    }
}

/// The stream of tasks as it must be.
fn needed(config: &NatsConfig) -> Config {
    let (storage, persist_mode) = if config.replicas == 1 {
        (StorageType::File, PersistenceMode::Async)
    } else {
        (StorageType::Memory, PersistenceMode::Default)
    };
    Config {
        name: format!("{}_TASKS", config.upper_prefix()),
        subjects: vec![format!("{}.tasks.*.*", config.prefix)],
        description: Some("EventFlow's: tasks on their way to agents".to_owned()),
        storage,
        persist_mode: Some(persist_mode),
        num_replicas: config.replicas,
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_age: KEPT,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        max_message_size: -1,
        allow_direct: false,
        ..Config::default()
    }
}

fn unavailable(reason: impl Into<Source>) -> QueueError {
    QueueError::Unavailable(reason.into())
}
