//! Looks at the roll, takes what falls to this node and hands over what falls to another one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use eventflow_domain::{DurationMs, NodeName, PartitionId};
use eventflow_ports::{Held, Mark, Roll};
use futures::future::join_all;
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinError, JoinSet},
};

use super::{
    Membership,
    plan::{Plan, Sightings, plan},
    reign::{Failure, Reign},
    tick,
};
use crate::{engine::Inner, partition::State};

/// How often the roll is looked at without a hint: with a lease and a recovery it keeps a take-over within 5 s.
const LOOK_EVERY: DurationMs = DurationMs(500);
/// How long the roll may take to answer.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// Before this node tries again to lead what it could not: longer each time.
const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_mins(5);
/// Before it takes again what somebody wrote to whom the roll does not know.
const FENCED_REST: Duration = Duration::from_millis(500);

/// Decides by itself alone: everything it knows is the roll, its clock, and what it leads.
pub(super) struct Rebalancer {
    inner: Arc<Inner>,
    orders: mpsc::Receiver<oneshot::Sender<()>>,
    sightings: Sightings,
    reigns: BTreeMap<PartitionId, Reign>,
    /// Partitions that are being taken or handed over.
    moving: BTreeMap<PartitionId, AbortHandle>,
    moves: JoinSet<Moved>,
    /// Could not be led here: not to be tried before, and how long the next rest is.
    resting: BTreeMap<PartitionId, (Duration, Duration)>,
}

/// What came of a move.
enum Moved {
    Began(PartitionId, Result<Reign, Failure>),
    Ended(PartitionId),
}

impl Rebalancer {
    pub(super) fn new(inner: Arc<Inner>, orders: mpsc::Receiver<oneshot::Sender<()>>) -> Self {
        Self {
            inner,
            orders,
            sightings: Sightings::default(),
            reigns: BTreeMap::new(),
            moving: BTreeMap::new(),
            moves: JoinSet::new(),
            resting: BTreeMap::new(),
        }
    }

    /// Until the node goes.
    pub(super) async fn run(mut self) {
        let inner = self.inner.clone();
        let Some(membership) = &inner.membership else {
            return;
        };
        loop {
            self.look(membership).await;
            let leadership = &membership.cluster.leadership;
            tokio::select! {
                biased;
                Some(gone) = self.orders.recv() => {
                    self.go(membership).await;
                    let _ = gone.send(());
                    return;
                }
                Some(moved) = self.moves.join_next() => self.moved(moved),
                () = ended(&self.reigns) => {}
                () = leadership.changed() => {}
                () = tick(&*inner.backend.clock, LOOK_EVERY) => {}
            }
        }
    }

    /// One look at the roll, and what follows from it.
    async fn look(&mut self, membership: &Membership) {
        if !membership.lease.holds() {
            self.depose_all("this node was out of touch for longer than its lease");
            self.tell_nothing();
            return;
        }
        self.bury();
        let looking = membership.cluster.leadership.roll();
        let roll = match tokio::time::timeout(LOOK_WITHIN, looking).await {
            Ok(Ok(roll)) => roll,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the roll of nodes cannot be read, trying again");
                return;
            }
            Err(_) => {
                tracing::warn!("the roll of nodes does not answer, trying again");
                return;
            }
        };
        let now = self.inner.backend.clock.elapsed();
        self.sightings.look(&roll, now);
        let mut alive = self.sightings.alive(now);
        alive.insert(membership.node.clone());
        self.depose_the_replaced(&roll);
        self.tell(&roll, &alive);
        let partitions = self.inner.config.partitions;
        let plan = plan(&roll, &alive, &membership.node, partitions);
        self.carry_out(plan);
        self.take_what_is_left(&roll, &alive, &membership.node, now);
    }

    fn carry_out(&mut self, plan: Plan) {
        for (partition, seen) in plan.take {
            self.take(partition, seen);
        }
        for partition in plan.release {
            if let Some(reign) = self.reigns.remove(&partition) {
                tracing::info!(%partition, "it is handed over");
                self.hand_over(partition, reign);
            }
        }
    }

    /// What the roll gives this node though it does not lead it, as after an answer that got lost, and what others
    /// should have taken and did not, since they cannot.
    fn take_what_is_left(
        &mut self,
        roll: &Roll,
        alive: &BTreeSet<NodeName>,
        me: &NodeName,
        now: Duration,
    ) {
        let still = self.sightings.still(now);
        for held in &roll.partitions {
            let is_here = self.reigns.contains_key(&held.partition);
            let leader = held
                .leader
                .as_ref()
                .filter(|leader| alive.contains(*leader));
            let is_left = leader.is_none() && still.contains(&held.partition);
            if !is_here && (leader == Some(me) || is_left) {
                self.take(held.partition, held.mark);
            }
        }
    }

    fn take(&mut self, partition: PartitionId, seen: Mark) {
        let now = self.inner.backend.clock.elapsed();
        let rests = self
            .resting
            .get(&partition)
            .is_some_and(|(until, _)| now < *until);
        if rests || self.moving.contains_key(&partition) || self.reigns.contains_key(&partition) {
            return;
        }
        let inner = self.inner.clone();
        let handle = self.moves.spawn(async move {
            let begun = match &inner.membership {
                Some(membership) => Reign::begin(inner.clone(), membership, partition, seen).await,
                None => Err(Failure::Beaten),
            };
            Moved::Began(partition, begun)
        });
        self.moving.insert(partition, handle);
    }

    fn hand_over(&mut self, partition: PartitionId, reign: Reign) {
        self.inner.seat(partition).vacate();
        let inner = self.inner.clone();
        let handle = self.moves.spawn(async move {
            let closed = reign.close(&inner).await;
            if let Some(membership) = &inner.membership {
                closed.release(membership).await;
            }
            Moved::Ended(partition)
        });
        self.moving.insert(partition, handle);
    }

    fn moved(&mut self, moved: Result<Moved, JoinError>) {
        let (partition, begun) = match moved {
            Ok(Moved::Began(partition, begun)) => (partition, begun),
            Ok(Moved::Ended(partition)) => {
                self.moving.remove(&partition);
                return;
            }
            Err(error) => {
                self.moving.retain(|_, handle| handle.id() != error.id());
                if error.is_panic() {
                    tracing::error!(%error, "a partition's move panicked");
                }
                return;
            }
        };
        // Given up meanwhile: then what has begun ends here.
        if self.moving.remove(&partition).is_none() {
            return;
        }
        match begun {
            Ok(reign) => {
                tracing::info!(%partition, "it is led here");
                self.resting.remove(&partition);
                self.inner.seat(partition).take(reign.partition.clone());
                self.inner.seat(partition).tell(|told| told.reason = None);
                self.reigns.insert(partition, reign);
            }
            Err(Failure::Beaten) => {}
            Err(Failure::Unclear(error)) => {
                tracing::warn!(%partition, %error, "it could not be taken, the roll tells");
            }
            Err(Failure::NotLed(reason)) => self.rest(partition, reason),
        }
    }

    /// Does not lead a partition for a while that it could not lead.
    fn rest(&mut self, partition: PartitionId, reason: String) {
        tracing::error!(%partition, reason, "it cannot be led here");
        let rest = self
            .resting
            .get(&partition)
            .map_or(REST_MIN, |(_, rest)| *rest);
        let until = self.inner.backend.clock.elapsed() + rest;
        self.resting
            .insert(partition, (until, (rest * 2).min(REST_MAX)));
        self.inner
            .seat(partition)
            .tell(|told| told.reason = Some(reason));
    }

    /// Gives up what has stopped by itself. One that was fenced is taken again if the roll says so; what has failed is
    /// left to others.
    fn bury(&mut self) {
        let stopped = self
            .reigns
            .extract_if(.., |_, reign| reign.partition.is_stopped());
        for (partition, reign) in stopped.collect::<Vec<_>>() {
            let state = reign.partition.status().state;
            tracing::warn!(%partition, reason = state.reason(), "it is not led here any more");
            if let State::Stopped(reason) = state {
                self.rest(partition, reason);
                self.hand_over(partition, reign);
            } else {
                let soon = self.inner.backend.clock.elapsed() + FENCED_REST;
                self.resting.insert(partition, (soon, REST_MIN));
                self.depose(partition, reign);
            }
        }
    }

    /// Gives up what the roll says another node has taken.
    fn depose_the_replaced(&mut self, roll: &Roll) {
        let is_replaced = |partition: &PartitionId, reign: &mut Reign| {
            let held = roll
                .partitions
                .iter()
                .find(|held| held.partition == *partition);
            held.map_or(Mark::NONE, |held| held.mark) != reign.mark
        };
        let replaced: Vec<_> = self.reigns.extract_if(.., is_replaced).collect();
        for (partition, reign) in replaced {
            tracing::warn!(%partition, "another node has taken it");
            self.depose(partition, reign);
        }
    }

    fn depose(&self, partition: PartitionId, reign: Reign) {
        self.inner.seat(partition).vacate();
        self.inner.backend.queue.forget(partition);
        drop(reign);
    }

    /// Ends everything at once, and begins again as one that leads nothing.
    fn depose_all(&mut self, why: &str) {
        for (_, handle) in std::mem::take(&mut self.moving) {
            handle.abort();
        }
        for (partition, reign) in std::mem::take(&mut self.reigns) {
            tracing::warn!(%partition, why, "it is not led here any more");
            self.depose(partition, reign);
        }
    }

    /// Hands everything over. Between the last record and the release the node leaves the roll, so that the others
    /// share among themselves at once.
    async fn go(&mut self, membership: &Membership) {
        let inner = &self.inner;
        let closing = std::mem::take(&mut self.reigns).into_iter();
        let closing = closing.map(|(partition, reign)| {
            inner.seat(partition).vacate();
            reign.close(inner)
        });
        let closed = join_all(closing).await;
        if let Err(error) = membership.cluster.leadership.leave(&membership.node).await {
            tracing::warn!(%error, "the others will miss this node after a while");
        }
        // What is just being taken is given up as it is: it is nobody's now.
        let released = closed.into_iter().map(|closed| closed.release(membership));
        join_all(released).await;
        self.moves.shutdown().await;
    }

    /// What the roll says of each partition, for whoever asks this node.
    fn tell(&self, roll: &Roll, alive: &BTreeSet<NodeName>) {
        let held: BTreeMap<PartitionId, &Held> = roll
            .partitions
            .iter()
            .map(|held| (held.partition, held))
            .collect();
        for seat in &self.inner.seats {
            let held = held.get(&seat.id);
            let mark = held.map_or(Mark::NONE, |held| held.mark);
            let leader = held.and_then(|held| held.leader.as_ref());
            let leader = leader.filter(|leader| alive.contains(*leader)).cloned();
            seat.tell(|told| {
                if told.leader != leader {
                    told.standing = None;
                    told.leader = leader;
                }
                told.mark = mark;
            });
        }
    }

    fn tell_nothing(&self) {
        for seat in &self.inner.seats {
            seat.tell(|told| {
                told.leader = None;
                told.standing = None;
            });
        }
    }
}

/// Resolves when a writer has ended by itself.
async fn ended(reigns: &BTreeMap<PartitionId, Reign>) {
    let ended = reigns
        .values()
        .map(|reign| Box::pin(reign.partition.ended()));
    let ended: Vec<_> = ended.collect();
    if ended.is_empty() {
        std::future::pending::<()>().await;
    }
    futures::future::select_all(ended).await;
}
