//! Why an engine cannot start: each says what, where and what to do.

use eventflow_domain::{PartitionId, Position};

use crate::partition::Stop;

/// A partition that cannot be led; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A record is not what was written.
    #[error(
        "partition {partition} is damaged at record {position}: {detail}. Restore a backup, or set the record aside"
    )]
    Damaged {
        /// Which partition.
        partition: PartitionId,
        /// Which record.
        position: Position,
        /// What is wrong with it.
        detail: String,
    },
    /// A record is missing.
    #[error("partition {partition} has no record after {after}, but later ones: restore a backup")]
    Hole {
        /// Which partition.
        partition: PartitionId,
        /// The last record before the hole.
        after: Position,
    },
    /// The journal has lost records that were acknowledged.
    #[error(
        "the journal of partition {partition} ends at record {head}, but the view has seen record {view}: records were lost, restore a backup"
    )]
    JournalBehindView {
        /// Which partition.
        partition: PartitionId,
        /// The journal's last record.
        head: Position,
        /// The view's.
        view: Position,
    },
    /// Something that is needed cannot be read.
    #[error("partition {partition} cannot be recovered: {detail}")]
    Unreadable {
        /// Which partition.
        partition: PartitionId,
        /// What.
        detail: String,
    },
    /// The first append of the new epoch failed.
    #[error("partition {partition} cannot be written: {detail}")]
    NotLed {
        /// Which partition.
        partition: PartitionId,
        /// Why.
        detail: String,
    },
    /// The other nodes do not learn of this one.
    #[error("this node cannot announce itself to the others: {0}")]
    NotAnnounced(String),
    /// The key that signs task tokens cannot be had.
    #[error("the store's key cannot be read: {0}")]
    NoKey(String),
}

impl StartError {
    pub(crate) fn not_led(partition: PartitionId, stop: &Stop) -> Self {
        let detail = match stop {
            Stop::Closed => "it was closed".to_owned(),
            Stop::Fenced => "another writer took over at the same time".to_owned(),
            Stop::Fatal(reason) => reason.clone(),
        };
        Self::NotLed { partition, detail }
    }
}
