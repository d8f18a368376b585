//! Setting bad records aside, so that a partition can start again (ADR 12). No byte is deleted before it lies elsewhere.
//!
//! A record names the one before it, so nothing can follow a hole: everything **from the bad record on** is moved, into
//! `quarantine/<partition>-<position>-<time>.db`, which says beside the records what was moved, when and why.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eventflow_domain::{Digest, PartitionId, Position, Timestamp};
use rusqlite::{Connection, OpenFlags, config::DbConfig, params};

use crate::{
    OpenError,
    directory::{self, Directory},
    heads::{self, Head},
    journal::JournalFile,
    sql,
};

/// Below the store's directory.
const FOLDER: &str = "quarantine";

/// Records that were set aside, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Where they lie.
    pub file: PathBuf,
    /// Whose they were.
    pub partition: PartitionId,
    /// The first of them.
    pub first: Position,
    /// The last of them.
    pub last: Position,
    /// How many there are.
    pub records: u64,
    /// When it was done.
    pub at: Timestamp,
    /// Why, in the operator's words.
    pub reason: String,
}

/// Why nothing was set aside.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The store cannot be opened, or is open elsewhere.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// There is nothing to set aside.
    #[error("partition {partition} has no record {first} and none after it: nothing was set aside")]
    Nothing {
        /// The partition that was named.
        partition: PartitionId,
        /// The position that was named.
        first: Position,
    },
    /// What was written is not what was read.
    #[error("{} does not hold what was read: nothing was taken out of the journal", .0.display())]
    Unlike(PathBuf),
}

impl Quarantined {
    /// Sets a record and all that follow it aside. Takes the store's lock, so no service may have it open. Blocks.
    pub fn set_aside(
        store: &Path,
        partition: PartitionId,
        first: Position,
        reason: &str,
        at: Timestamp,
    ) -> Result<Self, QuarantineError> {
        // Before the lock, which would create a directory: there must be a store.
        let (inspected, partitions) = JournalFile::inspect(store)?;
        drop(inspected);
        let _lock = Directory::open(store)?;
        let path = store.join("journal.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let journal = Connection::open_with_flags(&path, flags)
            .and_then(|journal| {
                // As the service has it: the WAL stays where it is, and a commit is synced.
                journal.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
                journal.execute_batch("PRAGMA synchronous = FULL;")?;
                Ok(journal)
            })
            .map_err(OpenError::sqlite(&path))?;
        let query = format!("SELECT coalesce(max(position), 0) FROM records_{partition}");
        if partition.0 >= partitions
            || first == Position(0)
            || journal
                .query_row(&query, [], |row| sql::position(row, 0))
                .map_err(OpenError::sqlite(&path))?
                < first
        {
            return Err(QuarantineError::Nothing { partition, first });
        }
        let file = target(store, partition, first, at)?;
        let copied = copy(&journal, &file, partition, first, reason, at);
        let quarantined = copied.map_err(OpenError::sqlite(&file))?;
        sync(&file)?;
        if !is_copied(&journal, &quarantined).map_err(OpenError::sqlite(&file))? {
            return Err(QuarantineError::Unlike(file));
        }
        // First of all: a journal that ends before its durable head is taken for a damaged one.
        lower_head(store, &journal, &quarantined, partitions)?;
        let delete = format!("DELETE FROM records_{partition} WHERE position >= ?1");
        journal
            .execute(&delete, params![sql::integer(first.0)])
            .map_err(OpenError::sqlite(&path))?;
        Ok(quarantined)
    }

    /// Everything that was set aside in a store, oldest first.
    pub fn list(store: &Path) -> Result<Vec<Self>, OpenError> {
        let folder = store.join(FOLDER);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(OpenError::io(&folder))? {
            let file = entry.map_err(OpenError::io(&folder))?.path();
            if file.extension().is_some_and(|extension| extension == "db") {
                found.push(read(&file).map_err(OpenError::sqlite(&file))?);
            }
        }
        found.sort_by_key(|quarantined| (quarantined.at, quarantined.partition));
        Ok(found)
    }
}

fn target(
    store: &Path,
    partition: PartitionId,
    first: Position,
    at: Timestamp,
) -> Result<PathBuf, OpenError> {
    let folder = store.join(FOLDER);
    directory::create_durably(&folder).map_err(OpenError::io(&folder))?;
    let file = folder.join(format!("{partition}-{first}-{}.db", at.0));
    // Never over an earlier one.
    fs::File::create_new(&file).map_err(OpenError::io(&file))?;
    Ok(file)
}

/// Copies the records and the audit.
fn copy(
    journal: &Connection,
    file: &Path,
    partition: PartitionId,
    first: Position,
    reason: &str,
    at: Timestamp,
) -> rusqlite::Result<Quarantined> {
    let mut target = Connection::open(file)?;
    target.execute_batch(
        "PRAGMA synchronous = FULL;
         CREATE TABLE records (position INTEGER PRIMARY KEY, record BLOB NOT NULL);
         CREATE TABLE audit (partition INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                             records INTEGER NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL);",
    )?;
    let query = format!(
        "SELECT position, record FROM records_{partition} WHERE position >= ?1 ORDER BY position"
    );
    let (mut last, mut records) = (Position(0), 0_u64);
    let moment = target.transaction()?;
    let mut statement = journal.prepare(&query)?;
    let mut rows = statement.query(params![sql::integer(first.0)])?;
    while let Some(row) = rows.next()? {
        last = sql::position(row, 0)?;
        records += 1;
        let record = row.get_ref(1)?.as_blob()?;
        moment
            .prepare_cached("INSERT INTO records VALUES (?1, ?2)")?
            .execute(params![sql::integer(last.0), record])?;
    }
    moment.execute(
        "INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            partition.0,
            sql::integer(first.0),
            sql::integer(last.0),
            sql::integer(records),
            at.0,
            reason
        ],
    )?;
    moment.commit()?;
    Ok(Quarantined {
        file: file.to_owned(),
        partition,
        first,
        last,
        records,
        at,
        reason: reason.to_owned(),
    })
}

/// Whether every record lies in the file as it lies in the journal.
fn is_copied(journal: &Connection, quarantined: &Quarantined) -> rusqlite::Result<bool> {
    let partition = quarantined.partition;
    let first = params![sql::integer(quarantined.first.0)];
    let theirs = digest(
        journal,
        &format!(
            "SELECT position, record FROM records_{partition} WHERE position >= ?1 ORDER BY position"
        ),
        first,
    )?;
    let file = Connection::open_with_flags(&quarantined.file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let ours = digest(
        &file,
        "SELECT position, record FROM records WHERE position >= ?1 ORDER BY position",
        first,
    )?;
    Ok(ours == theirs)
}

/// Of all records of a query, one after the other.
fn digest(
    connection: &Connection,
    query: &str,
    arguments: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Digest> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query(arguments)?;
    let mut digest = Digest([0; 32]);
    while let Some(row) = rows.next()? {
        let record = Digest::of(row.get_ref(1)?.as_blob()?);
        let position = sql::number(row, 0)?;
        digest = Digest::of(format!("{digest}{position}{record}").as_bytes());
    }
    Ok(digest)
}

fn lower_head(
    store: &Path,
    journal: &Connection,
    quarantined: &Quarantined,
    partitions: u16,
) -> Result<(), OpenError> {
    let mut durable = heads::read(store, partitions)?;
    let before = Position(quarantined.first.0 - 1);
    let record = heads::digest(journal, quarantined.partition, before)
        .map_err(OpenError::sqlite(&store.join("journal.db")))?;
    if let Some(head) = durable.get_mut(usize::from(quarantined.partition.0)) {
        *head = record.map(|record| Head {
            position: before,
            record,
        });
    }
    heads::write(store, &durable).map_err(OpenError::io(store))
}

fn sync(file: &Path) -> Result<(), OpenError> {
    let synced = fs::File::open(file)
        .and_then(|file| file.sync_all())
        .and_then(|()| directory::sync(&directory::parent(file)));
    synced.map_err(OpenError::io(file))
}

fn read(file: &Path) -> rusqlite::Result<Quarantined> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.query_row(
        "SELECT partition, first, last, records, at, reason FROM audit",
        [],
        |row| {
            Ok(Quarantined {
                file: file.to_owned(),
                partition: PartitionId(row.get(0)?),
                first: sql::position(row, 1)?,
                last: sql::position(row, 2)?,
                records: sql::number(row, 3)?,
                at: Timestamp(row.get(4)?),
                reason: row.get(5)?,
            })
        },
    )
}
