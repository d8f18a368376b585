//! An embedded store, read from outside.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use eventflow_adapter_sqlite::{OpenError, Quarantined as InFile, StoreReader, ViewReader};
use eventflow_domain::{Digest, Json, PartitionId, Position, Tenant};
use eventflow_ports::{JournalEntry, ReadLimit};

use super::{Order, Quarantined, Reading, RecordsError};

/// A directory, and what is in it.
pub(crate) struct Embedded {
    pub(crate) directory: PathBuf,
    pub(crate) reader: StoreReader,
}

impl Embedded {
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            reader: StoreReader::open(directory)?,
            directory: directory.to_owned(),
        })
    }
}

impl Reading for Embedded {
    fn partitions(&self) -> u16 {
        self.reader.partitions()
    }

    fn head(&self, partition: PartitionId) -> anyhow::Result<(Position, Option<String>)> {
        Ok(self.reader.head(partition)?)
    }

    fn records(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, RecordsError> {
        let read = self.reader.records(partition, after, limit);
        read.map_err(|error| match error {
            OpenError::Corrupt { .. } => RecordsError::Damaged(error.to_string()),
            error => RecordsError::Failed(error.into()),
        })
    }

    fn remark(&self, _: PartitionId, _: Position) -> anyhow::Result<Option<String>> {
        Ok(None)
    }

    fn document(&self, tenant: &Tenant, digest: &Digest) -> anyhow::Result<Option<Json>> {
        Ok(self.reader.document(tenant, digest)?)
    }

    fn has_blob(&self, tenant: &Tenant, digest: &Digest) -> anyhow::Result<bool> {
        Ok(self.reader.has_blob(tenant, digest))
    }

    fn view(&self, partition: PartitionId) -> anyhow::Result<Option<ViewReader>> {
        Ok(self.reader.view(partition)?)
    }

    fn quarantined(&self) -> anyhow::Result<Vec<Quarantined>> {
        let found = InFile::list(&self.directory)?;
        Ok(found.into_iter().map(Quarantined::from).collect())
    }

    fn planned(
        &self,
        partition: PartitionId,
        first: Position,
    ) -> anyhow::Result<Vec<RangeInclusive<u64>>> {
        let (head, _) = self.head(partition)?;
        Ok(vec![first.0..=head.0])
    }

    fn set_aside(&self, order: &Order) -> anyhow::Result<Quarantined> {
        let Order {
            partition,
            first,
            at,
            reason,
            ..
        } = order;
        let done = InFile::set_aside(&self.directory, *partition, *first, reason, *at)?;
        Ok(done.into())
    }
}

impl From<InFile> for Quarantined {
    fn from(set_aside: InFile) -> Self {
        Self {
            lies_in: ("file", set_aside.file.display().to_string()),
            partition: set_aside.partition,
            first: set_aside.first,
            last: set_aside.last,
            records: set_aside.records,
            loses: true,
            at: set_aside.at,
            by: None,
            reason: set_aside.reason,
        }
    }
}
