//! What servers cannot elect a leader for is made anew: the stream of tasks, or one of its consumers.
//!
//! A server that comes back after it hung makes leaders step down, and the next election takes 4 to 9 seconds where it goes
//! wrong. Its time-outs cannot be set. What is made anew has a leader at once, where all servers are well, and nothing is
//! lost with it that is not offered or given out again: an attempt begins once, however often an agent gets it.
//!
//! While a server hangs nothing is made anew: it may be the one that is to lead, or there may be no room for three copies.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::Info,
    context::{ConsumerInfoErrorKind, RequestErrorKind},
    stream,
};
use eventflow_ports::Source;
use tokio::time::{Instant, sleep, timeout};

use super::{Shared, consumers::Queue};
use crate::stream as streams;

/// How often a stream or consumer is asked before it counts as one without a leader.
const ASKED: usize = 2;
/// How long each of them has for its answer: some milliseconds would do for one that has a leader.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// Of several nodes that have asked in vain, one makes it anew, and the others find it so: each waits for less than this.
const APART: Duration = Duration::from_millis(500);
/// What has no leader is removed without anybody who would say so.
const REMOVED_WITHIN: Duration = Duration::from_millis(200);
/// A server that is well was heard of by the others so lately: they send each other heartbeats each second.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

impl Shared {
    /// What is said of the stream; nothing where nobody leads it.
    pub(super) async fn stream_info(&self) -> Result<Option<stream::Info>, stream::InfoError> {
        for _ in 0..ASKED {
            match timeout(ANSWERED_WITHIN, self.stream.get_info()).await {
                Ok(Ok(info)) => return Ok(Some(info)),
                Ok(Err(error)) if error.kind() != RequestErrorKind::TimedOut => return Err(error),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// What is said of a queue's consumer, which is made where it is not there; nothing where nobody leads it.
    pub(super) async fn consumer_info(&self, queue: &Queue) -> Result<Option<Info>, Source> {
        for _ in 0..ASKED {
            let asked = self.stream.consumer_info(queue.consumer());
            match timeout(ANSWERED_WITHIN, asked).await {
                Ok(Ok(info)) => return Ok(Some(info)),
                Ok(Err(error)) => match error.kind() {
                    ConsumerInfoErrorKind::TimedOut => {}
                    ConsumerInfoErrorKind::NotFound => {
                        self.consumers.forget(queue);
                        self.consumers.ensure(queue).await?;
                    }
                    _ => return Err(error.into()),
                },
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Makes the stream anew that nobody leads.
    pub(super) async fn remake_stream(&self) -> Result<stream::Info, Source> {
        let name = &self.needed.name;
        self.await_turn(name).await?;
        if let Ok(Ok(info)) = timeout(ANSWERED_WITHIN, self.stream.get_info()).await {
            return Ok(info);
        }
        tracing::warn!(stream = %name, "the stream of tasks has no leader and is made anew");
        let removing = self.context.delete_stream(name);
        timeout(REMOVED_WITHIN, removing).await.ok();
        let deadline = Instant::now() + ANSWERED_WITHIN;
        streams::open(&self.context, &self.needed, deadline).await?;
        self.consumers.forget_all();
        Ok(self.stream.get_info().await?)
    }

    /// Makes a consumer anew that nobody leads; its stream has answered.
    pub(super) async fn remake_consumer(&self, queue: &Queue) -> Result<Info, Source> {
        let name = queue.consumer();
        self.await_turn(&name).await?;
        let asked = self.stream.consumer_info(&name);
        if let Ok(Ok(info)) = timeout(ANSWERED_WITHIN / 2, asked).await {
            return Ok(info);
        }
        tracing::warn!(consumer = %name, "a queue of tasks has no leader and is made anew");
        let removing = self.stream.delete_consumer(&name);
        timeout(REMOVED_WITHIN, removing).await.ok();
        self.consumers.forget(queue);
        let made = async {
            self.consumers.ensure(queue).await?;
            Ok(self.stream.consumer_info(&name).await?)
        };
        timeout(ANSWERED_WITHIN, made).await?
    }

    /// Waits for this node's turn to make something anew; an error where that would not help.
    async fn await_turn(&self, name: &str) -> Result<(), Source> {
        if !self.is_well().await {
            return Err(format!("nobody leads {name} now").into());
        }
        let mut random = [0];
        // Without it several nodes may do the same, which is as good.
        getrandom::fill(&mut random).ok();
        sleep(APART * u32::from(random[0]) / 256).await;
        Ok(())
    }

    /// Whether there are several servers and each has been heard of lately, as the leader of the roll of nodes says.
    async fn is_well(&self) -> bool {
        // One copy that does not answer has died with its server, or will be there again with it.
        if self.needed.num_replicas == 1 {
            return false;
        }
        let asked = self.context.get_stream(&self.roll);
        let Ok(Ok(roll)) = timeout(ANSWERED_WITHIN, asked).await else {
            return false;
        };
        let cluster = roll.cached_info().cluster.as_ref();
        cluster.is_some_and(|cluster| {
            cluster
                .replicas
                .iter()
                .all(|server| server.current && !server.offline && server.active < HEARD_WITHIN)
        })
    }
}
