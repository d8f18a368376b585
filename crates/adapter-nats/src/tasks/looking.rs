//! Looks at the stream: which of the tasks that were offered it does not hold any more.

use std::collections::{HashMap, HashSet};

use async_nats::{
    header::NATS_MESSAGE_ID,
    jetstream::{
        ErrorCode,
        consumer::Info,
        stream::{InfoError, RawMessageErrorKind, State},
    },
};
use eventflow_ports::Source;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::{
    Shared,
    consumers::Queue,
    watched::{Findings, QueueState},
};
use crate::stream as streams;

/// Between two looks: an agent that took a task has the time between two of them to begin it.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
/// Questions to the server at a time.
const ASKED_AT_ONCE: usize = 16;
/// Messages of a queue that are looked for one by one in a look: those that were given out, not begun, and are not the
/// oldest ones. Usually there are none.
const SOUGHT_MAX: usize = 64;

impl Shared {
    /// Takes a look, unless one was just taken.
    pub(super) async fn look(&self) -> Result<(), Source> {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|last| last.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let (look, queues) = self.watched().begin_look();
        let state = self.state().await?;
        self.level.set(level(state.messages));
        let asked = queues.into_iter().map(|queue| self.queue(queue));
        let found: Vec<_> = stream::iter(asked)
            .buffer_unordered(ASKED_AT_ONCE)
            .try_collect()
            .await?;
        let mut findings = Findings {
            look,
            first: state.first_sequence,
            last: state.last_sequence,
            queues: HashMap::new(),
            gone: HashSet::new(),
        };
        for (queue, found, gone) in found {
            findings.queues.insert(queue, found);
            findings.gone.extend(gone);
        }
        self.watched().end_look(&findings);
        *looked = Some(Instant::now());
        Ok(())
    }

    /// The stream's; it is made anew where somebody has removed it.
    async fn state(&self) -> Result<State, Source> {
        match self.stream_info().await {
            Ok(Some(info)) => Ok(info.state),
            Ok(None) => Ok(self.remake_stream().await?.state),
            Err(error) if is_removed(&error) => {
                tracing::warn!(stream = %self.needed.name, "the stream of tasks is gone and is made anew");
                streams::open(&self.context, &self.needed, Instant::now()).await?;
                self.consumers.forget_all();
                Ok(self.stream.get_info().await?.state)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn queue(&self, queue: Queue) -> Result<(Queue, QueueState, Vec<u64>), Source> {
        let info = match self.consumer_info(&queue).await? {
            Some(info) => info,
            None => self.remake_consumer(&queue).await?,
        };
        let state = QueueState {
            floor: info.ack_floor.stream_sequence,
            is_empty: info.num_pending == 0 && info.num_ack_pending == 0,
        };
        let gone = if state.is_empty {
            Vec::new()
        } else {
            self.gone(&queue, &info).await?
        };
        Ok((queue, state, gone))
    }

    /// Which of the tasks that were given out, and that the floor does not tell of, are not in the stream any more.
    async fn gone(&self, queue: &Queue, info: &Info) -> Result<Vec<u64>, Source> {
        let (floor, given) = (
            info.ack_floor.stream_sequence,
            info.delivered.stream_sequence,
        );
        let sought = self
            .watched()
            .stored_between(queue, floor, given, SOUGHT_MAX);
        let asked = sought.into_iter().map(async |(sequence, id)| {
            let is_gone = !self.holds(sequence, &id).await?;
            Ok::<_, Source>(is_gone.then_some(sequence))
        });
        stream::iter(asked)
            .buffer_unordered(ASKED_AT_ONCE)
            .try_filter_map(async |gone| Ok(gone))
            .try_collect()
            .await
    }

    /// Whether a sequence still holds the message of this id.
    async fn holds(&self, sequence: u64, id: &str) -> Result<bool, Source> {
        match self.stream.get_raw_message(sequence).await {
            Ok(message) => {
                let found = message.headers.get(NATS_MESSAGE_ID);
                Ok(found.is_some_and(|found| found.as_str() == id))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_removed(error: &InfoError) -> bool {
    let cause = std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<async_nats::jetstream::Error>());
    cause.is_some_and(|cause| cause.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 tasks")]
fn level(messages: u64) -> f64 {
    messages as f64
}
