//! What a check found.

use std::collections::BTreeMap;

use eventflow_domain::{DurationMs, ExecutionId, PartitionId, Position, Tenant, execution::Status};
use serde::Serialize;

use crate::Violation;

/// What a check found in a whole store.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Each partition that was read, in order.
    pub partitions: Vec<PartitionReport>,
    /// How many violations there are; [`Self::violations`] may be fewer.
    pub found: u64,
    /// The first of them, in the order they were found.
    pub violations: Vec<Violation>,
    /// The timer that acted the longest after its time while somebody reigned who could have acted.
    pub latest: Option<Lateness>,
}

impl Report {
    /// Whether every invariant holds.
    pub fn is_clean(&self) -> bool {
        self.found == 0
    }
}

/// What a check found in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionReport {
    /// Which.
    pub partition: PartitionId,
    /// The last record that was read.
    pub head: Position,
    /// Records that were read.
    pub records: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
    /// Writers, one after the other.
    pub epochs: u64,
    /// Events of executions.
    pub events: u64,
    /// Executions by where they stand.
    #[serde(serialize_with = "by_word")]
    pub executions: BTreeMap<Status, u64>,
    /// Rows of the view that were compared with the journal; none where there was no view to compare.
    pub rows: Option<u64>,
    /// Violations in this partition.
    pub found: u64,
}

impl PartitionReport {
    pub(crate) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            head: Position(0),
            records: 0,
            bytes: 0,
            epochs: 0,
            events: 0,
            executions: BTreeMap::new(),
            rows: None,
            found: 0,
        }
    }
}

fn by_word<S: serde::Serializer>(
    executions: &BTreeMap<Status, u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        executions
            .iter()
            .map(|(status, count)| (status.as_str(), count)),
    )
}

/// How late something was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lateness {
    /// How long after its time.
    pub ms: DurationMs,
    /// What.
    pub timer: String,
    /// Whose.
    pub tenant: Tenant,
    /// Of which execution.
    pub execution: ExecutionId,
}
