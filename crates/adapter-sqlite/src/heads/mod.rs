//! Durable heads: the last record of each partition, said a second time in a file of its own.
//!
//! A journal that lost its end, or that was cut at a damaged block of its WAL, looks like a shorter one that is whole.
//! `journal.heads` tells them apart: it is written each second, and names only what was synced before. What was
//! written after that and is lost cannot be told from what was never written.

mod check;
mod file;
mod keeper;

use eventflow_domain::{Digest, Position};

pub(crate) use self::{
    check::{Damage, Found, check, digest},
    file::{read, write},
    keeper::Keeper,
};

/// The last durable record of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) position: Position,
    /// Of its bytes: what the next record names as its predecessor.
    pub(crate) record: Digest,
}

/// By partition; `None` where there was no record yet.
pub(crate) type Heads = Vec<Option<Head>>;
