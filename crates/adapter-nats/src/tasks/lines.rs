//! Lines to the queues: each is an inbox at which the tasks arrive that one take pulls at a time, kept for the next take.
//!
//! **A line with an open pull is never closed**: the server cannot be told to forget a pull, and what it had just sent to
//! an inbox that is gone would come again only after the acknowledgement wait. So a take that is over, or was dropped,
//! leaves its lines here for the next one, which finds the pull open. What comes to a line that nobody takes up is given
//! back after a moment.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_nats::{Client, Message, StatusCode, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde::Serialize;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{Shared, consumers::Queue};

/// How much later than it says a server may answer.
const GRACE: Duration = Duration::from_secs(1);
/// How long a task may lie at a line that nobody takes up: an agent that works in a loop asks again sooner.
const HELD_FOR: Duration = Duration::from_millis(20);
/// How long a line without a pull is kept.
const IDLE_FOR: Duration = Duration::from_secs(5);
/// Lines without a pull that are kept for one queue; more are closed at once.
const IDLE_MAX: usize = 256;

pub(super) const ACK: Bytes = Bytes::from_static(b"+ACK");
pub(super) const NAK: Bytes = Bytes::from_static(b"-NAK");

/// A pull request, as the server reads it: for what is there, and where there is nothing for the first that comes.
#[derive(Debug, Serialize)]
struct PullRequest {
    batch: usize,
    no_wait: bool,
    /// In nanoseconds; not there where it does not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

/// The way of tasks from one queue to one take at a time.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) queue: Queue,
    inbox: String,
    coming: Subscriber,
    /// The number of the last pull.
    pull: u64,
    pub(super) open: Option<Open>,
    /// When the last take left it.
    left_at: Instant,
}

/// A pull that the server has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// Tasks that may still come.
    pub(super) left: usize,
    /// When the server has answered at the latest.
    pub(super) until: Instant,
}

/// What comes to a line.
#[derive(Debug)]
pub(super) enum Coming {
    /// A message of the queue, and where to acknowledge it.
    Task(Box<Message>, Subject),
    /// The open pull has ended.
    Ended(Ended),
    /// The connection has.
    Closed,
}

/// How a pull has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// All was given that was there, or nothing came in time.
    Given,
    /// Others wait for what is there.
    Contended,
    /// There is no such consumer.
    NoConsumer,
    /// The server is not ready for it.
    Refused,
}

impl Line {
    async fn new(client: &Client, queue: Queue) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        Ok(Self {
            coming: client.subscribe(format!("{inbox}.*")).await?,
            inbox,
            queue,
            pull: 0,
            open: None,
            left_at: Instant::now(),
        })
    }

    /// Asks for tasks.
    pub(super) async fn pull(
        &mut self,
        shared: &Shared,
        batch: usize,
        wait: Duration,
    ) -> Result<(), async_nats::Error> {
        let request = PullRequest {
            batch,
            no_wait: true,
            expires: u64::try_from(wait.as_nanos()).ok().filter(|wait| *wait > 0),
        };
        let consumer = self.queue.consumer();
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}",
            shared.needed.name
        );
        self.pull += 1;
        // Before it is sent: a take that is dropped meanwhile must leave the line open.
        self.open = Some(Open {
            left: batch,
            until: Instant::now() + wait + GRACE,
        });
        let reply = format!("{}.{}", self.inbox, self.pull);
        let body = serde_json::to_vec(&request)?;
        let sent = shared
            .client
            .publish_with_reply(subject, reply, body.into());
        Ok(sent.await?)
    }

    /// What comes next; word of earlier pulls is skipped.
    pub(super) async fn next(&mut self) -> Coming {
        while let Some(message) = self.coming.next().await {
            if let Some(status) = message.status {
                if let Some(ended) = self.ended(status, &message) {
                    self.open = None;
                    return Coming::Ended(ended);
                }
            } else if let Some(reply) = message.reply.clone() {
                self.open = match self.open {
                    Some(open) if open.left > 1 => Some(Open {
                        left: open.left - 1,
                        ..open
                    }),
                    Some(_) | None => None,
                };
                return Coming::Task(Box::new(message), reply);
            }
        }
        Coming::Closed
    }

    fn ended(&self, status: StatusCode, message: &Message) -> Option<Ended> {
        let number = message.subject.strip_prefix(self.inbox.as_str())?;
        if number.strip_prefix('.')?.parse() != Ok(self.pull) {
            return None;
        }
        let words = message.description.as_deref().unwrap_or_default();
        match status {
            StatusCode::IDLE_HEARTBEAT => None,
            StatusCode::TIMEOUT if words.contains("Requests Pending") => Some(Ended::Contended),
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Some(Ended::Given),
            StatusCode::NO_RESPONDERS => Some(Ended::NoConsumer),
            _ => {
                let consumer = self.queue.consumer();
                tracing::debug!(%consumer, %status, words, "a pull was refused");
                Some(Ended::Refused)
            }
        }
    }

    /// Whether its pull may still bring something.
    fn is_open(&self) -> bool {
        self.open.is_some_and(|open| open.until > Instant::now())
    }
}

/// The lines that no take has.
#[derive(Debug)]
pub(super) struct Lines {
    client: Client,
    free: Mutex<HashMap<Queue, VecDeque<Line>>>,
    /// Told when there is a free line.
    left: Notify,
}

impl Lines {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            free: Mutex::default(),
            left: Notify::new(),
        }
    }

    /// A line to a queue: the one that was left last, so that the order in which tasks came to it is kept.
    pub(super) async fn line(&self, queue: Queue) -> Result<Line, SubscribeError> {
        let free = self.lock().get_mut(&queue).and_then(VecDeque::pop_back);
        match free {
            Some(mut line) => {
                line.open = line.open.filter(|_| line.is_open());
                Ok(line)
            }
            None => Line::new(&self.client, queue).await,
        }
    }

    /// Leaves a line for the next take.
    pub(super) fn leave(&self, mut line: Line) {
        line.left_at = Instant::now();
        self.lock()
            .entry(line.queue.clone())
            .or_default()
            .push_back(line);
        self.left.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Queue, VecDeque<Line>>> {
        // Nothing is left half-changed by a panic.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes lines that nobody needs; where to give back what has come to those that nobody has taken up.
    fn sweep(&self) -> Vec<Subject> {
        let mut unwanted = Vec::new();
        let free = &mut *self.lock();
        free.retain(|_, lines| {
            let spare = lines.len().saturating_sub(IDLE_MAX);
            for (index, mut line) in mem::take(lines).into_iter().enumerate() {
                let idle_for = if index < spare { HELD_FOR } else { IDLE_FOR };
                let is_fresh = line.left_at.elapsed() < HELD_FOR;
                let is_connected = is_fresh || line.give_back(&mut unwanted);
                let is_needed = line.is_open() || line.left_at.elapsed() < idle_for;
                if is_connected && is_needed {
                    lines.push_back(line);
                }
            }
            !lines.is_empty()
        });
        unwanted
    }
}

impl Line {
    /// Where to give back what has come; false where nothing will any more.
    fn give_back(&mut self, unwanted: &mut Vec<Subject>) -> bool {
        while let Some(coming) = self.next().now_or_never() {
            match coming {
                Coming::Task(_, reply) => unwanted.push(reply),
                Coming::Ended(_) => {}
                Coming::Closed => return false,
            }
        }
        true
    }
}

/// Sees to the free lines for as long as the queue is there.
pub(super) async fn tend(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let lines = &shared.lines;
        if lines.lock().is_empty() {
            // Looks now and then whether the queue is still there.
            tokio::time::timeout(IDLE_FOR, lines.left.notified())
                .await
                .ok();
            continue;
        }
        let (client, unwanted) = (lines.client.clone(), lines.sweep());
        drop(shared);
        answer(&client, unwanted, NAK).await;
        sleep(HELD_FOR).await;
    }
}

/// Answers tasks; what does not get there comes again.
pub(super) async fn answer(client: &Client, replies: Vec<Subject>, answer: Bytes) {
    for reply in replies {
        client.publish(reply, answer.clone()).await.ok();
    }
}
