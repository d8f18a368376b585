//! A take: pulls from the queues of all its capabilities at once, and is over with the first tasks that come.
//!
//! Each pull asks for what is there now, and where there is nothing waits for the first: the server says when it has
//! given all that there is.

use std::{collections::HashSet, future::poll_fn, mem, pin::pin, task::Poll, time::Duration};

use async_nats::{Message, Subject, connection::State};
use bytes::Bytes;
use eventflow_domain::{Capability, Tenant};
use eventflow_ports::{QueueError, TaskOffer};
use futures::{
    FutureExt as _,
    future::{join_all, try_join_all},
};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Shared,
    consumers::Queue,
    lines::{self, Coming, Ended, Line},
    message, unavailable,
};

/// The longest that one pull waits: where a server has died with it, the next one is asked after this time.
const PULL_WAIT: Duration = Duration::from_secs(5);
/// The longest pause within tasks that were given together.
const GATHER: Duration = Duration::from_millis(100);
/// What is on its way to a pull that is open already may take so long, also where a take does not wait.
const MOMENT: Duration = Duration::from_millis(10);
/// Before a pull that was refused is repeated, where others were faster, and where the server is not ready.
const PAUSE: Duration = Duration::from_millis(5);
const LONG_PAUSE: Duration = Duration::from_millis(100);

/// It is no task, and no use to give it to anybody else.
const TERM: Bytes = Bytes::from_static(b"+TERM");

/// A take under way. Dropped before it is over, it gives everything back.
pub(super) struct Taking<'a> {
    shared: &'a Shared,
    max: usize,
    deadline: Instant,
    pulls: Vec<Pull>,
    /// Not acknowledged yet, each with where to.
    taken: Vec<(TaskOffer, Subject)>,
}

/// What a take does at one line.
struct Pull {
    line: Line,
    /// The most that it asks for.
    batch: usize,
    /// Whether something of what there is has come, and more may follow at once.
    gives: bool,
    state: PullState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PullState {
    /// Until the open pull has ended, or this time.
    Open(Instant),
    /// To be asked (again) at this time.
    Pausing(Instant),
    /// There is nothing there, and this take does not wait any longer.
    Over,
    /// The server does not answer.
    Silent,
}

impl<'a> Taking<'a> {
    /// Goes to a line of each queue, whose consumers are made where they are not there.
    pub(super) async fn begin(
        shared: &'a Shared,
        tenant: &Tenant,
        capabilities: &[Capability],
        max: usize,
        deadline: Instant,
    ) -> Result<Self, QueueError> {
        let different: HashSet<&Capability> = capabilities.iter().collect();
        let queues = different.iter().map(|capability| Queue {
            tenant: tenant.clone(),
            capability: (*capability).clone(),
        });
        let queues: Vec<_> = queues.collect();
        let ensured = try_join_all(queues.iter().map(|queue| shared.consumers.ensure(queue)));
        timeout(shared.answer_within, ensured)
            .await
            .map_err(unavailable)?
            .map_err(QueueError::Unavailable)?;
        let mut taking = Self {
            shared,
            max,
            deadline,
            pulls: Vec::with_capacity(queues.len()),
            taken: Vec::new(),
        };
        let batch = (max / queues.len()).max(1);
        let now = Instant::now();
        for line in join_all(queues.into_iter().map(|queue| shared.lines.line(queue))).await {
            let line = line.map_err(unavailable)?;
            let state = match line.open {
                Some(open) => PullState::Open(open.until.min(deadline.max(now + MOMENT))),
                None => PullState::Pausing(now),
            };
            taking.pulls.push(Pull {
                line,
                batch,
                gives: false,
                state,
            });
        }
        Ok(taking)
    }

    /// The first tasks that come, nothing where none do in time.
    pub(super) async fn wait(mut self) -> Result<Vec<TaskOffer>, QueueError> {
        loop {
            self.pull().await?;
            if self.is_over() {
                break;
            }
            let until = self.next_look();
            match timeout_at(until, next(&mut self.pulls)).await {
                Ok((index, coming)) => self.receive(index, coming).await?,
                Err(_) if !self.taken.is_empty() => break,
                Err(_) => self.look_at_time(),
            }
        }
        // What has come of other queues meanwhile.
        while self.taken.len() < self.max
            && let Some((index, coming)) = next(&mut self.pulls).now_or_never()
        {
            self.receive(index, coming).await?;
        }
        let is_silent = |pull: &Pull| pull.state == PullState::Silent;
        if self.taken.is_empty() && self.pulls.iter().any(is_silent) {
            return Err(unavailable(
                "NATS JetStream does not answer when asked for tasks",
            ));
        }
        Ok(self.hand_on())
    }

    /// Asks where it is time to.
    async fn pull(&mut self) -> Result<(), QueueError> {
        let now = Instant::now();
        let is_away = self.shared.client.connection_state() != State::Connected;
        let is_late = now >= self.deadline;
        let wait = self.deadline.saturating_duration_since(now).min(PULL_WAIT);
        for pull in &mut self.pulls {
            let PullState::Pausing(until) = pull.state else {
                continue;
            };
            if until > now || !self.taken.is_empty() {
                continue;
            }
            if is_away {
                pull.state = if is_late {
                    PullState::Silent
                } else {
                    PullState::Pausing(now + LONG_PAUSE)
                };
                continue;
            }
            let asked = pull.line.pull(self.shared, pull.batch, wait).await;
            asked.map_err(QueueError::Unavailable)?;
            // A server that is asked for what is there answers at once, and later where it is just starting.
            let open_until = pull.line.open.map_or(now, |open| open.until);
            pull.state = PullState::Open(if is_late {
                now + self.shared.answer_within
            } else {
                open_until
            });
        }
        Ok(())
    }

    /// Whether no more is to be waited for: there is as much as may be, or all of a queue that had something, or
    /// nothing more is asked for.
    fn is_over(&self) -> bool {
        let is_asked =
            |pull: &Pull| matches!(pull.state, PullState::Open(_) | PullState::Pausing(_));
        self.taken.len() >= self.max
            || (!self.taken.is_empty() && !self.pulls.iter().any(|pull| pull.gives))
            || !self.pulls.iter().any(is_asked)
    }

    fn next_look(&self) -> Instant {
        if !self.taken.is_empty() {
            return Instant::now() + GATHER;
        }
        let states = self.pulls.iter().filter_map(|pull| match pull.state {
            PullState::Open(until) | PullState::Pausing(until) => Some(until),
            PullState::Over | PullState::Silent => None,
        });
        states.min().unwrap_or(self.deadline)
    }

    /// Gives up on what is overdue, and asks again where there is time.
    fn look_at_time(&mut self) {
        let now = Instant::now();
        for pull in &mut self.pulls {
            if let PullState::Open(until) = pull.state
                && until <= now
            {
                pull.state = match pull.line.open {
                    // It waits for longer than this take does.
                    Some(open) if open.until > now => PullState::Over,
                    _ if now < self.deadline => PullState::Pausing(now),
                    _ => PullState::Silent,
                };
            }
        }
    }

    async fn receive(&mut self, index: usize, coming: Coming) -> Result<(), QueueError> {
        match coming {
            Coming::Task(message, reply) => self.accept(index, &message, reply).await,
            Coming::Ended(ended) => self.ended(index, ended).await,
            Coming::Closed => return Err(unavailable("the connection to NATS was closed")),
        }
        Ok(())
    }

    async fn accept(&mut self, index: usize, message: &Message, reply: Subject) {
        match message::read(message) {
            Ok(offer) => self.taken.push((offer, reply)),
            Err(error) => {
                tracing::warn!(subject = %message.subject, %error, "a message among the tasks is none and was thrown away: see who else publishes there");
                // Where it does not get there, it comes again.
                self.shared.client.publish(reply, TERM).await.ok();
            }
        }
        let pull = &mut self.pulls[index];
        pull.gives = pull.line.open.is_some();
        if !pull.gives {
            pull.state = PullState::Pausing(Instant::now());
        }
    }

    /// What follows from the end of a pull.
    async fn ended(&mut self, index: usize, ended: Ended) {
        let (now, pull) = (Instant::now(), &mut self.pulls[index]);
        pull.gives = false;
        let waits = now < self.deadline;
        let again = |pause: Duration, otherwise: PullState| {
            if waits {
                PullState::Pausing(now + pause)
            } else {
                otherwise
            }
        };
        pull.state = match ended {
            Ended::Given => again(Duration::ZERO, PullState::Over),
            Ended::Contended => again(PAUSE, PullState::Over),
            Ended::Refused => again(LONG_PAUSE, PullState::Silent),
            Ended::NoConsumer => {
                let queue = &pull.line.queue;
                self.shared.consumers.forget(queue);
                if let Err(error) = self.shared.consumers.ensure(queue).await {
                    tracing::debug!(consumer = %queue.consumer(), %error, "a consumer could not be made");
                }
                again(LONG_PAUSE, PullState::Silent)
            }
        };
    }

    /// Acknowledges what was taken.
    fn hand_on(mut self) -> Vec<TaskOffer> {
        let (offers, replies) = mem::take(&mut self.taken).into_iter().unzip();
        let client = self.shared.client.clone();
        // Beside: whoever takes them need not wait, and cannot be dropped in the middle of it.
        tokio::spawn(async move { lines::answer(&client, replies, lines::ACK).await });
        offers
    }
}

/// What comes next to any line.
async fn next(pulls: &mut [Pull]) -> (usize, Coming) {
    poll_fn(|context| {
        for (index, pull) in pulls.iter_mut().enumerate() {
            if let Poll::Ready(coming) = pin!(pull.line.next()).poll(context) {
                return Poll::Ready((index, coming));
            }
        }
        Poll::Pending
    })
    .await
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        for pull in self.pulls.drain(..) {
            self.shared.lines.leave(pull.line);
        }
        let replies: Vec<_> = mem::take(&mut self.taken)
            .into_iter()
            .map(|(_, reply)| reply)
            .collect();
        // Without a runtime the server waits for the acknowledgement in vain.
        if let Ok(runtime) = Handle::try_current()
            && !replies.is_empty()
        {
            let client = self.shared.client.clone();
            runtime.spawn(async move { lines::answer(&client, replies, lines::NAK).await });
        }
    }
}
