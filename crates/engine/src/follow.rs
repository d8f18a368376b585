//! Following the journal live: streams of public events, and the feed to a publisher.

use std::{sync::Arc, time::Duration};

use eventflow_domain::{
    PartitionId, Position, Sequence, Tenant,
    record::{self, Entry},
};
use eventflow_ports::{
    LifecycleEvent, ReadLimit,
    inbound::{EventStream, Refusal, StreamFrom},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};

use crate::{
    engine::Inner,
    folded::Folding,
    lifecycle::lifecycle,
    partition::{Committed, Key, Partition, Tail},
    questions,
    watch::Watch,
};

/// Events that wait for a slow reader of a stream; then the stream waits for it.
const STREAM_BUFFER: usize = 256;
/// How long another node is asked to wait for something new; then it is asked again.
pub(crate) const POLL_WAIT: Duration = Duration::from_secs(20);
/// How long a stream outlasts that nobody leads its partition: several times what a take-over takes.
const TAKE_OVER_MAX: Duration = Duration::from_mins(1);
/// Between two looks for the new leader.
const MOVE_PAUSE: Duration = Duration::from_millis(100);
/// Events that a publisher is given at once, of as many records as there are by then; a record is not divided.
const PUBLISHED_AT_ONCE: usize = 1_024;
/// How long events wait for company behind those that were just published: what goes together costs a fraction.
const PUBLISH_LINGER: Duration = Duration::from_millis(100);
/// Every so many tries in vain are told of.
const PUBLISH_TRIES_TOLD: u32 = 50;
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
            let key = Key::new(tenant, &execution);
            // Fails at once where there is no such execution.
            inner
                .ask(inner.home(&key), questions::Locate(key.clone()))
                .await?;
            tokio::spawn(Watch::new(inner.clone(), key, after, events).run());
        }
        StreamFrom::Now => {
            for home in inner.homes() {
                // One that has stopped has no events any more, and must not end the stream of the others'.
                let led = inner.led(home);
                let is_over = inner.membership.is_none()
                    && led.is_some_and(|partition| partition.is_stopped());
                if !is_over {
                    let follower = Follower::from_now(inner, home).await?;
                    tokio::spawn(all_of(follower, tenant.clone(), events.clone()));
                }
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
    let mut patience = Patience::of(&follower.inner);
    loop {
        let next = tokio::select! {
            biased;
            next = follower.next() => next,
            () = events.closed() => return,
        };
        let public = match next {
            Ok((_, public)) => public,
            Err(refusal) => {
                if patience.bears(&refusal).await {
                    continue;
                }
                let _ = events.send(Err(refusal)).await;
                return;
            }
        };
        patience.renew();
        for event in public.into_iter().filter(|event| event.tenant == tenant) {
            if events.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }
}

/// How long a stream outlasts that nobody answers for a partition: among several nodes, another one takes over.
pub(crate) struct Patience {
    longest: Duration,
    since: Option<Instant>,
}

impl Patience {
    pub(crate) fn of(inner: &Inner) -> Self {
        let longest = match inner.membership {
            Some(_) => TAKE_OVER_MAX,
            None => Duration::ZERO,
        };
        Self {
            longest,
            since: None,
        }
    }

    pub(crate) fn renew(&mut self) {
        self.since = None;
    }

    /// Waits for a moment where it is worth it.
    pub(crate) async fn bears(&mut self, refusal: &Refusal) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let is_worth_it =
            matches!(refusal, Refusal::Unavailable { .. }) && since.elapsed() < self.longest;
        if is_worth_it {
            tokio::time::sleep(MOVE_PAUSE).await;
        }
        is_worth_it
    }
}

/// Publishes everything of a partition that is led here, from where it was published to, for as long as it is.
pub(crate) async fn publish(inner: Arc<Inner>, partition: Arc<Partition>) {
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
    let mut follower = Follower::of_reign(inner, partition.clone(), from);
    loop {
        let (position, events) = match follower.next_up_to(PUBLISHED_AT_ONCE).await {
            Ok(next) => next,
            Err(_) if partition.is_stopped() => return,
            Err(refusal) => {
                tracing::warn!(%refusal, "the publisher's feed cannot read the journal, trying again");
                tokio::time::sleep(PUBLISH_PAUSE).await;
                continue;
            }
        };
        let mut tries = 0_u32;
        while let Err(error) = publisher
            .publish(partition.id, position, events.clone())
            .await
        {
            if tries.is_multiple_of(PUBLISH_TRIES_TOLD) {
                tracing::warn!(partition = %partition.id, %error, tries, "events could not be published, trying again");
            }
            tries = tries.wrapping_add(1);
            tokio::time::sleep(PUBLISH_PAUSE).await;
        }
        if events.len() < PUBLISHED_AT_ONCE {
            tokio::time::sleep(PUBLISH_LINGER).await;
        }
    }
}

/// A cursor over a partition's journal that folds what it passes.
struct Follower {
    inner: Arc<Inner>,
    home: PartitionId,
    source: Source,
    /// Whether it goes on where the partition is led elsewhere.
    is_moving: bool,
    position: Position,
    /// Read from the journal, not handed out yet.
    read: std::collections::VecDeque<Tail>,
    folding: Folding,
}

/// Where a follower learns of records that are durable.
enum Source {
    /// From the writer in this process.
    Here(Arc<Partition>, broadcast::Receiver<Arc<Tail>>),
    /// By asking whoever leads it.
    Elsewhere,
}

impl Source {
    fn here(partition: Arc<Partition>) -> Self {
        let live = partition.follow();
        Self::Here(partition, live)
    }

    /// The writer in this process where there is one.
    fn of(inner: &Inner, home: PartitionId) -> Self {
        inner.led(home).map_or(Self::Elsewhere, Self::here)
    }
}

impl Follower {
    /// Of what is led here, for as long as it is.
    fn of_reign(inner: Arc<Inner>, partition: Arc<Partition>, position: Position) -> Self {
        Self {
            inner,
            home: partition.id,
            source: Source::here(partition),
            is_moving: false,
            position,
            read: std::collections::VecDeque::new(),
            folding: Folding::default(),
        }
    }

    /// Of whatever becomes durable from now on, wherever it is led.
    async fn from_now(inner: &Arc<Inner>, home: PartitionId) -> Result<Self, Refusal> {
        let source = Source::of(inner, home);
        let position = match &source {
            Source::Here(partition, _) => partition.status().position,
            Source::Elsewhere => {
                let head = inner.backend.journal.head(home).await;
                head.map_err(|error| Refusal::unavailable(error.to_string()))?
            }
        };
        Ok(Self {
            inner: inner.clone(),
            home,
            source,
            is_moving: inner.membership.is_some(),
            position,
            read: std::collections::VecDeque::new(),
            folding: Folding::default(),
        })
    }

    /// The public events of the next record; after an error, of the same one.
    async fn next(&mut self) -> Result<(Position, Vec<LifecycleEvent>), Refusal> {
        let next = self.pass_next().await;
        if next.is_err() {
            // What was read ahead begins after the record that failed, and part of that one is folded.
            self.read.clear();
            self.folding = Folding::default();
        }
        next
    }

    /// The same, and those of the records that are durable already behind it, until there are so many.
    async fn next_up_to(&mut self, max: usize) -> Result<(Position, Vec<LifecycleEvent>), Refusal> {
        let (mut position, mut events) = self.next().await?;
        while events.len() < max && self.is_behind() {
            // What failed comes again, after what is there.
            let Ok((next, more)) = self.next().await else {
                break;
            };
            position = next;
            events.extend(more);
        }
        Ok((position, events))
    }

    /// Whether the next record is there.
    fn is_behind(&self) -> bool {
        let durable = match &self.source {
            Source::Here(partition, _) => partition.status().position,
            Source::Elsewhere => self.position,
        };
        !self.read.is_empty() || durable > self.position
    }

    async fn pass_next(&mut self) -> Result<(Position, Vec<LifecycleEvent>), Refusal> {
        loop {
            if let Some(tail) = self.read.pop_front() {
                return self.pass(&tail).await;
            }
            let Source::Here(partition, live) = &mut self.source else {
                self.read_elsewhere().await?;
                continue;
            };
            let durable = partition.status().position;
            if durable > self.position && live.is_empty() {
                self.read_journal(durable).await?;
                continue;
            }
            match live.recv().await {
                Ok(tail) if tail.position <= self.position => {}
                Ok(tail) if tail.position == self.position.next() => return self.pass(&tail).await,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    let durable = partition.status().position;
                    self.read_journal(durable).await?;
                }
                Err(broadcast::error::RecvError::Closed) if self.is_moving => {
                    self.source = Source::Elsewhere;
                }
                Err(broadcast::error::RecvError::Closed) => return Err(partition.lost()),
            }
        }
    }

    /// Asks the leader how far the journal is durable; meanwhile the partition may have come here.
    async fn read_elsewhere(&mut self) -> Result<(), Refusal> {
        let follow = questions::Follow {
            after: self.position,
            wait: POLL_WAIT,
        };
        let durable = self.inner.ask(self.home, follow).await?;
        if durable > self.position {
            self.read_journal(durable).await?;
        }
        self.source = Source::of(&self.inner, self.home);
        Ok(())
    }

    async fn read_journal(&mut self, durable: Position) -> Result<(), Refusal> {
        let entries = self
            .inner
            .backend
            .journal
            .read(self.home, self.position, ReadLimit::REPLAY)
            .await
            .map_err(|error| Refusal::unavailable(error.to_string()))?;
        // What is not acknowledged yet is nobody's business.
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
            let (key, time) = (&committed.key, tail.time);
            for (sequence, event) in (committed.first.0..).map(Sequence).zip(&committed.events) {
                let definitions = &self.inner.definitions;
                if let Some(folded) = self.folding.fold(definitions, key, event, time).await? {
                    public.extend(lifecycle(folded, sequence, event, time));
                }
            }
            self.folding.forget_ended(key);
        }
        self.position = tail.position;
        Ok((tail.position, public))
    }

    /// Makes sure that the state right before these events is folded.
    async fn fold_before(&mut self, committed: &Committed) -> Result<(), Refusal> {
        if committed.first == Sequence(1) || self.folding.get(&committed.key).is_some() {
            return Ok(());
        }
        let events = self.inner.events_of(&committed.key).await?;
        for written in events
            .iter()
            .filter(|written| written.sequence < committed.first)
        {
            let (event, time) = (&written.event, written.time);
            let definitions = &self.inner.definitions;
            let folded = self.folding.fold(definitions, &committed.key, event, time);
            folded.await?;
        }
        Ok(())
    }
}
