//! A store read from outside, whether or not a service has it open: without the lock, and nothing of it is changed.
//!
//! A journal only grows, so what is read up to a head noted before is one consistent state, without a transaction that
//! would hold up the service's checkpoints. A view follows its journal: **note it first**, then it is no further.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use eventflow_domain::{
    Digest, ExecutionId, Json, PartitionId, Position, Tenant, execution::Status,
};
use eventflow_ports::{JournalEntry, ReadLimit, ViewPosition};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params, types::Type};

use crate::{
    OpenError, blobs,
    heads::{self, Heads},
    journal::{self, JournalFile},
    sql,
    view::Trust,
};

/// A store that is read from outside.
#[derive(Debug)]
pub struct StoreReader {
    directory: PathBuf,
    journal_path: PathBuf,
    journal: Connection,
    partitions: u16,
    durable: Heads,
}

/// What an operator asks about a store's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFiles {
    /// Of `journal.db`.
    pub journal_bytes: u64,
    /// Of its WAL, which is written out in advance.
    pub wal_bytes: u64,
    /// Of all views.
    pub view_bytes: u64,
    /// SQLite's page size in `journal.db`.
    pub page_bytes: u32,
    /// SQLite's journal mode: `wal`, or a commit does not do what the service relies on.
    pub journal_mode: String,
    /// SQLite's own format number of the store.
    pub format: u32,
}

impl StoreReader {
    /// Recognises the store in a directory.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let (journal, partitions) = JournalFile::inspect(directory)?;
        Ok(Self {
            durable: heads::read(directory, partitions)?,
            journal_path: directory.join("journal.db"),
            directory: directory.to_owned(),
            journal,
            partitions,
        })
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The last record of a partition, and what is wrong with the end of its log, if anything is.
    pub fn head(&self, partition: PartitionId) -> Result<(Position, Option<String>), OpenError> {
        let found = heads::check(&self.journal, &self.durable);
        let found = found.map_err(OpenError::sqlite(&self.journal_path))?;
        let Some(found) = found.into_iter().nth(usize::from(partition.0)) else {
            let detail = format!("it has {} partitions, no {partition}", self.partitions);
            return Err(OpenError::corrupt(&self.journal_path, detail));
        };
        let damage = found.damage.map(|damage| damage.failure.to_string());
        Ok((found.head, damage))
    }

    /// The next records after a position; empty at the end.
    pub fn records(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, OpenError> {
        journal::read(&self.journal, partition, after, limit)
            .map_err(OpenError::sqlite(&self.journal_path))
    }

    /// A tenant's document by its digest.
    pub fn document(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<Json>, OpenError> {
        self.journal
            .prepare_cached("SELECT document FROM documents WHERE tenant = ?1 AND digest = ?2")
            .and_then(|mut statement| {
                statement
                    .query_row(params![tenant.as_str(), digest.0], |row| {
                        parse(row, 0, Json::parse)
                    })
                    .optional()
            })
            .map_err(OpenError::sqlite(&self.journal_path))
    }

    /// Whether a tenant has this large value.
    pub fn has_blob(&self, tenant: &Tenant, digest: &Digest) -> bool {
        blobs::path(&self.directory.join(blobs::FOLDER), tenant, digest).is_file()
    }

    /// The view of a partition; `None` where there is none that the service would go on with.
    pub fn view(&self, partition: PartitionId) -> Result<Option<ViewReader>, OpenError> {
        let path = self.directory.join(format!("view-{partition}.db"));
        if !path.exists() || !Trust::beside(&path).is_given() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)
            .and_then(|connection| {
                connection.busy_timeout(journal::BUSY_TIMEOUT)?;
                Ok(connection)
            })
            .map_err(OpenError::sqlite(&path))?;
        Ok(Some(ViewReader { path, connection }))
    }

    /// The files and how they are laid out.
    pub fn files(&self) -> Result<StoreFiles, OpenError> {
        let pragma = |name| {
            let answer = self
                .journal
                .pragma_query_value(None, name, |row| row.get(0));
            answer.map_err(OpenError::sqlite(&self.journal_path))
        };
        let views = (0..self.partitions).map(|partition| format!("view-{partition}.db"));
        Ok(StoreFiles {
            journal_bytes: self.bytes_of("journal.db")?,
            wal_bytes: self.bytes_of("journal.db-wal")?,
            view_bytes: views
                .flat_map(|view| [format!("{view}-wal"), view])
                .map(|name| self.bytes_of(&name))
                .sum::<Result<u64, OpenError>>()?,
            page_bytes: pragma("page_size")?,
            format: pragma("user_version")?,
            journal_mode: self
                .journal
                .pragma_query_value(None, "journal_mode", |row| row.get(0))
                .map_err(OpenError::sqlite(&self.journal_path))?,
        })
    }

    fn bytes_of(&self, name: &str) -> Result<u64, OpenError> {
        let path = self.directory.join(name);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(OpenError::io(&path)(error)),
        }
    }
}

/// The view of one partition, read from outside.
#[derive(Debug)]
pub struct ViewReader {
    path: PathBuf,
    connection: Connection,
}

/// A view at one moment.
#[derive(Debug)]
pub struct ViewState {
    /// How far it has come.
    pub position: ViewPosition,
    /// How many rows it has.
    pub rows: u64,
    /// The rows of executions that have not ended.
    pub open: Vec<StoredRow>,
}

/// One row of a view.
#[derive(Debug)]
pub struct StoredRow {
    /// Its tenant.
    pub tenant: Tenant,
    /// Its id.
    pub execution: ExecutionId,
    /// Its status, as lists show it.
    pub status: Status,
    /// The folded execution, as the engine wrote it.
    pub state: Vec<u8>,
}

impl ViewReader {
    /// Its position and open rows, of one moment.
    pub fn state(&mut self) -> Result<ViewState, OpenError> {
        let read = |connection: &mut Connection| {
            let moment = connection.transaction()?;
            let position = moment.query_row(
                "SELECT through, replay_after FROM position WHERE id = 0",
                [],
                |row| {
                    Ok(ViewPosition {
                        through: sql::position(row, 0)?,
                        replay_after: sql::position(row, 1)?,
                    })
                },
            )?;
            let rows = moment.query_row("SELECT count(*) FROM executions", [], |row| {
                sql::number(row, 0)
            })?;
            let open = moment
                .prepare(&format!("{ROW} WHERE e.class = 0"))?
                .query_map([], stored_row)?
                .collect::<Result<_, _>>()?;
            Ok(ViewState {
                position,
                rows,
                open,
            })
        };
        read(&mut self.connection).map_err(OpenError::sqlite(&self.path))
    }

    /// One row, as it is now.
    pub fn row(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Option<StoredRow>, OpenError> {
        self.connection
            .prepare_cached(&format!("{ROW} WHERE e.tenant = ?1 AND e.execution = ?2"))
            .and_then(|mut statement| {
                let key = params![tenant.as_str(), execution.as_str()];
                statement.query_row(key, stored_row).optional()
            })
            .map_err(OpenError::sqlite(&self.path))
    }
}

/// A row with the state that goes with it.
const ROW: &str = "SELECT e.tenant, e.execution, e.status, s.state
    FROM executions e JOIN states s ON s.row = e.row";

fn stored_row(row: &Row<'_>) -> rusqlite::Result<StoredRow> {
    Ok(StoredRow {
        tenant: parse(row, 0, Tenant::parse)?,
        execution: parse(row, 1, ExecutionId::parse)?,
        status: parse(row, 2, |word| {
            Status::parse(word).ok_or_else(|| format!("`{word}` is no status"))
        })?,
        state: row.get(3)?,
    })
}

fn parse<T, E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<T> {
    parse(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}
