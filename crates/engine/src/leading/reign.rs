//! One partition led by this node: from the take to the hand-over.

use std::{sync::Arc, time::Duration};

use eventflow_domain::PartitionId;
use eventflow_ports::{Answering, LeadershipError, Mark};

use super::Membership;
use crate::{
    engine::Inner,
    error::StartError,
    follow,
    partition::{Part, Partition, Running},
    route::Leader,
};

/// How long what was let in may take to become durable before a partition is handed over all the same: the fence keeps
/// what is still under way from being written behind the successor, and nobody was told of it.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// How often a writer begins again where somebody else's record stands in its way: one that was cut off had an append
/// on its way, perhaps two.
const BEGINS_MAX: u32 = 5;

/// What leads a partition. Dropped, it ends at once, as a crash would.
pub(super) struct Reign {
    pub(super) mark: Mark,
    pub(super) partition: Arc<Partition>,
    running: Running,
    leader: Arc<Leader>,
    /// Nobody asks any more when it is gone.
    answering: Answering,
    /// What goes on beside the writer.
    beside: [Part; 3],
}

/// Why a partition is not led here after all.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another node was faster.
    Beaten,
    /// Maybe it was taken: the roll tells.
    Unclear(LeadershipError),
    /// It was given up again.
    NotLed(String),
}

impl Reign {
    /// Takes a partition, recovers it and answers for it.
    pub(super) async fn begin(
        inner: Arc<Inner>,
        membership: &Membership,
        partition: PartitionId,
        seen: Mark,
    ) -> Result<Self, Failure> {
        let leadership = &membership.cluster.leadership;
        let taken = leadership.take(partition, &membership.node, seen).await;
        let mark = taken.map_err(|error| match error {
            LeadershipError::Conflict => Failure::Beaten,
            LeadershipError::Unavailable(_) => Failure::Unclear(error),
        })?;
        match Self::lead(inner, membership, partition, mark).await {
            Ok(reign) => Ok(reign),
            Err(reason) => {
                // Where that fails, the roll shows it as ours, and it is tried again.
                let _ = leadership.release(partition, mark).await;
                Err(Failure::NotLed(reason))
            }
        }
    }

    async fn lead(
        inner: Arc<Inner>,
        membership: &Membership,
        id: PartitionId,
        mark: Mark,
    ) -> Result<Self, String> {
        super::copies::take_up(&inner, membership, id).await;
        let (partition, running) = start(&inner, id).await.map_err(|error| error.to_string())?;
        let partition = Arc::new(partition);
        let leader = Arc::new(Leader::new(&inner, partition.clone()));
        let answering = membership.cluster.peers.answer(id, leader.clone()).await;
        let answering = answering.map_err(|error| error.to_string())?;
        let publishing = follow::publish(inner.clone(), partition.clone());
        let watching = super::offers::watch(inner.clone(), partition.clone());
        let copying = super::copies::put(inner, partition.clone());
        Ok(Self {
            mark,
            partition,
            running,
            leader,
            answering,
            beside: [
                Part::start(publishing),
                Part::start(watching),
                Part::start(copying),
            ],
        })
    }

    /// Lets nothing more in, and makes durable what was let in.
    pub(super) async fn close(self, inner: &Inner) -> Closed {
        let Self {
            mark,
            partition,
            running,
            leader,
            answering,
            beside,
        } = self;
        // Who asks meanwhile is told to ask another one; only when all are told nobody answers any more.
        let draining = async {
            partition.drain().await;
            leader.answered().await;
        };
        let drained = tokio::time::timeout(DRAIN_WITHIN, draining).await;
        drop((answering, beside));
        inner.backend.queue.forget(partition.id);
        if drained.is_err() {
            tracing::warn!(partition = %partition.id, "it is handed over before its last records are durable");
        }
        Closed {
            partition: partition.id,
            mark,
            running: drained.is_ok().then_some(running),
        }
    }
}

/// A reign that has ended, but for the roll and the view.
pub(super) struct Closed {
    partition: PartitionId,
    mark: Mark,
    /// None where it did not end in time.
    running: Option<Running>,
}

impl Closed {
    /// Gives the partition up, then lets the view catch up with the journal.
    pub(super) async fn release(self, membership: &Membership) {
        release(membership, self.partition, self.mark).await;
        if let Some(running) = self.running {
            running.join().await;
        }
    }
}

async fn release(membership: &Membership, partition: PartitionId, mark: Mark) {
    match membership.cluster.leadership.release(partition, mark).await {
        // Taken by another one meanwhile: that is what was wanted.
        Ok(()) | Err(LeadershipError::Conflict) => {}
        Err(error) => {
            tracing::warn!(%partition, %error, "it could not be released, others take it when they miss this node");
        }
    }
}

/// Recovers a partition and begins an epoch.
async fn start(inner: &Inner, id: PartitionId) -> Result<(Partition, Running), StartError> {
    let mut begins = 1;
    loop {
        let started = Partition::start(
            id,
            &inner.backend,
            &inner.config,
            &inner.definitions,
            &inner.tokens,
        );
        match started.await {
            Err(StartError::NotLed { .. }) if begins < BEGINS_MAX => begins += 1,
            started => return started,
        }
    }
}
