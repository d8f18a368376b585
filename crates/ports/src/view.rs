//! The view: a partition's executions, materialised from its journal up to a position. Disposable.

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{
    ExecutionId, Json, PartitionId, Position, Tenant, Timestamp, execution::Status,
};
use serde::{Deserialize, Serialize};

use crate::Source;

/// Executions by id and in lists, written in batches behind the journal.
///
/// 1. `apply` MUST write all rows and both positions of a batch, or nothing.
/// 2. `apply` MUST replace an earlier row of the same tenant and execution; a row without `state` keeps the stored one.
/// 3. `position` MUST answer what the last applied batch said, and zeros before the first.
/// 4. `get` MUST find an applied row by tenant and id, with its state, and never another tenant's.
/// 5. `open` MUST list every row that is not ended and has a state, with its state.
/// 6. `list` MUST give the tenant's rows that match every filter, newest first (by creation, then id), without state, at
///    most `limit`, strictly after the cursor `before`.
/// 7. Partitions MUST be independent of each other.
/// 8. `copy` MUST write the partition's rows and positions as they were at one moment, while batches are applied, to a
///    file that was not there, and answer that moment's position; a view without files answers `None` and writes none.
/// 9. `replace` MUST make the partition what the copy holds, rows and positions, for all instances, and leave the copy
///    as it is.
/// 10. `replace` MUST refuse what is no copy of such a view, is damaged or is of another version with `Unfit`, and
///     change nothing.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait View: Send + Sync {
    /// Writes a batch.
    async fn apply(&self, partition: PartitionId, batch: ViewBatch) -> Result<(), ViewError>;
    /// How far the view has come.
    async fn position(&self, partition: PartitionId) -> Result<ViewPosition, ViewError>;
    /// One execution.
    async fn get(
        &self,
        partition: PartitionId,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Option<ViewRow>, ViewError>;
    /// Every execution that may still go on and has a snapshot, for recovery.
    async fn open(&self, partition: PartitionId) -> Result<Vec<ViewRow>, ViewError>;
    /// A page of a tenant's executions.
    async fn list(
        &self,
        partition: PartitionId,
        query: ListQuery,
    ) -> Result<Vec<ViewRow>, ViewError>;
    /// Copies the partition's view to a file; how far the copy has come.
    async fn copy(
        &self,
        partition: PartitionId,
        to: &Path,
    ) -> Result<Option<ViewPosition>, ViewError>;
    /// Throws the partition's view away and goes on with a copy. Whether the copy is behind the journal is for the
    /// caller to see, by `position`.
    async fn replace(&self, partition: PartitionId, from: &Path) -> Result<(), ViewError>;
}

/// How far a view has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewPosition {
    /// Every record up to here is reflected in the rows.
    pub through: Position,
    /// A recovery that loads the open rows must replay every record after this one: some open execution has no newer
    /// snapshot.
    pub replay_after: Position,
}

/// What one `apply` writes.
#[derive(Debug, Clone, Default)]
pub struct ViewBatch {
    /// The new positions.
    pub position: ViewPosition,
    /// Executions that changed.
    pub rows: Vec<ViewRow>,
}

/// One execution in the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewRow {
    /// Its tenant.
    pub tenant: Tenant,
    /// Its id.
    pub execution: ExecutionId,
    /// The workflow's name, for filters.
    pub workflow: String,
    /// Its status, for filters.
    pub status: Status,
    /// When its start was accepted.
    pub created_at: Timestamp,
    /// For filters.
    pub labels: BTreeMap<String, String>,
    /// What a list shows of it; opaque here.
    pub summary: Json,
    /// The folded execution and where its history lies; opaque here.
    pub state: Option<Bytes>,
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListQuery {
    /// Whose executions.
    pub tenant: Tenant,
    /// Only of these statuses; empty for all.
    pub statuses: Vec<Status>,
    /// Only of the workflow of this name.
    pub workflow: Option<String>,
    /// Only with all of these labels.
    pub labels: Vec<(String, String)>,
    /// Only created at or after.
    pub started_after: Option<Timestamp>,
    /// Only created before.
    pub started_before: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
    /// Strictly older than this one in the order of the list.
    pub before: Option<(Timestamp, ExecutionId)>,
}

/// Why the view did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Try again later.
    #[error("the view did not answer: {0}")]
    Unavailable(#[source] Source),
    /// The copy is no use: go on without it, the journal has everything.
    #[error("this is no copy of a view that can be gone on with: {0}")]
    Unfit(#[source] Source),
}
