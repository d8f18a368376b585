//! The journal after a power loss, read from its first record: no hole, no broken chain, no gap in any history.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use eventflow_domain::{
    ExecutionId, PartitionId, Position, Sequence,
    record::{Chain, Entry},
};
use eventflow_ports::{Journal, JournalEntry, ReadLimit};

use super::load::PARTITIONS;

/// Verifies every partition; how many records there are.
pub(crate) async fn verify(journal: &dyn Journal) -> anyhow::Result<usize> {
    let mut records = 0;
    for partition in (0..PARTITIONS).map(PartitionId) {
        let verified = verify_partition(journal, partition).await;
        let last = verified.with_context(|| format!("partition {partition}"))?;
        records += usize::try_from(last.0)?;
    }
    Ok(records)
}

async fn verify_partition(
    journal: &dyn Journal,
    partition: PartitionId,
) -> anyhow::Result<Position> {
    let mut chain = Chain::start(partition);
    let mut histories = BTreeMap::new();
    let mut last = Position(0);
    loop {
        let entries = journal.read(partition, last, ReadLimit::REPLAY).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            ensure!(entry.position == last.next(), "a hole after record {last}");
            last = entry.position;
            follow(&mut chain, &mut histories, &entry).with_context(|| format!("record {last}"))?;
        }
    }
    let head = journal.head(partition).await?;
    ensure!(head == last, "the head is {head}, the last record {last}");
    Ok(last)
}

fn follow(
    chain: &mut Chain,
    histories: &mut BTreeMap<ExecutionId, Sequence>,
    entry: &JournalEntry,
) -> anyhow::Result<()> {
    for part in chain.follow(&entry.record)?.entries {
        let Entry::Execution(written) = part else {
            continue;
        };
        let id = written.execution.clone();
        let last = histories.entry(id.clone()).or_insert(Sequence(0));
        for (sequence, _) in written.parse()? {
            ensure!(
                sequence == last.next(),
                "{id} goes on at {sequence} after {last}"
            );
            *last = sequence;
        }
    }
    Ok(())
}
