//! What comes in over NATS: requests that are answered, and durable messages that are carried out once each.
//!
//! **Nothing that arrives here is lost or stops anything.** A request is answered with what came of it or with a problem.
//! A durable message is acknowledged once its order is durable inside; where that is not possible now it comes again, and
//! where it never will be it is set aside with the reason.

mod order;
mod pump;
mod rejected;
mod requests;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        Context,
        consumer::{AckPolicy, pull},
        stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, Stream},
    },
};
use eventflow_ports::{
    Clock,
    inbound::{Calls, Controls, Events, Executions, Refusal, Tasks},
};
use futures::FutureExt as _;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{NatsConfig, OpenError, stream as streams, subject::Subjects};

/// How long what is under way may go on after the shutdown: half of the 10 seconds that the process has after SIGTERM.
pub const INBOUND_DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long a message that was set aside is kept for somebody to look at it: a month.
const REJECTED_KEPT: Duration = Duration::from_hours(30 * 24);
/// The durable consumer that the pumps of all nodes share.
const CONSUMER: &str = "commands";
/// After so long without an answer a message comes again: longer than an order may take (`order::PERFORM_WITHIN`).
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages that are under way or wait to come again, on all nodes: room for a flood of controls of unknown executions,
/// each of which waits a minute.
const UNACKNOWLEDGED_MAX: i64 = 65_536;

/// The inbound ports that NATS is a face of.
#[derive(Clone)]
pub struct InboundPorts {
    /// Starting executions.
    pub executions: Arc<dyn Executions>,
    /// Steering them.
    pub controls: Arc<dyn Controls>,
    /// Beginning attempts and bringing their results.
    pub tasks: Arc<dyn Tasks>,
    /// Trigger events.
    pub events: Arc<dyn Events>,
    /// Service calls.
    pub calls: Arc<dyn Calls>,
    /// How old a message is.
    pub clock: Arc<dyn Clock>,
}

/// Where messages come in, checked.
#[derive(Debug)]
pub struct NatsInbound {
    client: Client,
    context: Context,
    commands: Stream<()>,
    subjects: Subjects,
    /// Where this node is told of the tasks that it has given out.
    own_results: Option<String>,
}

/// What every handler shares.
struct Shared {
    client: Client,
    context: Context,
    subjects: Subjects,
    own_results: Option<String>,
    ports: InboundPorts,
}

impl NatsInbound {
    /// Creates the streams of commands and of what was set aside where they are not there, and verifies them where they
    /// are.
    pub async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        streams::check_prefix(&config.prefix)?;
        let (context, subjects) = (config.context(client), Subjects::of(config));
        let deadline = Instant::now() + config.open_within;
        streams::open(&context, &rejected_stream(config), deadline).await?;
        Ok(Self {
            client: client.clone(),
            commands: streams::open(&context, &commands_stream(config), deadline).await?,
            context,
            own_results: (config.node.as_ref()).map(|node| subjects.results_to(node)),
            subjects,
        })
    }

    /// Serves until `shutdown` completes, then takes nothing more, finishes what is under way and returns, after
    /// [`INBOUND_DRAIN_MAX`] in any case. A server that goes away is waited for.
    pub async fn serve(self, ports: InboundPorts, shutdown: impl Future<Output = ()> + Send) {
        let shared = Arc::new(Shared {
            client: self.client,
            context: self.context,
            subjects: self.subjects,
            own_results: self.own_results,
            ports,
        });
        let (stop, stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        for face in requests::FACES {
            serving.spawn(requests::serve(shared.clone(), face, stopped.clone()));
        }
        serving.spawn(pump::serve(shared, self.commands, stopped));
        shutdown.await;
        stop.send_replace(true);
        let all_end = async { while serving.join_next().await.is_some() {} };
        if tokio::time::timeout(INBOUND_DRAIN_MAX, all_end)
            .await
            .is_err()
        {
            tracing::warn!(
                "messages were still under way {INBOUND_DRAIN_MAX:?} after the shutdown: durable ones come again"
            );
        }
    }
}

/// Carries something out; what panics inside is this message's trouble and nobody else's (requirement F7).
async fn contained<T>(work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| {
        Err(Refusal::unavailable(
            "this node could not carry it out: its log says why",
        ))
    })
}

/// Returns once it is told to stop, or whoever could tell is gone.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Each header's last value.
fn pairs(headers: Option<&HeaderMap>) -> impl Iterator<Item = (&str, &str)> {
    headers.into_iter().flat_map(|headers| {
        headers
            .iter()
            .filter_map(|(name, values)| Some((name.as_ref(), values.last()?.as_str())))
    })
}

fn commands_stream(config: &NatsConfig) -> Config {
    Config {
        name: format!("{}_COMMANDS", config.upper_prefix()),
        subjects: Subjects::of(config).all_stored(),
        description: Some(
            "EventFlow's commands, triggers and calls, until they are carried out".to_owned(),
        ),
        retention: RetentionPolicy::WorkQueue,
        // A stream that an operator has given a limit refuses what it has no room for: its sender knows.
        discard: DiscardPolicy::New,
        ..kept(config)
    }
}

fn rejected_stream(config: &NatsConfig) -> Config {
    Config {
        name: format!("{}_REJECTED", config.upper_prefix()),
        subjects: vec![Subjects::of(config).all_rejected()],
        description: Some("What EventFlow could not understand, with the reasons".to_owned()),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_age: REJECTED_KEPT,
        ..kept(config)
    }
}

/// What both have in common: what was acknowledged to its sender stays.
fn kept(config: &NatsConfig) -> Config {
    Config {
        storage: StorageType::File,
        persist_mode: Some(PersistenceMode::Default),
        num_replicas: config.replicas,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        max_message_size: -1,
        allow_direct: false,
        ..Config::default()
    }
}

fn consumer() -> pull::Config {
    pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Whether a message is tried again is decided here, not by a count.
        max_deliver: -1,
        max_ack_pending: UNACKNOWLEDGED_MAX,
        ..pull::Config::default()
    }
}
