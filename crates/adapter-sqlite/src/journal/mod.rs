//! The `Journal` port: appends go to the writer, reads to a thread with a connection of its own.

mod file;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{Appending, Journal, JournalEntry, ReadError, ReadLimit};
use rusqlite::{Connection, params};

pub(crate) use self::file::{BUSY_TIMEOUT, JournalFile, copy_back};
use crate::{
    failure::{Failure, Severity},
    heads::Damage,
    sql,
    store::Shared,
};

/// The journal of an open store.
#[derive(Debug, Clone)]
pub struct SqliteJournal {
    shared: Arc<Shared>,
}

impl SqliteJournal {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        self.shared.writer.append(partition, expected, record)
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let head = self.head(partition).await?;
        let damage = self.shared.damage(partition);
        if after >= head && damage.is_none() {
            return Ok(Vec::new());
        }
        let entries = self
            .shared
            .reader
            .call(move |connection| read(connection, partition, after, limit))
            .await
            .map_err(read_error)?
            .map_err(|error| Failure::sqlite("reading journal.db", &error));
        match damage {
            None => entries.map_err(read_error),
            Some(damage) => sound(entries, damage).map_err(read_error),
        }
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        self.shared.writer.head(partition).map_err(read_error)
    }
}

pub(crate) fn read(
    connection: &Connection,
    partition: PartitionId,
    after: Position,
    limit: ReadLimit,
) -> rusqlite::Result<Vec<JournalEntry>> {
    let query = format!(
        "SELECT position, record FROM records_{partition} WHERE position > ?1 ORDER BY position LIMIT ?2"
    );
    // At least one, whatever the limit says.
    let records = i64::try_from(limit.records).unwrap_or(i64::MAX).max(1);
    let mut statement = connection.prepare_cached(&query)?;
    let mut rows = statement.query(params![sql::integer(after.0), records])?;
    let mut entries = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let record = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
        bytes += record.len();
        entries.push(JournalEntry {
            position: sql::position(row, 0)?,
            record,
        });
        if bytes >= limit.bytes {
            break;
        }
    }
    Ok(entries)
}

/// What may be read of a damaged log: everything up to where durable records are missing, where the damage is told.
fn sound(
    entries: Result<Vec<JournalEntry>, Failure>,
    damage: &Damage,
) -> Result<Vec<JournalEntry>, Failure> {
    let mut entries = entries.unwrap_or_default();
    entries.retain(|entry| entry.position < damage.from);
    if entries.is_empty() {
        return Err(damage.failure.clone());
    }
    Ok(entries)
}

fn read_error(failure: Failure) -> ReadError {
    match failure.severity() {
        Severity::Passing => ReadError::Unavailable(failure.into_source()),
        Severity::Broken => ReadError::Fatal(failure.into_source()),
    }
}
