//! What is looked at of a store on NATS.

use eventflow_domain::{PartitionId, Timestamp, record::FORMAT_LEVEL};

use super::{Findings, State, look_at_partition, mebibytes};
use crate::store::{Nats, Reading};

/// Answers when its last record was written.
pub(super) fn look(
    store: &Nats,
    system: Option<&str>,
    findings: &mut Findings,
) -> anyhow::Result<Timestamp> {
    match store.findings(system) {
        Ok(found) => {
            findings.add("store", State::Sound, found.to_string());
            for concern in found.concerns() {
                findings.add("durability", State::Notice, concern);
            }
            let payload = mebibytes(found.payload_bytes_max as u64);
            findings.add("limit payload", State::Sound, payload);
        }
        Err(error) => findings.add("store", State::Wrong, format!("{error:#}")),
    }
    let level = format!("records up to level {FORMAT_LEVEL}");
    findings.add("format", State::Sound, level);
    look_at_streams(store, findings)?;
    let mut last = Timestamp(0);
    for partition in (0..store.partitions()).map(PartitionId) {
        last = last.max(look_at_partition(store, partition, findings)?);
        look_at_leader(store, partition, findings);
    }
    Ok(last)
}

fn look_at_streams(store: &Nats, findings: &mut Findings) -> anyhow::Result<()> {
    for stream in store.wait(store.reader.streams())? {
        let what = format!("stream {}", stream.name);
        let Some((messages, bytes)) = stream.holds else {
            let detail = "it is not there: a service makes it when it starts";
            findings.add(what, State::Notice, detail);
            continue;
        };
        if stream.differences.is_empty() {
            let detail = format!("{messages} messages, {}", mebibytes(bytes));
            findings.add(what.clone(), State::Sound, detail);
        }
        for difference in stream.differences {
            findings.add(what.clone(), State::Wrong, difference.to_string());
        }
    }
    Ok(())
}

fn look_at_leader(store: &Nats, partition: PartitionId, findings: &mut Findings) {
    let what = format!("leader {partition}");
    match store.wait(store.reader.leader(partition)) {
        Ok(Some(leader)) => findings.add(what, State::Sound, leader),
        Ok(None) => findings.add(what, State::Notice, "nobody leads it"),
        Err(error) => findings.add(what, State::Wrong, error.to_string()),
    }
}
