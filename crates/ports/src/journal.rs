//! The journal: a partition's append-only log of records, the only truth.

use std::{future::Future, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};

use crate::Source;

/// An append on its way: it was handed over when [`Journal::append`] returned, and resolves when it is durable.
pub type Appending = Pin<Box<dyn Future<Output = Result<Position, AppendError>> + Send + 'static>>;

/// A log of records per partition, fenced by position.
///
/// 1. An append that names the last position MUST write its record at the next one and answer with that position.
/// 2. An append that names any other position MUST fail with `Conflict` and write nothing.
/// 3. Positions of a partition MUST start at 1 and have no gap.
/// 4. Appends MUST be carried out in the order of the calls, even where the futures are polled in another order, so
///    that several may be in flight: each names the position that the one before it will get.
/// 5. When an append fails, every later one of this instance that builds on it MUST fail as well, up to the first that
///    is made after the caller was told. Also where another writer's record stands at the place of the first: what was
///    to come behind the one MUST NOT be written behind the other, though it names that position.
/// 6. An acknowledged record MUST be read back unchanged, byte for byte, also by a new instance on the same store.
/// 7. `read` MUST give records in order, from the first after `after`, at least one where there is one, and no more
///    than the limit allows beyond that.
/// 8. `head` MUST answer the position of the last record, 0 where there is none, and see every acknowledged append.
/// 9. Partitions MUST be independent of each other: a conflict in one touches no other.
/// 10. A record above the store's limit MUST fail with `TooLarge` and write nothing.
/// 11. `Unavailable` from an append MUST be taken as *maybe done*; a retry with the same position and bytes is safe:
///     it succeeds, or fails with `Conflict` where the first one had been written.
/// 12. Dropping the future of an append MUST NOT undo it or hold up those behind it.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Journal: Send + Sync {
    /// Appends `record` right after `expected`; hands it over before it returns, resolves when it is durable.
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending;

    /// Records after `after`, in order; empty at the end of the log.
    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError>;

    /// The position of the last record.
    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError>;
}

/// How much one `read` may return.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// At most so many records.
    pub records: usize,
    /// No further record once so many bytes are reached.
    pub bytes: usize,
}

impl ReadLimit {
    /// What a replay reads at a time.
    pub const REPLAY: Self = Self {
        records: 1024,
        bytes: 4 * 1024 * 1024,
    };
    /// Just the next record.
    pub const ONE: Self = Self {
        records: 1,
        bytes: usize::MAX,
    };
}

/// A record where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its place.
    pub position: Position,
    /// Its bytes, as `domain::record` wrote them.
    pub record: Bytes,
}

/// Why an append was not acknowledged: one variant per decision of the writer.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else wrote at this position: the writer is fenced.
    #[error("another writer has appended to this partition")]
    Conflict,
    /// Maybe written, maybe not: read the position back.
    #[error("the journal did not answer: {0}")]
    Unavailable(#[source] Source),
    /// Never written: the record is larger than the store takes.
    #[error("a record may have at most {limit} bytes here")]
    TooLarge {
        /// The store's limit in bytes.
        limit: usize,
    },
    /// The store is broken (I/O error, failed fsync): stop the partition, never retry.
    #[error("the journal failed: {0}")]
    Fatal(#[source] Source),
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Try again later.
    #[error("the journal did not answer: {0}")]
    Unavailable(#[source] Source),
    /// The store is broken.
    #[error("the journal failed: {0}")]
    Fatal(#[source] Source),
}
