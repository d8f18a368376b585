//! Copies of views, where every node finds them: a new leader begins with one instead of the whole journal.

use std::path::Path;

use async_trait::async_trait;
use eventflow_domain::{PartitionId, Position};

use crate::Source;

/// Keeps the newest copy of each partition's view.
///
/// 1. `put` MUST make the copy the newest one only once all of it is stored, and only where it is ahead of the one
///    that is; otherwise it changes nothing and is no error.
/// 2. `newest` MUST answer the position of the newest copy, zero before the first, also from a new instance.
/// 3. `get` MUST write exactly the bytes that were put and answer their position; what is damaged MUST fail with
///    `Corrupt` and leave no file.
/// 4. Partitions MUST be independent of each other.
/// 5. A copy that is being read MUST stay readable until it is read, also where a newer one is put meanwhile; older ones
///    MUST be removed in the end.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait ViewCopies: Send + Sync {
    /// Stores a copy that reflects the journal up to `through`.
    async fn put(
        &self,
        partition: PartitionId,
        through: Position,
        file: &Path,
    ) -> Result<(), ViewCopyError>;
    /// How far the newest copy has come.
    async fn newest(&self, partition: PartitionId) -> Result<Position, ViewCopyError>;
    /// Writes the newest copy to a file that is not there yet; its position, or nothing where there is no copy.
    async fn get(
        &self,
        partition: PartitionId,
        file: &Path,
    ) -> Result<Option<Position>, ViewCopyError>;
}

/// Why a copy was not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ViewCopyError {
    /// Try again later.
    #[error("the view's copies did not answer: {0}")]
    Unavailable(#[source] Source),
    /// What is stored is not what was put: the journal has everything that it had.
    #[error("the copy of partition {partition}'s view is damaged")]
    Corrupt {
        /// Whose.
        partition: PartitionId,
    },
    /// The file cannot be read or written.
    #[error("the file of a view's copy: {0}")]
    File(#[source] std::io::Error),
}
