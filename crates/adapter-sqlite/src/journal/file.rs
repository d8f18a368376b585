//! `journal.db`: how it is created, recognised and opened.
//!
//! A refusal changes nothing: what can be seen in the file's header is checked before SQLite touches it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, wal::CheckpointMode};

use crate::{
    OpenError, Options, directory,
    failure::{Failure, Severity},
    heads::{Found, Heads, check},
};

/// `PRAGMA application_id`: "EVFL".
const APPLICATION_ID: u32 = 0x4556_464C;
/// `PRAGMA user_version`: the newest format that this release reads.
pub(crate) const FORMAT: u32 = 1;
/// Somebody else than us can hold the file for a moment only, as a backup tool does; then the answer is Unavailable.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages that a connection keeps, KiB: the inner pages of the trees and the last leaves; records are not read twice.
const CACHE_KIB: u32 = 4 * 1024;
/// Statements that stay prepared, beside one insert per partition.
const STATEMENTS_MAX: usize = 32;
/// The file system's block. The WAL is filled in writes of this size: a larger write makes larger units in the page
/// cache, and each small commit would then count (and on some file systems write) such a unit.
const BLOCK_BYTES: usize = 4096;

/// A recognised or fresh journal.
#[derive(Debug)]
pub(crate) struct JournalFile {
    path: PathBuf,
    partitions: u16,
}

impl JournalFile {
    /// Recognises the journal of a store, or creates it where the directory holds none; `heads` says what must be in it.
    /// Answers what was found, by partition.
    pub(crate) fn open(
        directory: &Path,
        options: &Options,
        heads: &Heads,
    ) -> Result<(Self, Vec<Found>), OpenError> {
        let path = directory.join("journal.db");
        if path.exists() {
            check_header(&path)?;
        } else {
            check_nothing_is_lost(directory, &path)?;
            create(directory, &path, options)?;
        }
        let file = Self {
            path,
            partitions: options.partitions,
        };
        let connection = file.connect()?;
        file.check_contents(&connection, directory)?;
        let found = check(&connection, heads).map_err(OpenError::sqlite(&file.path))?;
        if found.iter().any(|partition| partition.damage.is_none()) {
            file.settle(&connection, directory, options)?;
        }
        Ok((file, found))
    }

    /// Recognises the journal of another process' store, to read it.
    pub(crate) fn inspect(directory: &Path) -> Result<(Connection, u16), OpenError> {
        let path = directory.join("journal.db");
        check_header(&path)?;
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|connection| {
                connection.busy_timeout(BUSY_TIMEOUT)?;
                // The store's files are left to the service.
                connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
                Ok(connection)
            })
            .map_err(OpenError::sqlite(&path))?;
        let (format, partitions) = contents(&connection).map_err(OpenError::sqlite(&path))?;
        check_format(&path, format)?;
        Ok((connection, partitions))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that syncs every commit and leaves checkpoints to the checkpointer.
    pub(crate) fn connect(&self) -> Result<Connection, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let settled = Connection::open_with_flags(&self.path, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(
                STATEMENTS_MAX + usize::from(self.partitions),
            );
            // The WAL stays where it is when the store is closed: its blocks are there to be overwritten, and a sync
            // of overwritten blocks costs half of one that must also sync the file's new size.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.execute_batch(&format!(
                "PRAGMA synchronous = FULL;
                 PRAGMA wal_autocheckpoint = 0;
                 PRAGMA journal_size_limit = -1;
                 PRAGMA temp_store = MEMORY;
                 PRAGMA cache_size = -{CACHE_KIB};"
            ))?;
            Ok(connection)
        });
        settled.map_err(OpenError::sqlite(&self.path))
    }

    fn wal_path(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    /// The format once more, since it may have been raised in the WAL; the number of partitions.
    fn check_contents(&self, connection: &Connection, directory: &Path) -> Result<(), OpenError> {
        let (format, stored) = contents(connection).map_err(OpenError::sqlite(&self.path))?;
        check_format(&self.path, format)?;
        if stored != self.partitions {
            return Err(OpenError::PartitionsDiffer {
                directory: directory.to_owned(),
                stored,
                asked: self.partitions,
            });
        }
        Ok(())
    }

    /// Makes ready to be written. What an earlier process could not sync may be in the page cache alone and look like
    /// what is durable (a failed fsync leaves it so), so everything in the WAL is written and synced once more.
    fn settle(
        &self,
        connection: &Connection,
        directory: &Path,
        options: &Options,
    ) -> Result<(), OpenError> {
        match copy_back(connection) {
            Ok(()) => {}
            Err(failure) if failure.severity() == Severity::Passing => {
                tracing::warn!(%failure, "the journal's checkpoint has to wait");
            }
            Err(failure) => return Err(OpenError::io(&self.path)(io::Error::other(failure))),
        }
        let wal = self.wal_path();
        fill_wal(&wal, options.wal_bytes).map_err(OpenError::io(&wal))?;
        directory::sync(directory).map_err(OpenError::io(directory))
    }
}

/// Format and number of partitions.
fn contents(connection: &Connection) -> rusqlite::Result<(u32, u16)> {
    let format = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let query = "SELECT value FROM store WHERE name = 'partitions'";
    let partitions = connection.query_row(query, [], |row| row.get(0))?;
    Ok((format, partitions))
}

/// Copies what was committed when this began, and what no reader needs otherwise, from the WAL to `journal.db`.
pub(crate) fn copy_back(connection: &Connection) -> Result<(), Failure> {
    match connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE) {
        Ok(_) => Ok(()),
        // Another connection is at it.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            Ok(())
        }
        Err(error) => Err(Failure::sqlite(
            "copying the WAL back to journal.db",
            &error,
        )),
    }
}

/// The first 100 bytes of the file say whether it is ours and of which format (<https://sqlite.org/fileformat2.html>).
fn check_header(path: &Path) -> Result<(), OpenError> {
    let mut header = [0; 100];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(OpenError::corrupt(path, "it is shorter than its header"));
        }
        Err(error) => return Err(OpenError::io(path)(error)),
    }
    let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(OpenError::corrupt(path, "it is not an SQLite file"));
    }
    if number(68) != APPLICATION_ID {
        return Err(OpenError::corrupt(path, "another program wrote it"));
    }
    check_format(path, number(60))
}

fn check_format(path: &Path, found: u32) -> Result<(), OpenError> {
    match found {
        1..=FORMAT => Ok(()),
        0 => Err(OpenError::corrupt(path, "it has no format number")),
        _ => Err(OpenError::NewerFormat {
            file: path.to_owned(),
            found,
            known: FORMAT,
        }),
    }
}

/// A store is created journal first: where anything else is there, the journal was lost, and with it the truth.
fn check_nothing_is_lost(directory: &Path, path: &Path) -> Result<(), OpenError> {
    for left in ["journal.db-wal", "journal.heads", "view-0.db", "blobs"] {
        if directory.join(left).exists() {
            let detail = format!("it is missing, although `{left}` is there");
            return Err(OpenError::corrupt(path, detail));
        }
    }
    Ok(())
}

/// Builds the file under another name, so that `journal.db` is complete from the moment it exists.
fn create(directory: &Path, path: &Path, options: &Options) -> Result<(), OpenError> {
    let new = beside(path, ".new");
    for leftover in [new.clone(), beside(&new, "-wal"), beside(&new, "-shm")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::io(&leftover)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Connection::open(&new)
        .and_then(|connection| connection.execute_batch(&schema(options)))
        .map_err(OpenError::sqlite(&new))?;
    File::open(&new)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| directory::sync(directory))
        .map_err(OpenError::io(path))
}

/// One table per partition: each grows at its right end only, where SQLite fills pages and never splits one in half.
fn schema(options: &Options) -> String {
    let records = (0..options.partitions).fold(String::new(), |sql, partition| {
        sql + &format!(
            "CREATE TABLE records_{partition} (position INTEGER PRIMARY KEY, record BLOB NOT NULL);\n"
        )
    });
    format!(
        "PRAGMA page_size = {page_bytes};
         PRAGMA journal_mode = WAL;
         BEGIN;
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {FORMAT};
         CREATE TABLE store (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
         INSERT INTO store VALUES ('partitions', {partitions});
         {records}
         CREATE TABLE documents (
            tenant TEXT NOT NULL, digest BLOB NOT NULL,
            namespace TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, document TEXT NOT NULL,
            PRIMARY KEY (tenant, digest));
         CREATE TABLE names (
            tenant TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
            digest BLOB NOT NULL,
            PRIMARY KEY (tenant, namespace, name, version)) WITHOUT ROWID;
         CREATE TABLE keys (name TEXT PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID;
         COMMIT;",
        page_bytes = options.page_bytes,
        partitions = options.partitions,
    )
}

/// Extends the WAL with zeros, which SQLite reads as its end, so that commits overwrite blocks and add none.
fn fill_wal(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let mut end = file.metadata()?.len();
    if end >= bytes {
        return Ok(());
    }
    let zeros = [0; BLOCK_BYTES];
    while end < bytes {
        let upto_the_block = BLOCK_BYTES as u64 - end % BLOCK_BYTES as u64;
        let length = usize::try_from(upto_the_block).expect("at most a block");
        file.write_all_at(&zeros[..length], end)?;
        end += upto_the_block;
    }
    file.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
