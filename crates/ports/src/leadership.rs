//! Who leads which partition. The roll decides who *should* write; the journal's fence decides who *can*.

use async_trait::async_trait;
use eventflow_domain::{NodeName, PartitionId};

use crate::Source;

/// The roll of nodes and of what each one leads.
///
/// No clock is shared and none is trusted: whoever looks at the roll sees marks that change, and decides by its own
/// clock how long a mark has stood still.
///
/// 1. `announce` MUST give the node another mark than it ever had, and put it on the roll where it is not.
/// 2. `roll` MUST see every change that was acknowledged to anybody before the call.
/// 3. `take` MUST give the partition to the node exactly where its mark is still `seen`; of any number of nodes that
///    saw the same mark at most one MUST succeed, and every later `take` with that mark MUST fail with `Conflict`.
/// 4. `release` MUST leave the partition without a leader exactly where its mark is still `held`, and otherwise fail
///    with `Conflict` and change nothing.
/// 5. `leave` MUST take the node off the roll; what it leads stays with it until it is taken or released.
/// 6. `changed` MUST resolve after another node has taken, released or left; it may resolve without a reason.
/// 7. What was acknowledged MUST be seen by a new instance on the same store.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Leadership: Send + Sync {
    /// Says that the node is alive.
    async fn announce(&self, node: &NodeName) -> Result<(), LeadershipError>;
    /// Says that the node is going.
    async fn leave(&self, node: &NodeName) -> Result<(), LeadershipError>;
    /// Who is there, and who leads what.
    async fn roll(&self) -> Result<Roll, LeadershipError>;
    /// Makes the node the leader of a partition whose mark is `seen`; its new mark.
    async fn take(
        &self,
        partition: PartitionId,
        node: &NodeName,
        seen: Mark,
    ) -> Result<Mark, LeadershipError>;
    /// Gives a partition up.
    async fn release(&self, partition: PartitionId, held: Mark) -> Result<(), LeadershipError>;
    /// Waits until it is worth looking at the roll again.
    async fn changed(&self);
}

/// The roll as it was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll {
    /// Every node that has announced itself and not left, and its mark, by name.
    pub nodes: Vec<(NodeName, Mark)>,
    /// Every partition that was ever taken, by id.
    pub partitions: Vec<Held>,
}

/// A partition on the roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub partition: PartitionId,
    /// Who leads it; nobody after a release.
    pub leader: Option<NodeName>,
    /// Changes whenever it is taken or released.
    pub mark: Mark,
}

/// A mark that is never the same again once it has changed. `NONE` is that of a partition that was never taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

impl Mark {
    /// Of what is not on the roll.
    pub const NONE: Self = Self(0);
}

/// Why the roll did not change or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LeadershipError {
    /// Somebody else was faster: look again.
    #[error("another node has changed this partition's leader")]
    Conflict,
    /// Try again later; a change may have been made.
    #[error("the roll of nodes did not answer: {0}")]
    Unavailable(#[source] Source),
}
