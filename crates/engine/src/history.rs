//! An execution's own events, read back from the journal's records.

use eventflow_domain::{
    Digest, Json, PartitionId, Position, Sequence, Timestamp,
    execution::Event,
    record::{self, Entry, history_hash},
};
use eventflow_ports::{
    ReadLimit,
    inbound::{HistoryEvent, HistoryPage, Refusal},
};

use crate::{backend::Backend, partition::Key};

/// One event as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) sequence: Sequence,
    pub(crate) time: Timestamp,
    pub(crate) text: Json,
    pub(crate) event: Event,
}

/// Every event of an execution in these records, in order.
pub(crate) async fn events(
    backend: &Backend,
    partition: PartitionId,
    key: &Key,
    positions: &[Position],
) -> Result<Vec<Written>, Refusal> {
    let mut events = Vec::new();
    for position in positions {
        let before = Position(position.0 - 1);
        let entries = backend
            .journal
            .read(partition, before, ReadLimit::ONE)
            .await;
        let entries = entries.map_err(|error| Refusal::unavailable(error.to_string()))?;
        let damaged = |detail: String| {
            Refusal::unavailable(format!(
                "record {position} of partition {partition} cannot be read: {detail}"
            ))
        };
        let entry = entries
            .first()
            .ok_or_else(|| damaged("it is missing".to_owned()))?;
        let record = record::decode(&entry.record).map_err(|fault| damaged(fault.to_string()))?;
        for part in record.entries {
            let Entry::Execution(written) = part else {
                continue;
            };
            if written.tenant != key.tenant || written.execution != key.id {
                continue;
            }
            let parsed = written
                .parse()
                .map_err(|fault| damaged(fault.to_string()))?;
            events.extend(parsed.into_iter().zip(written.events).map(
                |((sequence, event), text)| Written {
                    sequence,
                    time: record.header.time,
                    text,
                    event,
                },
            ));
        }
    }
    Ok(events)
}

/// A page of a history. Hashes chain from the first event, whichever page is asked for.
pub(crate) fn page(events: Vec<Written>, after: Sequence, limit: usize) -> HistoryPage {
    let mut hash = Digest([0; 32]);
    let mut page = Vec::new();
    let mut next = None;
    for written in events {
        hash = history_hash(&hash, written.sequence, &written.text);
        if written.sequence <= after {
            continue;
        }
        if page.len() == limit {
            next = page.last().map(|event: &HistoryEvent| event.sequence);
            break;
        }
        page.push(HistoryEvent {
            sequence: written.sequence,
            kind: written.event.kind(),
            time: written.time,
            data: inner(&written.text),
            hash,
        });
    }
    HistoryPage { events: page, next }
}

/// What stands behind an event's type.
fn inner(text: &Json) -> Json {
    let tagged = text
        .read::<std::collections::BTreeMap<String, Json>>()
        .unwrap_or_default();
    tagged.into_values().next().unwrap_or_else(Json::null)
}
