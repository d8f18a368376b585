//! The `EventPublisher` port: lifecycle events, statuses and outcomes of calls, on streams that others read.
//!
//! In order per execution, whatever fails on the way: of one execution a message is sent once the one before is
//! acknowledged, while those of others are under way beside it. Then the feed's position is written, once for the batch.

mod feeds;

use std::{collections::HashMap, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        Context,
        stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType},
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{ExecutionId, PartitionId, Position, Tenant, service_call::is_service_call};
use eventflow_ports::{EventPublisher, LifecycleEvent, PublishError};
use eventflow_wire::{
    envelope::Envelope,
    v1::{
        calls::CallEvent,
        events::{CloudEvent, schema},
        flow::Status,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use tokio::time::Instant;

use self::feeds::Feeds;
use crate::{NatsConfig, OpenError, stream as streams, subject::Subjects};

/// Executions that are told of at once, each by one event at a time: some milliseconds' worth of what a server takes.
const UNACKNOWLEDGED_MAX: usize = 256;
/// How long lifecycle events are there for a reader that was away: a week. The history keeps them for longer.
const EVENTS_KEPT: Duration = Duration::from_hours(7 * 24);
/// How long statuses and outcomes of calls are: they are read live, or after a restart of their reader.
const STATUS_KEPT: Duration = Duration::from_hours(24);

/// [`EventPublisher`] on `<PREFIX>_EVENTS` and `<PREFIX>_STATUS`.
#[derive(Debug)]
pub struct NatsPublisher {
    context: Context,
    subjects: Subjects,
    feeds: Feeds,
}

/// One message on its way out.
struct Outgoing {
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
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
            context,
            subjects,
            feeds,
        })
    }

    /// Everything that an event is told by: itself, and what it means to those who know no lifecycle events.
    fn outgoing(&self, event: LifecycleEvent) -> Result<Vec<Outgoing>, PublishError> {
        let subject = self.subjects.event(&event);
        let call = CallEvent::of(&event);
        let is_call = is_service_call(&event.workflow);
        let status = (!is_call).then(|| Status::of(&event)).flatten();
        let event = CloudEvent::from(event);
        let envelope = event.envelope();
        let payload = Bytes::copy_from_slice(event.data.as_str().as_bytes());
        let mut outgoing = vec![Outgoing {
            subject,
            headers: headers(&envelope),
            payload,
        }];
        if let Some(status) = status {
            outgoing.push(Outgoing {
                subject: self.subjects.status(),
                headers: headers(&of_kind(envelope.clone(), status.kind())),
                payload: json(&status)?,
            });
        }
        if let Some(call) = call {
            let about = Envelope {
                subject: Some(call.call_id().clone()),
                partition_key: Some(call.call_id().clone()),
                ..of_kind(envelope, call.kind())
            };
            outgoing.push(Outgoing {
                subject: self.subjects.call_events(event.tenantid.as_str()),
                headers: headers(&about),
                payload: json(&call)?,
            });
        }
        Ok(outgoing)
    }

    /// Sends what one execution has to tell, each event once what told the one before is in its streams.
    async fn tell(&self, events: Vec<LifecycleEvent>) -> Result<(), PublishError> {
        for event in events {
            let sending = self.outgoing(event)?.into_iter().map(|it| self.send(it));
            try_join_all(sending).await?;
        }
        Ok(())
    }

    async fn send(&self, message: Outgoing) -> Result<(), PublishError> {
        let sent =
            self.context
                .publish_with_headers(message.subject, message.headers, message.payload);
        sent.await
            .map_err(unavailable)?
            .await
            .map_err(unavailable)?;
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
        stream::iter(by_execution(events))
            .map(|events| Ok(self.tell(events)))
            .try_buffer_unordered(UNACKNOWLEDGED_MAX)
            .try_collect::<()>()
            .await?;
        self.feeds.advance(partition, through).await
    }

    async fn position(&self, partition: PartitionId) -> Result<Position, PublishError> {
        self.feeds.position(partition).await
    }
}

/// The events of each execution, in their order.
fn by_execution(events: Vec<LifecycleEvent>) -> Vec<Vec<LifecycleEvent>> {
    let mut places = HashMap::<(Tenant, ExecutionId), usize>::new();
    let mut all: Vec<Vec<LifecycleEvent>> = Vec::new();
    for event in events {
        let key = (event.tenant.clone(), event.execution.clone());
        let place = *places.entry(key).or_insert(all.len());
        if place == all.len() {
            all.push(Vec::new());
        }
        all[place].push(event);
    }
    all
}

/// The same message, said in another way: its shape has another name.
fn of_kind(envelope: Envelope, kind: &str) -> Envelope {
    Envelope {
        kind: Some(kind.into()),
        data_schema: Some(schema(kind)),
        ..envelope
    }
}

fn headers(envelope: &Envelope) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in envelope.headers() {
        headers.insert(name, value);
    }
    if let Some(id) = &envelope.id {
        headers.insert("Nats-Msg-Id", id.as_ref());
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
