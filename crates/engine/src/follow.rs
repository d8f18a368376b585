//! Following the journal live: streams of public events, and the feed to a publisher.

use std::{collections::HashMap, sync::Arc, time::Duration};

use eventflow_domain::{
    Position, Sequence, Tenant, Timestamp,
    execution::{Event, Execution},
    record::{self, Entry},
};
use eventflow_ports::{
    LifecycleEvent, ReadLimit,
    inbound::{EventStream, Refusal, StreamFrom},
};
use tokio::sync::{broadcast, mpsc};

use crate::{
    engine::Inner,
    history,
    lifecycle::{is_terminal, lifecycle},
    partition::{Committed, Key, Partition, State, Tail},
};

/// Events that wait for a slow reader of a stream; then the stream waits for it.
const STREAM_BUFFER: usize = 256;
/// Executions whose state a follower keeps folded; further ones are folded again when they move.
const FOLDED_MAX: usize = 16_384;
/// Between two tries of a publisher that does not answer.
const PUBLISH_PAUSE: Duration = Duration::from_millis(200);

/// A stream of a tenant's public events.
pub(crate) async fn stream(
    inner: &Arc<Inner>,
    tenant: &Tenant,
    from: StreamFrom,
) -> Result<EventStream, Refusal> {
    let (events, receiver) = mpsc::channel(STREAM_BUFFER);
    match from {
        StreamFrom::Execution(execution, after) => {
            let key = Key {
                tenant: tenant.clone(),
                id: execution,
            };
            // Fails at once where there is no such execution.
            inner.find(&key, false).await?;
            let watch = Watch {
                inner: inner.clone(),
                key,
                sent: after,
                events,
            };
            tokio::spawn(watch.run());
        }
        StreamFrom::Now => {
            // One that has stopped has no events any more, and must not end the stream of the others'.
            let going_on = |partition: &&Partition| !partition.is_stopped();
            for partition in inner.partitions.iter().filter(going_on) {
                let follower = Follower::new(
                    inner.clone(),
                    partition.clone(),
                    partition.status().position,
                );
                tokio::spawn(all_of(follower, tenant.clone(), events.clone()));
            }
        }
    }
    Ok(Box::pin(Received(receiver)))
}

/// A receiver as a stream.
struct Received(mpsc::Receiver<Result<LifecycleEvent, Refusal>>);

impl futures_core::Stream for Received {
    type Item = Result<LifecycleEvent, Refusal>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

async fn all_of(
    mut follower: Follower,
    tenant: Tenant,
    events: mpsc::Sender<Result<LifecycleEvent, Refusal>>,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = follower.next() => next,
            () = events.closed() => return,
        };
        let (public, failure) = match next {
            Ok((_, public)) => (public, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        for event in public.into_iter().filter(|event| event.tenant == tenant) {
            if events.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if let Some(refusal) = failure {
            let _ = events.send(Err(refusal)).await;
            return;
        }
    }
}

/// Publishes everything of a partition, from where it was published to, for ever.
pub(crate) async fn publish(inner: Arc<Inner>, partition: Partition) {
    let Some(publisher) = inner.backend.publisher.clone() else {
        return;
    };
    let from = loop {
        match publisher.position(partition.id).await {
            Ok(position) => break position,
            Err(error) => {
                tracing::warn!(%error, "the event publisher does not answer, trying again");
            }
        }
        tokio::time::sleep(PUBLISH_PAUSE).await;
    };
    let mut follower = Follower::new(inner, partition.clone(), from);
    loop {
        let (position, events) = match follower.next().await {
            Ok(next) => next,
            Err(_) if matches!(partition.status().state, State::Stopped(_)) => return,
            Err(refusal) => {
                tracing::warn!(%refusal, "the publisher's feed cannot read the journal, trying again");
                tokio::time::sleep(PUBLISH_PAUSE).await;
                continue;
            }
        };
        while let Err(error) = publisher
            .publish(partition.id, position, events.clone())
            .await
        {
            tracing::warn!(%error, "events could not be published, trying again");
            tokio::time::sleep(PUBLISH_PAUSE).await;
        }
    }
}

/// A cursor over a partition's journal that folds what it passes.
struct Follower {
    inner: Arc<Inner>,
    partition: Partition,
    live: broadcast::Receiver<Arc<Tail>>,
    position: Position,
    /// Read from the journal, not handed out yet.
    read: std::collections::VecDeque<Tail>,
    folded: HashMap<Key, Execution>,
}

impl Follower {
    fn new(inner: Arc<Inner>, partition: Partition, position: Position) -> Self {
        let live = partition.follow();
        let (read, folded) = (std::collections::VecDeque::new(), HashMap::new());
        Self {
            inner,
            partition,
            live,
            position,
            read,
            folded,
        }
    }

    /// The public events of the next record; after an error, of the same one.
    async fn next(&mut self) -> Result<(Position, Vec<LifecycleEvent>), Refusal> {
        let next = self.pass_next().await;
        if next.is_err() {
            // What was read ahead begins after the record that failed, and part of that one is folded.
            self.read.clear();
            self.folded.clear();
        }
        next
    }

    async fn pass_next(&mut self) -> Result<(Position, Vec<LifecycleEvent>), Refusal> {
        loop {
            if let Some(tail) = self.read.pop_front() {
                return self.pass(&tail).await;
            }
            if self.partition.status().position > self.position && self.live.is_empty() {
                self.read_journal().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(tail) if tail.position <= self.position => {}
                Ok(tail) if tail.position == self.position.next() => return self.pass(&tail).await,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.read_journal().await?,
                Err(broadcast::error::RecvError::Closed) => return Err(self.partition.lost()),
            }
        }
    }

    async fn read_journal(&mut self) -> Result<(), Refusal> {
        let entries = self
            .inner
            .backend
            .journal
            .read(self.partition.id, self.position, ReadLimit::REPLAY)
            .await
            .map_err(|error| Refusal::unavailable(error.to_string()))?;
        // What is not acknowledged yet is nobody's business.
        let durable = self.partition.status().position;
        for entry in entries
            .into_iter()
            .filter(|entry| entry.position <= durable)
        {
            let damaged = |fault: record::RecordFault| Refusal::unavailable(fault.to_string());
            let record = record::decode(&entry.record).map_err(damaged)?;
            let mut events = Vec::new();
            for part in record.entries {
                if let Entry::Execution(written) = part {
                    let parsed = written.parse().map_err(damaged)?;
                    events.push(Committed {
                        key: Key {
                            tenant: written.tenant,
                            id: written.execution,
                        },
                        first: written.first,
                        events: parsed.into_iter().map(|(_, event)| event).collect(),
                    });
                }
            }
            self.read.push_back(Tail {
                position: entry.position,
                time: record.header.time,
                events,
            });
        }
        Ok(())
    }

    async fn pass(&mut self, tail: &Tail) -> Result<(Position, Vec<LifecycleEvent>), Refusal> {
        let mut public = Vec::new();
        for committed in &tail.events {
            self.fold_before(committed).await?;
            let folded = &mut self.folded;
            for (sequence, event) in (committed.first.0..).map(Sequence).zip(&committed.events) {
                fold(folded, &committed.key, event, tail.time);
                if let Some(execution) = folded.get(&committed.key) {
                    public.extend(lifecycle(execution, sequence, event, tail.time));
                }
            }
            if folded.get(&committed.key).is_some_and(Execution::is_ended) {
                folded.remove(&committed.key);
            }
        }
        self.position = tail.position;
        Ok((tail.position, public))
    }

    /// Makes sure that the state right before these events is folded.
    async fn fold_before(&mut self, committed: &Committed) -> Result<(), Refusal> {
        if committed.first == Sequence(1) || self.folded.contains_key(&committed.key) {
            return Ok(());
        }
        if self.folded.len() >= FOLDED_MAX {
            self.folded.clear();
        }
        let events = self.inner.events_of(&committed.key).await?;
        for written in events
            .iter()
            .filter(|written| written.sequence < committed.first)
        {
            fold(
                &mut self.folded,
                &committed.key,
                &written.event,
                written.time,
            );
        }
        Ok(())
    }
}

fn fold(folded: &mut HashMap<Key, Execution>, key: &Key, event: &Event, time: Timestamp) {
    if let Event::ExecutionRequested(requested) = event {
        let execution =
            Execution::requested(key.tenant.clone(), key.id.clone(), requested.clone(), time);
        folded.insert(key.clone(), execution);
    } else if let Some(execution) = folded.get_mut(key) {
        execution.evolve(event, time);
    }
}

/// A stream of one execution: its history after a point, then what follows, up to its end.
struct Watch {
    inner: Arc<Inner>,
    key: Key,
    sent: Sequence,
    events: mpsc::Sender<Result<LifecycleEvent, Refusal>>,
}

impl Watch {
    async fn run(mut self) {
        loop {
            let partition = self.inner.partition(&self.key).clone();
            let mut live = partition.follow();
            let mut folded = HashMap::new();
            let history = match self.inner.events_of(&self.key).await {
                Ok(history) => history,
                Err(refusal) => {
                    let _ = self.events.send(Err(refusal)).await;
                    return;
                }
            };
            for history::Written {
                sequence,
                time,
                event,
                ..
            } in &history
            {
                if !self.pass(&mut folded, *sequence, event, *time).await {
                    return;
                }
            }
            loop {
                let tail = tokio::select! {
                    biased;
                    tail = live.recv() => tail,
                    () = self.events.closed() => return,
                };
                match tail {
                    Ok(tail) => {
                        if !self.pass_record(&mut folded, &tail).await {
                            return;
                        }
                    }
                    // Fell behind: begin again from the history, after what was sent.
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => {
                        let _ = self.events.send(Err(partition.lost())).await;
                        return;
                    }
                }
            }
        }
    }

    async fn pass_record(&mut self, folded: &mut HashMap<Key, Execution>, tail: &Tail) -> bool {
        let key = self.key.clone();
        for committed in tail.events.iter().filter(|committed| committed.key == key) {
            for (sequence, event) in (committed.first.0..).map(Sequence).zip(&committed.events) {
                if !self.pass(folded, sequence, event, tail.time).await {
                    return false;
                }
            }
        }
        true
    }

    /// Folds the next event and sends its public form; false when the stream is over.
    async fn pass(
        &mut self,
        folded: &mut HashMap<Key, Execution>,
        sequence: Sequence,
        event: &Event,
        time: Timestamp,
    ) -> bool {
        let known = folded
            .get(&self.key)
            .map_or(Sequence(0), |execution| execution.sequence);
        if sequence <= known {
            return true;
        }
        fold(folded, &self.key, event, time);
        let Some(execution) = folded.get(&self.key) else {
            return true;
        };
        let Some(public) = lifecycle(execution, sequence, event, time) else {
            return true;
        };
        let is_last = is_terminal(public.kind);
        if sequence > self.sent {
            self.sent = sequence;
            if self.events.send(Ok(public)).await.is_err() {
                return false;
            }
        }
        !is_last
    }
}
