//! What is found wrong behind a running engine: a store that failed below it, a record that is not what was written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};

use eventflow_domain::{DurationMs, PartitionId, Position, record::Chain};
use eventflow_ports::{ReadError, ReadLimit};
use tokio::sync::watch;

use crate::{engine::Inner, partition::Partition};

/// What is verified at a time. With the pause after it some 2.5 MiB a second, a few percent of a core: it is to be done
/// within minutes of a start, and nobody is to notice.
const VERIFY_LIMIT: ReadLimit = ReadLimit {
    records: 256,
    bytes: 256 * 1024,
};
/// Between two of those.
const VERIFY_PAUSE: DurationMs = DurationMs(100);
/// Between two looks whether a partition has come here.
const LOOK_EVERY: DurationMs = DurationMs(5_000);

/// Halts partitions as `failures` names them, for as long as anybody reports there.
pub(crate) async fn heed(
    inner: Arc<Inner>,
    mut failures: watch::Receiver<BTreeMap<PartitionId, String>>,
) {
    let mut told = BTreeSet::new();
    loop {
        let failed = failures.borrow_and_update().clone();
        for (id, reason) in failed {
            let Some(partition) = inner.led(id) else {
                continue;
            };
            // One that was not led has said why.
            if !partition.is_stopped() && told.insert(reason.clone()) {
                tracing::error!(partition = %id, reason, "the store has failed: restart once the cause is gone");
            }
            partition.halt(&reason);
        }
        if failures.changed().await.is_err() {
            return;
        }
    }
}

/// Follows the chain of each partition that is led here from its first record to the last one that was durable when its
/// reign began to be verified; where partitions move, for ever.
pub(crate) async fn verify_journals(inner: Arc<Inner>) {
    let mut verified: BTreeMap<PartitionId, Weak<Partition>> = BTreeMap::new();
    loop {
        for partition in inner.led_here() {
            // Each reign has its own.
            let reign = Arc::downgrade(&partition);
            let before = verified.insert(partition.id, reign.clone());
            let is_new = !before.is_some_and(|before| before.ptr_eq(&reign));
            if is_new && !partition.is_stopped() {
                verify_journal(&inner, &partition).await;
            }
        }
        if inner.membership.is_none() {
            return;
        }
        let clock = &inner.backend.clock;
        clock.sleep_until(clock.now().after(LOOK_EVERY)).await;
    }
}

/// Halts the partition where a record is not what was written.
async fn verify_journal(inner: &Inner, partition: &Partition) {
    let until = partition.status().position;
    match verify(inner, partition, until).await {
        Ok(()) => {
            tracing::debug!(partition = %partition.id, %until, "the journal is what was written");
        }
        Err(damage) => {
            let reason = format!(
                "{damage}: stop the service and restore a backup, or set it aside with `eventflow journal quarantine`"
            );
            tracing::error!(partition = %partition.id, reason, "the partition is damaged");
            partition.halt(&reason);
        }
    }
}

/// An error names the record and what is wrong with it.
async fn verify(inner: &Inner, partition: &Partition, until: Position) -> Result<(), String> {
    let (journal, clock) = (&inner.backend.journal, &inner.backend.clock);
    let mut chain = Chain::start(partition.id);
    let mut verified = Position(0);
    while verified < until && !partition.is_stopped() {
        clock.sleep_until(clock.now().after(VERIFY_PAUSE)).await;
        let entries = match journal.read(partition.id, verified, VERIFY_LIMIT).await {
            Ok(entries) => entries,
            Err(ReadError::Unavailable(_)) => continue,
            Err(ReadError::Fatal(error)) => {
                return Err(format!(
                    "what follows record {verified} cannot be read: {error}"
                ));
            }
        };
        if entries.is_empty() {
            return Err(format!("there is no record after {verified}"));
        }
        for entry in entries {
            let position = entry.position;
            if position != verified.next() {
                return Err(format!(
                    "there is no record after {verified}, but record {position}"
                ));
            }
            (chain.follow(&entry.record)).map_err(|fault| format!("record {position}: {fault}"))?;
            verified = position;
        }
    }
    Ok(())
}
