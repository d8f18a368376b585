//! The `View` port: one SQLite file per partition, which follows the journal and can be lost.
//!
//! Nothing is synced while a view is open. A file that lived through a power loss (see [`trust`]), that is damaged, of
//! another format or ahead of the journal, is deleted when the store is opened, and begins at position 0.

mod apply;
mod copies;
mod file;
mod query;
mod trust;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use eventflow_domain::{ExecutionId, PartitionId, Position, Tenant};
use eventflow_ports::{ListQuery, View, ViewBatch, ViewError, ViewPosition, ViewRow};
use rusqlite::Connection;

pub(crate) use self::trust::Trust;

use self::file::ViewFile;
use crate::{
    OpenError, backup,
    directory::Directory,
    failure::{Failure, Severity},
    health::Health,
    worker::Worker,
};

/// The views of a store's partitions.
#[derive(Debug, Clone)]
pub struct SqliteView {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// One per partition.
    writers: Vec<Worker<Connection>>,
    /// Look-ups, of all partitions: they take microseconds.
    points: Worker<Vec<Connection>>,
    /// Lists and recoveries, of all partitions: they may take long.
    scans: Worker<Vec<Connection>>,
    /// After the connections to them.
    files: Vec<ViewFile>,
    health: Health,
    _directory: Arc<Directory>,
}

impl SqliteView {
    /// Opens the views in `directory`, or creates them there, without a journal beside them: a node whose journal is
    /// elsewhere. Blocks, as dropping the last clone does.
    pub fn open(directory: impl AsRef<Path>, partitions: u16) -> Result<Self, OpenError> {
        let directory = Arc::new(Directory::open(directory.as_ref())?);
        let anywhere = vec![Position(u64::MAX); usize::from(partitions)];
        Self::behind(
            &directory,
            &anywhere,
            &Health::new(partitions, BTreeMap::new()),
        )
    }

    /// Opens the views of a journal whose partitions end at `heads`.
    pub(crate) fn behind(
        directory: &Arc<Directory>,
        heads: &[Position],
        health: &Health,
    ) -> Result<Self, OpenError> {
        let path = directory.path();
        let connect = |files: &[ViewFile]| {
            files
                .iter()
                .map(ViewFile::connect)
                .collect::<Result<Vec<_>, _>>()
        };
        let files = (0..)
            .zip(heads)
            .map(|(partition, head)| ViewFile::open(path, PartitionId(partition), *head))
            .collect::<Result<Vec<_>, _>>()?;
        let writers = (0..)
            .zip(connect(&files)?)
            .map(|(partition, connection)| {
                Worker::spawn(format!("view-writer-{partition}"), connection)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(OpenError::io(path))?;
        let readers = |name: &str| {
            Worker::spawn(name.to_owned(), connect(&files)?).map_err(OpenError::io(path))
        };
        let (points, scans) = (readers("view-points")?, readers("view-scans")?);
        Ok(Self {
            inner: Arc::new(Inner {
                files,
                writers,
                points,
                scans,
                health: health.clone(),
                _directory: Arc::clone(directory),
            }),
        })
    }

    /// Runs a query on a connection to one partition's file.
    async fn query<R: Send + 'static>(
        &self,
        readers: &Worker<Vec<Connection>>,
        partition: PartitionId,
        query: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, ViewError> {
        let file = self.file(partition)?;
        let index = usize::from(partition.0);
        let result = readers
            .call(move |connections| query(&connections[index]))
            .await
            .map_err(unavailable)?;
        result.map_err(|error| self.failed(partition, file.failure("reading", &error)))
    }

    /// A partition cannot go on without its view: what has ended would stay in memory, and nobody could look it up.
    fn failed(&self, partition: PartitionId, failure: Failure) -> ViewError {
        if failure.severity() == Severity::Broken {
            self.inner.health.fail(partition, &failure);
        }
        unavailable(failure)
    }

    fn file(&self, partition: PartitionId) -> Result<&ViewFile, ViewError> {
        self.inner
            .files
            .get(usize::from(partition.0))
            .ok_or_else(|| {
                let partitions = self.inner.files.len();
                unavailable(Failure::broken(&format!(
                    "there is no partition {partition}: the store has {partitions}"
                )))
            })
    }
}

#[async_trait]
impl View for SqliteView {
    async fn apply(&self, partition: PartitionId, batch: ViewBatch) -> Result<(), ViewError> {
        let file = self.file(partition)?;
        let result = self.inner.writers[usize::from(partition.0)]
            .call(move |connection| apply::apply(connection, &batch))
            .await
            .map_err(unavailable)?;
        result.map_err(|error| self.failed(partition, file.failure("writing", &error)))
    }

    async fn position(&self, partition: PartitionId) -> Result<ViewPosition, ViewError> {
        self.query(&self.inner.points, partition, query::position)
            .await
    }

    async fn get(
        &self,
        partition: PartitionId,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Option<ViewRow>, ViewError> {
        let (tenant, execution) = (tenant.clone(), execution.clone());
        self.query(&self.inner.points, partition, move |connection| {
            query::get(connection, &tenant, &execution)
        })
        .await
    }

    async fn open(&self, partition: PartitionId) -> Result<Vec<ViewRow>, ViewError> {
        self.query(&self.inner.scans, partition, query::open).await
    }

    async fn list(
        &self,
        partition: PartitionId,
        list: ListQuery,
    ) -> Result<Vec<ViewRow>, ViewError> {
        self.query(&self.inner.scans, partition, move |connection| {
            query::list(connection, &list)
        })
        .await
    }

    async fn copy(
        &self,
        partition: PartitionId,
        to: &Path,
    ) -> Result<Option<ViewPosition>, ViewError> {
        self.file(partition)?;
        let (inner, to) = (Arc::clone(&self.inner), to.to_owned());
        // On a connection of its own, for it may take long.
        let made = blocking(move || copies::make(&inner.files[usize::from(partition.0)], &to));
        made.await?.map(Some).map_err(unavailable)
    }

    async fn replace(&self, partition: PartitionId, from: &Path) -> Result<(), ViewError> {
        let file = self.file(partition)?;
        let from = from.to_owned();
        let checked = blocking(move || copies::check(&from)).await?;
        let copy = checked.map_err(ViewError::Unfit)?;
        let result = self.inner.writers[usize::from(partition.0)]
            .call(move |connection| backup::copy_pages(&copy, connection))
            .await
            .map_err(unavailable)?;
        result.map_err(|error| self.failed(partition, file.failure("replacing", &error)))
    }
}

/// Runs on a thread that may wait for the disk.
async fn blocking<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> Result<R, ViewError> {
    let ended = tokio::task::spawn_blocking(job).await;
    ended.map_err(|_| unavailable(Failure::broken("a thread of the view has panicked")))
}

fn unavailable(failure: Failure) -> ViewError {
    ViewError::Unavailable(failure.into_source())
}
