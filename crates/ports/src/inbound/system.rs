//! What a running node says of itself: readiness, partitions, limits, metrics.

use eventflow_domain::{Epoch, PartitionId, Position};

/// The node, for those who operate it.
///
/// 1. `readiness` MUST be `Ok` exactly while the node accepts starts and results, and otherwise name every reason.
/// 2. `system` MUST list every partition of the store in order of its id, with a `leader` only while one is known.
/// 3. `metrics` MUST be Prometheus' text exposition format 0.0.4.
/// 4. They MUST answer without waiting for anything: they are asked when something is wrong.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait System: Send + Sync {
    /// Whether it can accept work, or every reason why not.
    fn readiness(&self) -> Result<(), Vec<String>>;
    /// Version, backend, partitions and limits.
    fn system(&self) -> SystemView;
    /// Every metric, as text.
    fn metrics(&self) -> String;
}

/// What a node knows of itself and of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemView {
    /// Of the service.
    pub version: String,
    /// Where it keeps everything: `sqlite`, `memory`, `nats`.
    pub backend: String,
    /// Every partition.
    pub partitions: Vec<PartitionView>,
    /// Every limit: its name in camelCase with the unit last, and its value in that unit.
    pub limits: Vec<(&'static str, u64)>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Which.
    pub id: PartitionId,
    /// The node that writes it, where one does.
    pub leader: Option<String>,
    /// The reign of that node; 0 before the first.
    pub epoch: Epoch,
    /// The last record of its journal; 0 before the first.
    pub position: Position,
    /// Why nobody writes it, where nobody does.
    pub reason: Option<String>,
}
