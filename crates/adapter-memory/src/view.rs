//! The view in memory: rows by tenant and id, and in the order of lists.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eventflow_domain::{ExecutionId, PartitionId, Tenant, Timestamp};
use eventflow_ports::{ListQuery, View, ViewBatch, ViewError, ViewPosition, ViewRow};

use crate::lock;

/// Partitions' rows in memory, as many as there are executions. A clone is another instance on the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryView(Arc<Mutex<HashMap<PartitionId, Partition>>>);

#[derive(Debug, Default)]
struct Partition {
    position: ViewPosition,
    tenants: HashMap<Tenant, Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    by_id: HashMap<ExecutionId, ViewRow>,
    /// Oldest first, as a list has them from its end.
    by_age: BTreeSet<(Timestamp, ExecutionId)>,
    /// Those that `open` shows, so that a recovery does not go through all that ever ran.
    open: BTreeSet<ExecutionId>,
}

impl Rows {
    fn apply(&mut self, mut row: ViewRow) {
        let id = row.execution.clone();
        if let Some(earlier) = self.by_id.remove(&id) {
            self.by_age.remove(&(earlier.created_at, id.clone()));
            row.state = row.state.or(earlier.state);
        }
        if row.state.is_some() && !row.status.is_ended() {
            self.open.insert(id.clone());
        } else {
            self.open.remove(&id);
        }
        self.by_age.insert((row.created_at, id.clone()));
        self.by_id.insert(id, row);
    }

    fn list(&self, query: &ListQuery) -> Vec<ViewRow> {
        let newest_first: Box<dyn Iterator<Item = &(Timestamp, ExecutionId)>> = match &query.before
        {
            Some(before) => Box::new(self.by_age.range(..before).rev()),
            None => Box::new(self.by_age.iter().rev()),
        };
        newest_first
            .filter_map(|(_, id)| self.by_id.get(id))
            .filter(|row| matches(row, query))
            .take(query.limit)
            .map(|row| ViewRow {
                state: None,
                ..row.clone()
            })
            .collect()
    }
}

fn matches(row: &ViewRow, query: &ListQuery) -> bool {
    (query.statuses.is_empty() || query.statuses.contains(&row.status))
        && query
            .workflow
            .as_ref()
            .is_none_or(|name| *name == row.workflow)
        && query
            .labels
            .iter()
            .all(|(key, value)| row.labels.get(key) == Some(value))
        && query
            .started_after
            .is_none_or(|time| row.created_at >= time)
        && query
            .started_before
            .is_none_or(|time| row.created_at < time)
}

#[async_trait]
impl View for MemoryView {
    async fn apply(&self, partition: PartitionId, batch: ViewBatch) -> Result<(), ViewError> {
        let mut partitions = lock(&self.0);
        let partition = partitions.entry(partition).or_default();
        for row in batch.rows {
            let rows = partition.tenants.entry(row.tenant.clone()).or_default();
            rows.apply(row);
        }
        partition.position = batch.position;
        Ok(())
    }

    async fn position(&self, partition: PartitionId) -> Result<ViewPosition, ViewError> {
        let partitions = lock(&self.0);
        Ok(partitions
            .get(&partition)
            .map_or_else(ViewPosition::default, |partition| partition.position))
    }

    async fn get(
        &self,
        partition: PartitionId,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Option<ViewRow>, ViewError> {
        let partitions = lock(&self.0);
        let rows = partitions
            .get(&partition)
            .and_then(|partition| partition.tenants.get(tenant));
        Ok(rows.and_then(|rows| rows.by_id.get(execution)).cloned())
    }

    async fn open(&self, partition: PartitionId) -> Result<Vec<ViewRow>, ViewError> {
        let partitions = lock(&self.0);
        let tenants = partitions
            .get(&partition)
            .map(|partition| &partition.tenants);
        // Sorted, so that a recovery of the same store always goes the same way.
        let tenants: BTreeMap<&Tenant, &Rows> = tenants.into_iter().flatten().collect();
        Ok(tenants
            .values()
            .flat_map(|rows| rows.open.iter().filter_map(|id| rows.by_id.get(id)))
            .cloned()
            .collect())
    }

    async fn list(
        &self,
        partition: PartitionId,
        query: ListQuery,
    ) -> Result<Vec<ViewRow>, ViewError> {
        let partitions = lock(&self.0);
        let rows = partitions
            .get(&partition)
            .and_then(|partition| partition.tenants.get(&query.tenant));
        Ok(rows.map_or_else(Vec::new, |rows| rows.list(&query)))
    }

    /// Has no files.
    async fn copy(
        &self,
        _partition: PartitionId,
        _to: &Path,
    ) -> Result<Option<ViewPosition>, ViewError> {
        Ok(None)
    }

    async fn replace(&self, _partition: PartitionId, from: &Path) -> Result<(), ViewError> {
        Err(ViewError::Unfit(
            format!(
                "{}: a view in memory has no files, so no file is a copy of one",
                from.display()
            )
            .into(),
        ))
    }
}
