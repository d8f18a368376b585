//! The durable pull consumers, one for each tenant and capability, made when one is first needed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{
    consumer::{AckPolicy, pull},
    stream::{ConsumerCreateStrictErrorKind, Stream},
};
use eventflow_domain::{Capability, Tenant};
use eventflow_ports::{Source, TaskOffer};
use tokio::sync::{OnceCell, Semaphore};

/// How long the server waits for a task's acknowledgement before it gives it to somebody else.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);
/// Takes that may wait at one queue, over all nodes and agents: the server keeps some hundred bytes for each.
const WAITING_MAX: i64 = 32 * 1024;
/// A consumer that nobody has used for so long goes: agents may ask for whatever they like.
const UNUSED_FOR: Duration = Duration::from_hours(24);
/// Consumers that are made at a time.
const MADE_AT_ONCE: usize = 16;
/// Consumers that are remembered; with more, those that are there are found again.
const KNOWN_MAX: usize = 16 * 1024;

/// The queue of one tenant and capability.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) tenant: Tenant,
    pub(super) capability: Capability,
}

impl Queue {
    pub(super) fn of(offer: &TaskOffer) -> Self {
        Self {
            tenant: offer.tenant.clone(),
            capability: offer.capability.clone(),
        }
    }

    pub(super) fn subject(&self, prefix: &str) -> String {
        format!("{prefix}.tasks.{}.{}", self.tenant, self.capability)
    }

    /// `<tenant>-<capability>`, where a `-` of the tenant is written as `=`: so no two queues have one name.
    pub(super) fn consumer(&self) -> String {
        let tenant = self.tenant.as_str().replace('-', "=");
        format!("{tenant}-{}", self.capability)
    }
}

/// The consumers on the stream of tasks.
#[derive(Debug)]
pub(super) struct Consumers {
    stream: Stream<()>,
    prefix: String,
    known: Mutex<HashMap<Queue, Arc<OnceCell<()>>>>,
    making: Semaphore,
}

impl Consumers {
    pub(super) fn new(stream: Stream<()>, prefix: String) -> Self {
        Self {
            stream,
            prefix,
            known: Mutex::default(),
            making: Semaphore::new(MADE_AT_ONCE),
        }
    }

    /// Whether a queue's consumer was there.
    pub(super) fn knows(&self, queue: &Queue) -> bool {
        let known = self.lock();
        known.get(queue).is_some_and(|made| made.initialized())
    }

    /// Makes a queue's consumer where it is not there. Who asks while it is being made waits for that.
    pub(super) async fn ensure(&self, queue: &Queue) -> Result<(), Source> {
        let made = {
            let mut known = self.lock();
            if known.len() >= KNOWN_MAX && !known.contains_key(queue) {
                known.clear();
            }
            known.entry(queue.clone()).or_default().clone()
        };
        made.get_or_try_init(|| self.make(queue)).await?;
        Ok(())
    }

    /// It has turned out not to be there.
    pub(super) fn forget(&self, queue: &Queue) {
        self.lock().remove(queue);
    }

    /// None of them is there any more.
    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }

    async fn make(&self, queue: &Queue) -> Result<(), Source> {
        let _place = self.making.acquire().await?;
        let config = pull::Config {
            durable_name: Some(queue.consumer()),
            description: Some(
                "EventFlow's: for agents, and for its nodes on behalf of theirs".into(),
            ),
            filter_subject: queue.subject(&self.prefix),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // Attempts and their number are the engine's.
            max_deliver: -1,
            // What agents hold is theirs to bound: each asks for what it can do.
            max_ack_pending: -1,
            max_waiting: WAITING_MAX,
            inactive_threshold: UNUSED_FOR,
            // As soft as the stream is. After a crash of the server a state on its disk would not fit what the stream has
            // lost: it takes new messages for old ones that were given out, and waits for their acknowledgement.
            memory_storage: true,
            ..pull::Config::default()
        };
        match self.stream.create_consumer_strict(config).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ConsumerCreateStrictErrorKind::AlreadyExists => {
                self.verify(queue).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what is there under the queue's name serves it; how long it waits and for how much is its owner's.
    async fn verify(&self, queue: &Queue) -> Result<(), Source> {
        let name = queue.consumer();
        let found = self.stream.consumer_info(&name).await?.config;
        let subject = queue.subject(&self.prefix);
        let is_pulled = found.deliver_subject.is_none();
        if found.filter_subject == subject && found.ack_policy == AckPolicy::Explicit && is_pulled {
            return Ok(());
        }
        Err(format!(
            "consumer {name} must be a pull consumer of {subject} with explicit acknowledgement: remove it, so that it is \
             made anew"
        )
        .into())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Queue, Arc<OnceCell<()>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_queues_have_one_name() {
        let name = |tenant: &str, capability: &str| {
            let tenant = Tenant::parse(tenant).expect("a name");
            let capability = Capability::parse(capability).expect("a name");
            Queue { tenant, capability }.consumer()
        };
        assert_eq!(name("default", "charge-card"), "default-charge-card");
        assert_eq!(name("a-b", "c"), "a=b-c");
        assert_eq!(name("a", "b-c"), "a-b-c");
        assert_eq!(name("a-", "b"), "a=-b");
        assert_eq!(name("a", "-b"), "a--b");
    }
}
