//! The way of offers into the stream: in order, many unacknowledged at a time, in a task of its own.
//!
//! What the stream did not take is sent again before anything else: the server drops what it has taken all the same. While
//! nothing is taken, as while the stream's servers elect a leader, one message after the other is tried, and all of them
//! go as soon as one was taken.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    connection::State,
    jetstream::{
        Context,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
        message::PublishMessage,
        publish::PublishAck,
    },
};
use eventflow_ports::{OfferedAttempt, TaskOffer};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Shared, consumers::Queue, message};

/// Offers that wait to be sent; whoever offers more waits until there is room. Their inputs are in memory anyway.
pub(super) const WAITING_MAX: usize = 8 * 1024;
/// Messages that the server has not taken: some milliseconds' worth of what it takes, so that it is never idle.
const UNACKNOWLEDGED_MAX: usize = 1024;
/// An answer that takes longer is lost with the stream's leader. Far above what three servers take over a message.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Before something that was not taken is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often: what is never taken must not hold up the others. It is offered again after the next look at the stream.
const TRIES_MAX: u32 = 100;
/// How often it is looked whether the server is there again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Between two complaints about a server that does not take tasks.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// An offer that is to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) offer: TaskOffer,
    pub(super) attempt: OfferedAttempt,
    pub(super) dispatch: u32,
}

/// What became of a message.
struct Answered {
    sent: Outgoing,
    tries: u32,
    result: Result<PublishAck, Untaken>,
}

/// Why a message is not known to be in the stream.
#[derive(Debug, thiserror::Error)]
enum Untaken {
    #[error(transparent)]
    Refused(#[from] PublishError),
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Unanswered(#[from] tokio::time::error::Elapsed),
}

/// The task behind the queue: it ends once nobody can offer any more and everything has its answer.
pub(super) struct Publishing {
    shared: Arc<Shared>,
    context: Context,
    /// What was not taken, and how often it was tried.
    again: VecDeque<(Outgoing, u32)>,
    /// Whether the stream takes nothing: one message is tried at a time.
    is_refused: bool,
    complained: Option<Instant>,
}

impl Publishing {
    pub(super) fn new(shared: Arc<Shared>, context: Context) -> Self {
        Self {
            shared,
            context,
            again: VecDeque::new(),
            is_refused: false,
            complained: None,
        }
    }

    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Outgoing>) {
        // Answers are looked at in the order of the messages, so that sequences only go up.
        let mut unacknowledged: FuturesOrdered<BoxFuture<'static, Answered>> =
            FuturesOrdered::new();
        let mut is_open = true;
        // At the end answers are waited for, and nothing is tried again: nobody wants it here any more.
        while is_open || !unacknowledged.is_empty() {
            let max = if self.is_refused {
                1
            } else {
                UNACKNOWLEDGED_MAX
            };
            let has_room = unacknowledged.len() < max;
            if has_room
                && !waiting.is_closed()
                && let Some((next, tries)) = self.again.pop_front()
            {
                unacknowledged.extend(self.send(next, tries).await);
                continue;
            }
            tokio::select! {
                Some(answered) = unacknowledged.next(), if !unacknowledged.is_empty() => {
                    self.answered(answered);
                }
                next = waiting.recv(), if has_room && is_open => match next {
                    Some(next) => unacknowledged.extend(self.send(next, 0).await),
                    None => is_open = false,
                },
            }
        }
    }

    /// Sends an offer, where it is still wanted.
    async fn send(&mut self, next: Outgoing, tries: u32) -> Option<BoxFuture<'static, Answered>> {
        if self.is_refused && tries > 0 {
            sleep(AGAIN_AFTER).await;
        }
        while self.context.client().connection_state() != State::Connected {
            sleep(LOOK_AGAIN).await;
        }
        let Outgoing {
            offer,
            attempt,
            dispatch,
        } = &next;
        if !self.shared.watched().is_wanted(attempt, *dispatch) {
            return None;
        }
        let queue = Queue::of(offer);
        self.ensure(&queue);
        let subject = queue.subject(&self.shared.prefix);
        let node = self.shared.node.as_ref();
        let Some((headers, body)) = message::written(offer.clone(), *dispatch, node) else {
            tracing::error!(execution = %attempt.execution, task = %attempt.task, "a task cannot be queued: its input is not in memory");
            return None;
        };
        let message = PublishMessage::build().headers(headers).payload(body);
        let sent = self.context.send_publish(subject, message).await;
        let answered = acknowledged(sent).map(move |result| Answered {
            sent: next,
            tries: tries + 1,
            result,
        });
        Some(answered.boxed())
    }

    /// Sees to a consumer for a queue beside everything else: the stream keeps what is for it until then.
    fn ensure(&self, queue: &Queue) {
        if self.shared.consumers.knows(queue) {
            return;
        }
        let (shared, queue) = (self.shared.clone(), queue.clone());
        tokio::spawn(async move {
            if let Err(error) = shared.consumers.ensure(&queue).await {
                tracing::warn!(consumer = %queue.consumer(), %error, "agents cannot be served yet");
            }
        });
    }

    fn answered(&mut self, answered: Answered) {
        let Answered {
            sent,
            tries,
            result,
        } = answered;
        let Outgoing {
            attempt, dispatch, ..
        } = &sent;
        match result {
            Ok(ack) => {
                self.is_refused = false;
                let is_new = !ack.duplicate;
                let mut watched = self.shared.watched();
                watched.stored(attempt, *dispatch, ack.sequence, is_new);
            }
            Err(error) => {
                self.complain(attempt, &error);
                if error.is_final() || tries >= TRIES_MAX {
                    self.shared.watched().unsent(attempt, *dispatch);
                } else {
                    self.is_refused = true;
                    self.again.push_back((sent, tries));
                }
            }
        }
    }

    fn complain(&mut self, attempt: &OfferedAttempt, error: &Untaken) {
        let last = self.complained;
        if last.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::warn!(execution = %attempt.execution, task = %attempt.task, %error, "a task could not be queued, it is tried again");
        }
    }
}

impl Untaken {
    /// Whether another try would end the same way.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded)
    }
}

async fn acknowledged(sent: Result<PublishAckFuture, PublishError>) -> Result<PublishAck, Untaken> {
    Ok(timeout(ANSWER_WITHIN, sent?).await??)
}
