//! Views on their way from leader to leader: copied to where every node finds them, and taken up by a new leader whose
//! own is far behind.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eventflow_domain::{DurationMs, PartitionId, Position};
use eventflow_ports::{ReadError, ViewCopies, ViewCopyError, ViewError};

use super::{Membership, tick};
use crate::{config::RETRY_PAUSE, engine::Inner, meters, partition::Partition};

/// A copy that is so many records ahead is fetched: replaying fewer of them is faster.
const FETCHED_FROM_RECORDS: u64 = 1_000;
/// So long a new leader asks for a copy that nobody tells of: right after an outage that is sooner there than a replay of
/// all of the journal is done.
const ASKED_FOR: Duration = Duration::from_secs(10);
/// A copy is made once the newest one is so many records behind: a successor replays these within a moment.
const COPIED_FROM_RECORDS: u64 = 1_000;
/// How often that is looked at.
const LOOK_EVERY: DurationMs = DurationMs(10_000);
/// So many times as long as a copy took, none is made: copying takes at most a twentieth of the time, however large the
/// view is.
const REST_FACTOR: u32 = 20;

/// Takes up the newest copy, where it is far ahead of this node's own view. The journal has everything, so what fails
/// costs time only.
pub(super) async fn take_up(inner: &Inner, membership: &Membership, partition: PartitionId) {
    let Some(copies) = &membership.cluster.view_copies else {
        return;
    };
    let clock = &*inner.backend.clock;
    let Some(head) = head(inner, partition).await else {
        return;
    };
    let until = clock.elapsed() + ASKED_FOR;
    loop {
        match fetch(inner, membership, &**copies, partition, head).await {
            Ok(None) => return,
            Ok(Some(through)) => {
                tracing::info!(%partition, %through, "a copy of its view is taken up");
                return;
            }
            Err(Missed::Unheard(error)) if clock.elapsed() < until => {
                tracing::debug!(%partition, error, "nobody tells of a copy of its view, trying again");
                tick(clock, RETRY_PAUSE).await;
            }
            Err(Missed::Unheard(error) | Missed::Unusable(error)) => {
                tracing::warn!(%partition, error, "the copy of its view cannot be used, the journal is replayed instead");
                return;
            }
        }
    }
}

/// Why no copy was taken up.
enum Missed {
    /// Nobody answers now.
    Unheard(String),
    /// What is there is of no use.
    Unusable(String),
}

impl From<ViewCopyError> for Missed {
    fn from(error: ViewCopyError) -> Self {
        match error {
            ViewCopyError::Unavailable(_) => Self::Unheard(error.to_string()),
            ViewCopyError::Corrupt { .. } | ViewCopyError::File(_) => {
                Self::Unusable(error.to_string())
            }
        }
    }
}

impl From<ViewError> for Missed {
    fn from(error: ViewError) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// How far the journal is, as soon as it tells; nothing where it is damaged, as recovery will find as well.
async fn head(inner: &Inner, partition: PartitionId) -> Option<Position> {
    loop {
        match inner.backend.journal.head(partition).await {
            Ok(head) => return Some(head),
            Err(ReadError::Unavailable(error)) => {
                tracing::warn!(%partition, %error, "the journal does not tell how far it is, trying again");
                tick(&*inner.backend.clock, RETRY_PAUSE).await;
            }
            Err(ReadError::Fatal(_)) => return None,
        }
    }
}

async fn fetch(
    inner: &Inner,
    membership: &Membership,
    copies: &dyn ViewCopies,
    partition: PartitionId,
    head: Position,
) -> Result<Option<Position>, Missed> {
    let view = &inner.backend.view;
    let own = view.position(partition).await?;
    if head.0 < own.through.0.saturating_add(FETCHED_FROM_RECORDS) {
        return Ok(None);
    }
    let newest = copies.newest(partition).await?;
    if newest.0 < own.through.0.saturating_add(FETCHED_FROM_RECORDS) {
        return Ok(None);
    }
    let file = Scratch::new(membership, partition, "fetched");
    let fetched = copies.get(partition, file.path()).await?;
    if fetched.is_some() {
        view.replace(partition, file.path()).await?;
    }
    Ok(fetched)
}

/// Copies the view of a partition that is led here, as often as it is worth it.
pub(super) async fn put(inner: Arc<Inner>, partition: Arc<Partition>) {
    let Some(membership) = &inner.membership else {
        return;
    };
    let Some(copies) = &membership.cluster.view_copies else {
        return;
    };
    let clock = &*inner.backend.clock;
    let mut not_before = Duration::ZERO;
    while !partition.is_stopped() {
        tick(clock, LOOK_EVERY).await;
        let newest = match copies.newest(partition.id).await {
            Ok(newest) => newest,
            Err(error) => {
                tracing::warn!(partition = %partition.id, %error, "nobody tells how far its view is copied");
                continue;
            }
        };
        let lag = partition.status().position.0.saturating_sub(newest.0);
        meters::view_copy_lag(partition.id, lag);
        let began = clock.elapsed();
        if lag < COPIED_FROM_RECORDS || began < not_before {
            continue;
        }
        if let Err(error) = copy(&inner, membership, &**copies, partition.id).await {
            tracing::warn!(partition = %partition.id, error, "its view could not be copied");
        }
        let ended = clock.elapsed();
        not_before = ended + ended.saturating_sub(began) * REST_FACTOR;
    }
}

async fn copy(
    inner: &Inner,
    membership: &Membership,
    copies: &dyn ViewCopies,
    partition: PartitionId,
) -> Result<(), String> {
    let file = Scratch::new(membership, partition, "copied");
    let made = inner.backend.view.copy(partition, file.path()).await;
    let Some(position) = made.map_err(|error| error.to_string())? else {
        return Ok(());
    };
    let put = copies.put(partition, position.through, file.path()).await;
    put.map_err(|error| error.to_string())
}

/// A file that is gone when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(membership: &Membership, partition: PartitionId, what: &str) -> Self {
        let name = format!("eventflow-{}-view-{partition}-{what}", membership.node);
        let scratch = Self(std::env::temp_dir().join(name));
        scratch.remove();
        scratch
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn remove(&self) {
        // Mostly it is not there.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}
