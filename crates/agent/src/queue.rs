//! A capability's queue on NATS: pulled into free slots. What comes asks to begin before it is performed.
//!
//! A task's message is acknowledged as soon as its begin is granted: from then on the engine's lease guards the attempt,
//! and a message that came again would only be refused. So no message needs to be marked as in progress, however long
//! the work takes; and one whose agent dies before is given to another after the queue's ack wait.

use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subject, Subscriber, jetstream::AckKind};
use eventflow_domain::{Capability, NodeName};
use eventflow_wire::v1::{
    Problem,
    tasks::{NODE_HEADER, QueuedTask},
};
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Nats,
    calls::Refused,
    running::{Report, Running},
};

/// How long a pull waits for tasks: rare enough to cost nothing.
const WAIT: Duration = Duration::from_secs(30);
/// What a queue has comes within this. An agent with several queues shares its slots between them: a pull that waits for
/// longer gives its slots to another queue that has none.
const TURN: Duration = Duration::from_millis(50);
/// While there is nothing, the server says so this often …
const HEARTBEAT: Duration = Duration::from_secs(1);
/// … and a pull that was not heard of for two of them is lost: its server has died, or was cut off.
const SILENCE: Duration = Duration::from_millis(2_500);
/// The engine makes a queue with its first task, and its servers may be without a leader for seconds: looked for this
/// often until then.
const ABSENT_PAUSE: Duration = Duration::from_millis(250);
/// What is on its way at the end of a pull arrives within this, or comes again by itself after the queue's ack wait.
const HAND_BACK_WITHIN: Duration = Duration::from_secs(1);
/// A task whose begin could not be decided is given out again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The tasks of one capability.
#[derive(Debug)]
pub(crate) struct Queue {
    nats: Nats,
    capability: Capability,
    /// Whether it is the agent's only one.
    alone: bool,
    /// Whether the last pull got all that it asked for.
    busy: bool,
}

/// A task that has not begun.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) task: QueuedTask,
    /// Who has given it out.
    pub(crate) node: Option<NodeName>,
    delivery: Delivery,
}

/// A message that the queue waits to hear of.
#[derive(Debug)]
struct Delivery {
    client: Client,
    reply: Option<Subject>,
}

/// What a pull asks for, as the server has it: durations in nanoseconds.
#[derive(Serialize)]
struct Pull {
    batch: usize,
    expires: u128,
    idle_heartbeat: u128,
}

/// How a pull ended.
enum Ended {
    /// Every slot has a task.
    Full,
    /// The server has waited for long enough.
    Expired,
    /// Its slots are wanted elsewhere, or the agent ends.
    Early,
    /// There is no such queue yet.
    Absent,
    /// Its server is gone.
    Silent,
}

impl Queue {
    pub(crate) fn new(nats: Nats, capability: Capability, alone: bool) -> Self {
        Self {
            nats,
            capability,
            alone,
            busy: false,
        }
    }

    /// How many slots of its share it asks for: an idle queue beside others keeps one only.
    pub(crate) fn slots(&self, share: usize) -> usize {
        if self.alone || self.busy { share } else { 1 }
    }

    /// Pulls tasks into these slots, each of which then waits for its begin, until all are taken or none comes any more.
    pub(crate) async fn pull(
        &mut self,
        running: &Running,
        mut slots: OwnedSemaphorePermit,
    ) -> Result<(), Refused> {
        let Some(client) = running.unless_draining(self.nats.client()).await else {
            return Ok(());
        };
        let client = client?.clone();
        let mut messages = self.ask(&client, slots.num_permits()).await?;
        let ended = tokio::select! {
            ended = self.fill(&client, &mut messages, running, &mut slots) => ended?,
            () = self.wanted_elsewhere(running) => Ended::Early,
        };
        self.busy = matches!(ended, Ended::Full);
        match ended {
            Ended::Full | Ended::Expired => {}
            Ended::Early => hand_back(&client, messages).await,
            Ended::Absent => {
                drop(slots);
                tracing::debug!(capability = %self.capability, "no queue yet");
                running
                    .unless_draining(tokio::time::sleep(ABSENT_PAUSE))
                    .await;
            }
            Ended::Silent => {
                hand_back(&client, messages).await;
                let (queue, silence) = (&self.capability, SILENCE.as_secs_f32());
                return Err(Refused::unheard(format!(
                    "nothing was heard of queue `{queue}` for {silence} s"
                )));
            }
        }
        Ok(())
    }

    /// Takes what comes, until the pull has ended.
    async fn fill(
        &self,
        client: &Client,
        messages: &mut Subscriber,
        running: &Running,
        slots: &mut OwnedSemaphorePermit,
    ) -> Result<Ended, Refused> {
        while slots.num_permits() > 0 {
            let Ok(message) = tokio::time::timeout(SILENCE, messages.next()).await else {
                return Ok(Ended::Silent);
            };
            let message = message.ok_or_else(|| Refused::unheard("the connection has ended"))?;
            match message.status {
                None | Some(StatusCode::OK) => {
                    if let Some(queued) = Queued::read(client, message).await
                        && let Some(slot) = slots.split(1)
                    {
                        let begin = Report::begin(&running.asking, queued, slot);
                        running.outbox.push(begin);
                    }
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::NO_RESPONDERS) => return Ok(Ended::Absent),
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => return Ok(Ended::Expired),
                Some(status) => return Err(self.refused(status, message.description)),
            }
        }
        Ok(Ended::Full)
    }

    /// The agent ends, or another queue has no slot at all.
    async fn wanted_elsewhere(&self, running: &Running) {
        let other = async {
            if self.alone {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(TURN).await;
            running.slot_is_wanted().await;
        };
        running.unless_draining(other).await;
    }

    /// Sends a pull; what it gets comes to an inbox of its own.
    async fn ask(&self, client: &Client, batch: usize) -> Result<Subscriber, Refused> {
        let pull = Pull {
            batch,
            expires: WAIT.as_nanos(),
            idle_heartbeat: HEARTBEAT.as_nanos(),
        };
        let pull = serde_json::to_vec(&pull).expect("numbers serialise");
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await;
        let messages = messages.map_err(|error| Refused::unheard(error.to_string()))?;
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}-{}",
            self.nats.stream(),
            self.nats.tenant(),
            self.capability
        );
        let asked = client.publish_with_reply(subject, inbox, pull.into()).await;
        asked.map_err(|error| Refused::unheard(error.to_string()))?;
        Ok(messages)
    }

    /// Why the server has ended a pull.
    fn refused(&self, status: StatusCode, why: Option<String>) -> Refused {
        let queue = &self.capability;
        let why = why.unwrap_or_else(|| "no reason given".into());
        let said = format!("the pull from queue `{queue}` ended: {status} {why}");
        match status.as_u16() {
            400 => Refused::Never(Box::new(Problem::new(400, "Bad Request", said))),
            // Its leader has moved, its server ends, or too many others wait.
            _ => Refused::unheard(said),
        }
    }
}

/// Ends a pull before its time: what comes while the server does not know of that yet is for others.
async fn hand_back(client: &Client, mut messages: Subscriber) {
    let rest = async {
        if messages.drain().await.is_err() {
            return;
        }
        while let Some(message) = messages.next().await {
            if message.status.is_none() {
                let delivery = Delivery::of(client, message.reply);
                delivery.answer(AckKind::Nak(None)).await;
            }
        }
    };
    if tokio::time::timeout(HAND_BACK_WITHIN, rest).await.is_err() {
        tracing::debug!("the end of a pull was not heard of");
    }
}

impl Queued {
    /// Reads a task; nothing where it is none, which then never comes again.
    async fn read(client: &Client, message: Message) -> Option<Self> {
        let delivery = Delivery::of(client, message.reply);
        let node = message.headers.as_ref().and_then(|headers| {
            let node = headers.get(NODE_HEADER)?;
            NodeName::parse(node.as_str()).ok()
        });
        match serde_json::from_slice(&message.payload) {
            Ok(task) => Some(Self {
                task,
                node,
                delivery,
            }),
            Err(error) => {
                tracing::error!(subject = %message.subject, %error, "a message is no task");
                delivery.answer(AckKind::Term).await;
                None
            }
        }
    }

    /// It has begun, or must not: the queue may forget it.
    pub(crate) async fn settle(self) -> QueuedTask {
        self.delivery.answer(AckKind::Ack).await;
        self.task
    }

    /// It could not be decided: somebody is given it again soon.
    pub(crate) async fn again(self) {
        self.delivery.answer(AckKind::Nak(Some(AGAIN_AFTER))).await;
    }

    /// This agent ends: somebody else is given it at once.
    pub(crate) async fn hand_back(self) {
        self.delivery.answer(AckKind::Nak(None)).await;
    }
}

impl Delivery {
    fn of(client: &Client, reply: Option<Subject>) -> Self {
        Self {
            client: client.clone(),
            reply,
        }
    }

    /// Not waited for: what gets lost comes again after the queue's ack wait, and its begin is decided again.
    async fn answer(self, kind: AckKind) {
        let Some(reply) = self.reply else { return };
        if let Err(error) = self.client.publish(reply, kind.into()).await {
            tracing::warn!(%error, "a queue was not answered");
        }
    }
}
