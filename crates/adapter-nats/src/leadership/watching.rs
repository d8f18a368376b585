//! Looking at the bucket of leases all the time, so that a change is known at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::kv::{self, Operation};
use futures::TryStreamExt as _;
use tokio::{sync::watch, task::JoinSet, time::sleep};

/// Between two tries to watch: what is missed meanwhile is told of at the next success.
const WATCH_AGAIN: Duration = Duration::from_millis(250);

/// A watch on the bucket, as long as this lives.
#[derive(Debug)]
pub(super) struct Watching {
    /// Counts the changes that are worth a look.
    changes: Arc<watch::Sender<u64>>,
    /// The last one that was told of.
    told: AtomicU64,
    _task: JoinSet<()>,
}

impl Watching {
    pub(super) fn start(bucket: kv::Store) -> Self {
        let changes = Arc::new(watch::Sender::new(0));
        let mut task = JoinSet::new();
        task.spawn(watch_on(bucket, Arc::clone(&changes)));
        Self {
            changes,
            told: AtomicU64::new(0),
            _task: task,
        }
    }

    /// Waits for a change since the last call; a change between two calls is told by the second one.
    pub(super) async fn changed(&self) {
        let told = self.told.load(Ordering::Relaxed);
        let mut changes = self.changes.subscribe();
        // Fails only where the sender is gone, which `self` holds.
        let news = changes.wait_for(|changes| *changes > told).await;
        self.told
            .store(news.map_or(told, |changes| *changes), Ordering::Relaxed);
    }
}

/// Watches again whenever a watch has ended.
async fn watch_on(bucket: kv::Store, changes: Arc<watch::Sender<u64>>) {
    loop {
        if let Err(error) = watch_once(&bucket, &changes).await {
            tracing::debug!(bucket = bucket.name, %error, "the leases are watched again");
        }
        sleep(WATCH_AGAIN).await;
    }
}

async fn watch_once(
    bucket: &kv::Store,
    changes: &watch::Sender<u64>,
) -> Result<(), async_nats::Error> {
    let mut seen = bucket.watch_all().await?;
    // Nobody knows what has changed until now.
    changes.send_modify(|changes| *changes += 1);
    while let Some(entry) = seen.try_next().await? {
        // That a node is still alive is no news.
        let is_mark = entry.key.starts_with("node.") && entry.operation == Operation::Put;
        if !is_mark {
            changes.send_modify(|changes| *changes += 1);
        }
    }
    Ok(())
}
