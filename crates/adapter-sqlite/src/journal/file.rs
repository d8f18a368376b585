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

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{OpenError, Options, directory, sql};

/// `PRAGMA application_id`: "EVFL".
const APPLICATION_ID: u32 = 0x4556_464C;
/// `PRAGMA user_version`: the newest format that this release reads.
pub(crate) const FORMAT: u32 = 1;
/// Somebody else than us can hold the file for a moment only, as a backup tool does; then the answer is Unavailable.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
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
    /// Recognises the journal of a store, or creates it where the directory holds none.
    pub(crate) fn open(directory: &Path, options: &Options) -> Result<Self, OpenError> {
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
        file.check_contents(directory)?;
        fill_wal(&file.wal_path(), options.wal_bytes).map_err(OpenError::io(&file.wal_path()))?;
        directory::sync(directory).map_err(OpenError::io(directory))?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.partitions
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

    /// The last position of each partition.
    pub(crate) fn heads(&self, connection: &Connection) -> Result<Vec<u64>, OpenError> {
        (0..self.partitions)
            .map(|partition| {
                let query = format!("SELECT coalesce(max(position), 0) FROM records_{partition}");
                connection.query_row(&query, [], |row| sql::number(row, 0))
            })
            .collect::<Result<_, _>>()
            .map_err(OpenError::sqlite(&self.path))
    }

    fn wal_path(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    /// The format once more, since it may have been raised in the WAL; the number of partitions.
    fn check_contents(&self, directory: &Path) -> Result<(), OpenError> {
        let connection = self.connect()?;
        let (found, stored) = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .and_then(|found: u32| {
                let query = "SELECT value FROM store WHERE name = 'partitions'";
                let stored: u16 = connection.query_row(query, [], |row| row.get(0))?;
                Ok((found, stored))
            })
            .map_err(OpenError::sqlite(&self.path))?;
        check_format(&self.path, found)?;
        if stored != self.partitions {
            return Err(OpenError::PartitionsDiffer {
                directory: directory.to_owned(),
                stored,
                asked: self.partitions,
            });
        }
        Ok(())
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
    for left in ["journal.db-wal", "view-0.db", "blobs"] {
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
