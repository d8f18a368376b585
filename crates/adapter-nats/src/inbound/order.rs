//! A durable message as an order to one of the inbound ports.

use std::time::Duration;

use async_nats::jetstream;
use eventflow_domain::Tenant;
use eventflow_ports::inbound::{ExternalEvent, Refusal, ServiceCall, StartExecution};
use eventflow_wire::{
    envelope::Message,
    v1::{
        calls,
        controls::Control,
        executions::StartBody,
        flow::{self, Command},
        read,
        shape::{self, StartContext},
        triggers,
    },
};

use super::{InboundPorts, pairs};
use crate::subject::{Stored, Subjects};

/// How long an order may take before its message is left to come again.
const PERFORM_WITHIN: Duration = Duration::from_secs(20);

/// What a message asks for.
#[derive(Debug)]
pub(super) enum Order {
    Start(Box<StartExecution>),
    Control(Tenant, Control),
    Trigger(Tenant, ExternalEvent),
    Call(Tenant, ServiceCall),
}

impl Order {
    /// Reads a message.
    pub(super) fn read(subjects: &Subjects, message: &jetstream::Message) -> Result<Self, Refusal> {
        let stored = subjects
            .stored(&message.subject)
            .map_err(Refusal::malformed)?;
        let read_message = Message::read(pairs(message.headers.as_ref()), &message.payload)?;
        let said = read_message.envelope.tenant.clone();
        let tenant = match &stored {
            Stored::Flow => said.unwrap_or_else(Tenant::default_tenant),
            Stored::Start(tenant)
            | Stored::Control(tenant)
            | Stored::Trigger(tenant, _)
            | Stored::Call(tenant) => of_subject(tenant, said)?,
        };
        Ok(match stored {
            Stored::Start(_) => Self::Start(Box::new(start(&tenant, &read_message, message)?)),
            Stored::Control(_) => {
                let control = Control::read(read_message.data.as_str().as_bytes())?;
                Self::Control(tenant, control)
            }
            Stored::Trigger(_, kind) => {
                let event = triggers::event(read_message, Some(&kind))?;
                Self::Trigger(tenant, event)
            }
            Stored::Call(_) => {
                let call = calls::call(&tenant, &read_message)?;
                Self::Call(tenant, call)
            }
            Stored::Flow => match flow::command(&tenant, &read_message)? {
                Command::Start(start) => Self::Start(start),
                Command::Control(control) => Self::Control(tenant, control),
            },
        })
    }

    /// What it is about: orders about the same are carried out in the order they came.
    pub(super) fn about(&self) -> &str {
        match self {
            Self::Start(start) => match (&start.execution, &start.idempotency_key) {
                (Some(execution), _) => execution.as_str(),
                (None, key) => key.as_deref().unwrap_or_default(),
            },
            Self::Control(_, control) => control.execution.as_str(),
            Self::Trigger(_, event) => &event.id,
            Self::Call(_, call) => &call.id,
        }
    }

    /// Whether it may only have come before what it is about.
    pub(super) const fn may_be_early(&self) -> bool {
        matches!(self, Self::Control(..))
    }

    /// Carries it out.
    pub(super) async fn perform(self, ports: &InboundPorts) -> Result<(), Refusal> {
        let performing = async {
            match self {
                Self::Start(start) => ports.executions.start(*start).await.map(drop),
                Self::Control(tenant, control) => ports
                    .controls
                    .control(&tenant, &control.execution, control.action, control.reason)
                    .await
                    .map(drop),
                Self::Trigger(tenant, event) => ports.events.accept(&tenant, event).await.map(drop),
                Self::Call(tenant, call) => ports.calls.call(&tenant, call).await,
            }
        };
        match tokio::time::timeout(PERFORM_WITHIN, performing).await {
            Ok(performed) => performed,
            Err(_) => Err(Refusal::unavailable("the order was not answered in time")),
        }
    }
}

/// The subject's tenant: who may publish there is a matter of permissions, what stands in a header is not.
pub(super) fn of_subject(tenant: &Tenant, said: Option<Tenant>) -> Result<Tenant, Refusal> {
    match said {
        Some(other) if other != *tenant => Err(Refusal::malformed(format!(
            "the header `ce-tenantid` says `{other}`, the subject `{tenant}`: publish it to its own tenant's"
        ))),
        _ => Ok(tenant.clone()),
    }
}

fn start(
    tenant: &Tenant,
    read_message: &Message,
    message: &jetstream::Message,
) -> Result<StartExecution, Refusal> {
    let body: StartBody = read(read_message.data.as_str().as_bytes())?;
    let key = body.execution_id.is_none().then(|| {
        cause(read_message, message.headers.as_ref()).unwrap_or_else(|| delivery(message))
    });
    shape::start(tenant, body, context(read_message, key))
}

/// What a start's envelope says of it.
pub(super) fn context(message: &Message, idempotency_key: Option<String>) -> StartContext {
    StartContext {
        idempotency_key,
        correlation: message.envelope.correlation.clone(),
        causation: message.envelope.id.clone(),
        traceparent: message.envelope.traceparent.clone(),
    }
}

/// What makes a start unique in our own state, for as long as its execution is kept: the source and id of its envelope, or
/// the id that the broker tells repeats by.
pub(super) fn cause(message: &Message, headers: Option<&async_nats::HeaderMap>) -> Option<String> {
    let source = message.envelope.source.as_deref().unwrap_or_default();
    let id = message.envelope.id.as_deref();
    let id = id.or_else(|| {
        headers?
            .get("Nats-Msg-Id")
            .map(async_nats::HeaderValue::as_str)
    });
    Some(format!("{source} {}", id?))
}

/// A message that says nothing of itself is still this one, however often it is delivered.
fn delivery(message: &jetstream::Message) -> String {
    message.info().map_or_else(
        |_| String::new(),
        |info| {
            let published = info.published.unix_timestamp_nanos();
            format!("{} {} {published}", info.stream, info.stream_sequence)
        },
    )
}
