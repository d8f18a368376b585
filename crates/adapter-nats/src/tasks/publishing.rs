//! The way of offers into the stream: in order, many unacknowledged at a time, in a task of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    connection::State,
    jetstream::{
        Context,
        context::{PublishAckFuture, PublishError},
        message::PublishMessage,
        publish::PublishAck,
    },
};
use eventflow_ports::{OfferedAttempt, TaskOffer};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::{sync::mpsc, time::sleep};

use super::{Shared, consumers::Queue, message};

/// Offers that wait to be sent; whoever offers more waits until there is room. Their inputs are in memory anyway.
pub(super) const WAITING_MAX: usize = 8 * 1024;
/// Messages that the server has not acknowledged: some milliseconds' worth of what it takes, so that it is never idle.
const UNACKNOWLEDGED_MAX: usize = 1024;
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
    attempt: OfferedAttempt,
    dispatch: u32,
    result: Result<PublishAck, PublishError>,
}

/// The task behind the queue: it ends once nobody can offer any more and everything has its answer.
pub(super) struct Publishing {
    shared: Arc<Shared>,
    context: Context,
    complained: Option<Instant>,
}

impl Publishing {
    pub(super) fn new(shared: Arc<Shared>, context: Context) -> Self {
        Self {
            shared,
            context,
            complained: None,
        }
    }

    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Outgoing>) {
        // Answers are looked at in the order of the messages, so that sequences only go up.
        let mut unacknowledged: FuturesOrdered<BoxFuture<'static, Answered>> =
            FuturesOrdered::new();
        loop {
            tokio::select! {
                Some(answered) = unacknowledged.next(), if !unacknowledged.is_empty() => {
                    self.answered(answered);
                }
                next = waiting.recv(), if unacknowledged.len() < UNACKNOWLEDGED_MAX => match next {
                    Some(next) => unacknowledged.extend(self.send(next).await),
                    None if unacknowledged.is_empty() => return,
                    // The rest of the answers, without looking for more.
                    None => break,
                },
            }
        }
        while let Some(answered) = unacknowledged.next().await {
            self.answered(answered);
        }
    }

    /// Sends an offer, where it is still wanted.
    async fn send(&mut self, next: Outgoing) -> Option<BoxFuture<'static, Answered>> {
        let Outgoing {
            offer,
            attempt,
            dispatch,
        } = next;
        while self.context.client().connection_state() != State::Connected {
            sleep(LOOK_AGAIN).await;
        }
        if !self.shared.watched().is_wanted(&attempt, dispatch) {
            return None;
        }
        let queue = Queue::of(&offer);
        self.ensure(&queue);
        let subject = queue.subject(&self.shared.prefix);
        let Some((headers, body)) = message::written(offer, dispatch, self.shared.node.as_ref())
        else {
            tracing::error!(execution = %attempt.execution, task = %attempt.task, "a task cannot be queued: its input is not in memory");
            return None;
        };
        let message = PublishMessage::build().headers(headers).payload(body);
        let sent = self.context.send_publish(subject, message).await;
        Some(acknowledged(sent, attempt, dispatch).boxed())
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
            attempt,
            dispatch,
            result,
        } = answered;
        match result {
            Ok(ack) => {
                let is_new = !ack.duplicate;
                let mut watched = self.shared.watched();
                watched.stored(&attempt, dispatch, ack.sequence, is_new);
            }
            Err(error) => {
                self.shared.watched().unsent(&attempt, dispatch);
                if self
                    .complained
                    .is_none_or(|last| last.elapsed() > COMPLAIN_EVERY)
                {
                    self.complained = Some(Instant::now());
                    tracing::warn!(execution = %attempt.execution, task = %attempt.task, %error, "a task could not be queued, it will be offered again");
                }
            }
        }
    }
}

async fn acknowledged(
    sent: Result<PublishAckFuture, PublishError>,
    attempt: OfferedAttempt,
    dispatch: u32,
) -> Answered {
    let result = match sent {
        Ok(acknowledged) => acknowledged.await,
        Err(error) => Err(error),
    };
    Answered {
        attempt,
        dispatch,
        result,
    }
}
