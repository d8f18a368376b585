//! The `EventPublisher` port: lifecycle events, statuses and outcomes of calls, on streams that others read.
//!
//! In order, whatever fails on the way: what goes to one stream goes as a [`batch`]. Then the feed's position is written,
//! once for all of it.

mod batch;
mod feeds;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    Client, HeaderMap, HeaderName,
    header::NATS_MESSAGE_ID,
    jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType},
};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{PartitionId, Position, service_call::is_service_call};
use eventflow_ports::{EventPublisher, LifecycleEvent, PublishError};
use eventflow_wire::{
    envelope::Envelope,
    v1::{
        calls::CallEvent,
        events::{CloudEvent, schema},
        flow::Status,
    },
};
use futures::future::join;
use tokio::time::Instant;

use self::{
    batch::{Batches, Outgoing},
    feeds::Feeds,
};
use crate::{NatsConfig, OpenError, headers, stream as streams, subject::Subjects};

/// How long lifecycle events are there for a reader that was away: a week. The history keeps them for longer.
const EVENTS_KEPT: Duration = Duration::from_hours(7 * 24);
/// How long statuses and outcomes of calls are: they are read live, or after a restart of their reader.
const STATUS_KEPT: Duration = Duration::from_hours(24);

/// [`EventPublisher`] on `<PREFIX>_EVENTS` and `<PREFIX>_STATUS`.
#[derive(Debug)]
pub struct NatsPublisher {
    events: Batches,
    status: Batches,
    subjects: Subjects,
    feeds: Feeds,
    /// Where the last try reached one stream of the two: up to which record, and which.
    half_told: Mutex<HashMap<PartitionId, (Position, Half)>>,
}

/// One stream of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Events,
    Status,
}

/// What is to be told, by stream.
#[derive(Debug, Default)]
struct Told {
    events: Vec<Outgoing>,
    status: Vec<Outgoing>,
}

impl NatsPublisher {
    /// Creates the streams and the bucket of positions where they are not there, and verifies them where they are.
    pub async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        streams::check_prefix(&config.prefix)?;
        let (context, subjects) = (config.context(client), Subjects::of(config));
        let deadline = Instant::now() + config.open_within;
        for needed in [events_stream(config), status_stream(config)] {
            streams::open(&context, &needed, deadline).await?;
        }
        let feeds = Feeds::open(client, config).await?;
        Ok(Self {
            events: Batches::new(client, config.answer_within),
            status: Batches::new(client, config.answer_within),
            subjects,
            feeds,
            half_told: Mutex::default(),
        })
    }

    /// The stream that has everything up to this record already, where the last try reached one only.
    fn take_half_told(&self, partition: PartitionId, through: Position) -> Option<Half> {
        let (position, half) = self.half_told().remove(&partition)?;
        (position == through).then_some(half)
    }

    fn half_told(&self) -> MutexGuard<'_, HashMap<PartitionId, (Position, Half)>> {
        // Nothing is left half-changed by a panic.
        self.half_told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds everything that an event is told by: itself, and what it means to those who know no lifecycle events.
    fn tell(&self, event: LifecycleEvent, told: &mut Told) -> Result<(), PublishError> {
        let subject = self.subjects.event(&event);
        let call = CallEvent::of(&event);
        let is_call = is_service_call(&event.workflow);
        let status = (!is_call).then(|| Status::of(&event)).flatten();
        let event = CloudEvent::from(event);
        let envelope = event.envelope();
        let headers = with_id(&envelope);
        if let Some(status) = status {
            told.status.push(Outgoing {
                subject: self.subjects.status(),
                headers: of_kind(headers.clone(), status.kind()),
                payload: json(&status)?,
            });
        }
        if let Some(call) = call {
            let about = Envelope {
                subject: Some(call.call_id().clone()),
                partition_key: Some(call.call_id().clone()),
                ..envelope
            };
            told.status.push(Outgoing {
                subject: self.subjects.call_events(event.tenantid.as_str()),
                headers: of_kind(with_id(&about), call.kind()),
                payload: json(&call)?,
            });
        }
        told.events.push(Outgoing {
            subject,
            headers,
            payload: Bytes::copy_from_slice(event.data.as_str().as_bytes()),
        });
        Ok(())
    }
}

#[async_trait]
impl EventPublisher for NatsPublisher {
    async fn publish(
        &self,
        partition: PartitionId,
        through: Position,
        events: Vec<LifecycleEvent>,
    ) -> Result<(), PublishError> {
        let mut told = Told::default();
        for event in events {
            self.tell(event, &mut told)?;
        }
        match self.take_half_told(partition, through) {
            Some(Half::Events) => told.events.clear(),
            Some(Half::Status) => told.status.clear(),
            None => {}
        }
        // Neither breaks off the other one.
        let sent = join(self.events.send(told.events), self.status.send(told.status)).await;
        let (half, error) = match sent {
            (Ok(()), Ok(())) => return self.feeds.advance(partition, through).await,
            (Ok(()), Err(error)) => (Some(Half::Events), error),
            (Err(error), Ok(())) => (Some(Half::Status), error),
            (Err(error), Err(_)) => (None, error),
        };
        if let Some(half) = half {
            self.half_told().insert(partition, (through, half));
        }
        Err(PublishError::Unavailable(error))
    }

    async fn position(&self, partition: PartitionId) -> Result<Position, PublishError> {
        // Whoever asks may begin elsewhere than the last try did.
        self.half_told().remove(&partition);
        self.feeds.position(partition).await
    }
}

/// The same message, said in another way: its shape has another name.
fn of_kind(mut headers: HeaderMap, kind: &str) -> HeaderMap {
    headers.insert(HeaderName::from_static("ce-type"), kind);
    headers.insert(HeaderName::from_static("ce-dataschema"), &*schema(kind));
    headers
}

fn with_id(envelope: &Envelope) -> HeaderMap {
    let mut headers = headers::of(envelope);
    if let Some(id) = &envelope.id {
        headers.insert(NATS_MESSAGE_ID, id.as_ref());
    }
    headers
}

fn json(body: &impl serde::Serialize) -> Result<Bytes, PublishError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(unavailable)
}

fn unavailable(source: impl Into<eventflow_ports::Source>) -> PublishError {
    PublishError::Unavailable(source.into())
}

fn events_stream(config: &NatsConfig) -> Config {
    Config {
        name: format!("{}_EVENTS", config.upper_prefix()),
        subjects: vec![Subjects::of(config).all_events()],
        description: Some("EventFlow's lifecycle events".to_owned()),
        max_age: EVENTS_KEPT,
        ..told(config)
    }
}

fn status_stream(config: &NatsConfig) -> Config {
    let subjects = Subjects::of(config);
    Config {
        name: format!("{}_STATUS", config.upper_prefix()),
        subjects: vec![subjects.status(), subjects.call_events("*")],
        description: Some("EventFlow's statuses and outcomes of service calls".to_owned()),
        max_age: STATUS_KEPT,
        ..told(config)
    }
}

/// What both have in common. One server does not sync each message: a power loss may take the last moments of what was
/// told, which the history still has.
fn told(config: &NatsConfig) -> Config {
    Config {
        storage: StorageType::File,
        persist_mode: Some(soft(config)),
        num_replicas: config.replicas,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        max_message_size: -1,
        allow_direct: true,
        allow_batch_publish: true,
        ..Config::default()
    }
}

/// How what can be told again is kept. A copy elsewhere does for a sync where there is one.
fn soft(config: &NatsConfig) -> PersistenceMode {
    if config.replicas == 1 {
        PersistenceMode::Async
    } else {
        PersistenceMode::Default
    }
}
