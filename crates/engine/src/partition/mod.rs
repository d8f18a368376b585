//! A partition: one writer, its mailbox, and what follows its journal.
//!
//! Everything else holds a [`Partition`], a cheap handle; no channel leaves this folder.

mod batch;
mod commit;
mod feed;
mod intake;
mod leases;
mod mend;
mod message;
mod offers;
mod once;
mod recovery;
mod resident;
mod writer;

use std::{sync::Arc, time::Duration};

use eventflow_domain::{Epoch, PartitionId, Position};
use eventflow_ports::{OfferedAttempt, inbound::Refusal};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};

pub(crate) use batch::Committed;
pub(crate) use intake::other_start;
pub(crate) use message::{
    AttemptBegin, AttemptResult, AttemptVerdict, BeginAnswer, ControlAnswer, Hold, Key, Message,
    ResultAnswer, Snapshot, Start, StartAnswer,
};

pub(crate) use recovery::load;
pub(crate) use writer::Stop;

use crate::{
    backend::Backend,
    config::{Config, MAILBOX_MAX, TAIL_MAX},
    definitions::Definitions,
    error::StartError,
    token::Tokens,
};

/// How a partition is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It writes.
    Leading,
    /// Its journal does not answer; it goes on by itself.
    Stalled(String),
    /// Another writer has appended: this one will not write again.
    Fenced,
    /// It will not write again in this process.
    Stopped(String),
}

impl State {
    /// Whether the writer will not write again.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::Fenced)
    }

    /// Why it does not write.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Leading => None,
            Self::Fenced => Some("another writer has taken over"),
            Self::Stalled(reason) | Self::Stopped(reason) => Some(reason),
        }
    }
}

/// What the outside can see of a writer.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) epoch: Epoch,
    /// The last durable record.
    pub(crate) position: Position,
    /// Executions the writer has let go.
    pub(crate) evictions: u64,
}

/// A durable record's events.
pub(crate) struct Tail {
    pub(crate) position: Position,
    pub(crate) time: eventflow_domain::Timestamp,
    pub(crate) events: Vec<Committed>,
}

/// A handle to one partition's writer.
#[derive(Clone)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    mailbox: mpsc::Sender<Message>,
    status: watch::Receiver<Status>,
    /// Weak, so that whoever follows learns when the writer has ended.
    tail: broadcast::WeakSender<Arc<Tail>>,
    /// Why it is to stop, once it is.
    halt: watch::Sender<Option<String>>,
}

/// A partition's running parts: they end with it, or when it is dropped.
pub(crate) struct Running {
    writer: Part,
    feed: Part,
    halted: watch::Receiver<Option<String>>,
}

/// A task that must not outlive its owner.
pub(crate) struct Part(JoinHandle<()>);

impl Partition {
    /// Recovers a partition, begins a new epoch and starts its writer.
    pub(crate) async fn start(
        id: PartitionId,
        backend: &Backend,
        config: &Config,
        definitions: &Arc<Definitions>,
        tokens: &Tokens,
    ) -> Result<(Self, Running), StartError> {
        let recovered = recovery::recover(id, backend, definitions).await?;
        let (mailbox, orders) = mpsc::channel(MAILBOX_MAX);
        let (tail, _) = broadcast::channel(TAIL_MAX);
        let weak_tail = tail.downgrade();
        let (feed, applied, feeding) = feed::start(id, backend.clone());
        let links = writer::Links {
            orders,
            performed: mailbox.downgrade(),
            applied,
            feed,
            tail,
            tokens: tokens.clone(),
        };
        let (writer, status) =
            writer::Writer::lead(id, backend.clone(), config.clone(), recovered, links).await?;
        let (halt, halted) = watch::channel(None);
        let handle = Self {
            id,
            mailbox,
            status,
            tail: weak_tail,
            halt,
        };
        Ok((
            handle,
            Running {
                writer: Part::start(until_halted(writer, halted.clone())),
                feed: feeding,
                halted,
            },
        ))
    }

    /// A partition that could not be led: it says why, and refuses everything.
    pub(crate) fn stopped(id: PartitionId, position: Position, error: &StartError) -> Self {
        let status = Status {
            state: State::Stopped(error.to_string()),
            epoch: Epoch(0),
            position,
            evictions: 0,
        };
        Self {
            id,
            mailbox: mpsc::channel(1).0,
            status: watch::channel(status).1,
            tail: broadcast::channel(1).0.downgrade(),
            halt: watch::channel(None).0,
        }
    }

    /// Stops the writer at once, as a crash would, because what it stands on has failed; the first reason stays.
    pub(crate) fn halt(&self, reason: &str) {
        self.halt.send_if_modified(|halted| {
            let is_first = halted.is_none();
            halted.get_or_insert_with(|| reason.to_owned());
            is_first
        });
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Whether this writer will not write again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.status.borrow().state.has_ended() || self.mailbox.is_closed()
    }

    /// Resolves once this writer will not write again.
    pub(crate) async fn ended(&self) {
        let mut status = self.status.clone();
        // Fails where the writer was dropped.
        let _ = status.wait_for(|status| status.state.has_ended()).await;
    }

    /// The last durable record, as soon as it is later than `after`, or after a while.
    pub(crate) async fn follow_to(
        &self,
        after: Position,
        wait: Duration,
    ) -> Result<Position, Refusal> {
        let mut status = self.status.clone();
        let is_news = |status: &Status| status.position > after || status.state.has_ended();
        match tokio::time::timeout(wait, status.wait_for(is_news)).await {
            Ok(Ok(status)) if status.position > after => Ok(status.position),
            Ok(_) => Err(self.lost()),
            Err(_) => Ok(after),
        }
    }

    /// Live records from now on; closed when the writer ends.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<Tail>> {
        let closed = || broadcast::channel(1).1;
        self.tail
            .upgrade()
            .map_or_else(closed, |tail| tail.subscribe())
    }

    /// Sends an order and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Refusal> {
        self.send(order)?.await.map_err(|_| self.lost())
    }

    /// Sends an order; the receiver resolves to its answer, or to an error where the writer has stopped.
    pub(crate) fn send<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<oneshot::Receiver<T>, Refusal> {
        self.accepts()?;
        let (reply, answer) = oneshot::channel();
        match self.mailbox.try_send(order(reply)) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Refusal::Busy {
                detail: format!("partition {} has {MAILBOX_MAX} commands waiting", self.id),
                retry_after: Duration::from_secs(1),
            }),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(self.lost()),
        }
    }

    /// Has the writer offer again what has got lost and is still wanted; false once there is no writer.
    pub(crate) async fn offer_again(&self, lost: Vec<OfferedAttempt>) -> bool {
        self.mailbox.send(Message::Lost(lost)).await.is_ok()
    }

    /// Lets nothing more in, and resolves once everything that was let in is durable.
    pub(crate) async fn drain(&self) {
        if self.mailbox.send(Message::Close).await.is_ok() {
            self.ended().await;
        }
    }

    /// Asks the writer to end once everything that it has taken is durable.
    pub(crate) fn close(&self) {
        // Where the mailbox is full or gone, the writer ends with its process: nothing of it was acknowledged.
        let _ = self.mailbox.try_send(Message::Close);
    }

    /// Whether new work is let in.
    pub(crate) fn accepts(&self) -> Result<(), Refusal> {
        match self.status.borrow().state.reason() {
            None => Ok(()),
            Some(reason) => Err(Refusal::unavailable(format!(
                "partition {}: {reason}",
                self.id
            ))),
        }
    }

    /// The answer for what was sent and never answered: it may have been done.
    pub(crate) fn lost(&self) -> Refusal {
        Refusal::unavailable(format!(
            "partition {} stopped before it answered: the request may or may not have been carried out, repeat it",
            self.id
        ))
    }
}

impl Running {
    /// Waits until everything accepted is durable and the view holds it; the writer was asked to end.
    pub(crate) async fn join(self) {
        for mut part in [self.writer, self.feed] {
            // What a halted partition stands on has failed: its feed would try for ever.
            if self.halted.borrow().is_some() {
                return;
            }
            if let Err(error) = (&mut part.0).await {
                tracing::error!(%error, "a part of a partition panicked");
            }
        }
    }
}

impl Part {
    /// Runs until it is done or dropped.
    pub(crate) fn start(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a writer to its end, or until it is halted: then nothing more of it leaves, and its callers are not answered.
async fn until_halted(writer: writer::Writer, mut halted: watch::Receiver<Option<String>>) {
    let (partition, status) = (writer.partition, writer.status.clone());
    let reason = tokio::select! {
        () = writer.run() => return,
        Ok(reason) = halted.wait_for(Option::is_some) => reason.clone().unwrap_or_default(),
    };
    tracing::info!(%partition, reason, "the writer is halted");
    status.send_modify(|status| status.state = State::Stopped(reason));
}
