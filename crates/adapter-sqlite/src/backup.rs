//! Backing up a store while a service writes to it: the copy is a store itself, and restoring is starting on it.
//!
//! The journal is copied first, in one piece, as it is at one moment; the blobs after it: each was durable before the
//! first record that mentions it, and none is ever deleted. Views are rebuilt. Every record of the copy is verified to
//! continue its chain, so a backup of a damaged store is refused instead of replacing a good one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use eventflow_domain::{PartitionId, Position, record::Chain};
use eventflow_ports::Source;
use rusqlite::{
    Connection,
    backup::{self, StepResult},
};

use crate::{
    OpenError, blobs, directory,
    heads::{self, Head, Heads, check},
    journal::JournalFile,
    sql,
};

/// What a finished backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The last record of each partition.
    pub heads: Vec<Position>,
    /// How many blobs.
    pub blobs: u64,
    /// Bytes of everything.
    pub bytes: u64,
}

/// Why there is no backup; what was begun of it has been removed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{} exists: choose a directory that does not, nothing is overwritten", .0.display())]
    Exists(PathBuf),
    /// Another backup is being written there, or was cut short.
    #[error("{} is being written by another backup, or was left by one that was cut short: remove it then", .0.display())]
    Unfinished(PathBuf),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A record is not what was written.
    #[error("{0}; it was not backed up, keep the last good backup")]
    Damaged(String),
    /// The operating system refused something.
    #[error("cannot write {}: {reason}", path.display())]
    Io {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
}

impl Backup {
    /// Copies the store in `store` to `target`, which must not exist; whether or not a service has it open. Blocks.
    pub fn take(store: &Path, target: &Path) -> Result<Self, BackupError> {
        if target.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(target.to_owned()));
        }
        // Under another name: a backup that was cut short must not be taken for one.
        let mut unfinished = target.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        // Before the copy is made: what this says is in it.
        let (source, partitions) = JournalFile::inspect(store)?;
        let durable = heads::read(store, partitions)?;
        let parent = directory::parent(target);
        directory::create_durably(&parent).map_err(io_error(&parent))?;
        match fs::create_dir(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BackupError::Unfinished(unfinished));
            }
            created => created.map_err(io_error(&unfinished))?,
        }
        let copy = Copy {
            store,
            target: &unfinished,
        };
        let taken = copy.take(&source, &durable).and_then(|taken| {
            fs::rename(&unfinished, target).map_err(io_error(target))?;
            directory::sync(&parent).map_err(io_error(&parent))?;
            Ok(taken)
        });
        if taken.is_err() {
            // What remains says by its name what it is.
            let _ = fs::remove_dir_all(&unfinished);
        }
        taken
    }
}

struct Copy<'a> {
    store: &'a Path,
    target: &'a Path,
}

impl Copy<'_> {
    fn take(&self, source: &Connection, durable: &Heads) -> Result<Backup, BackupError> {
        let path = self.target.join("journal.db");
        let copied = copy_database(source, &path).map_err(OpenError::sqlite(&path))?;
        let heads = verify(&copied, durable, &path)?;
        // Takes away what SQLite keeps beside an open file.
        copied
            .close()
            .map_err(|(_, error)| OpenError::sqlite(&path)(error))?;
        let journal_bytes = synced(&path).map_err(io_error(&path))?;
        let (blobs, blob_bytes) = self.copy_blobs()?;
        heads::write(self.target, &heads).map_err(io_error(self.target))?;
        directory::sync(self.target).map_err(io_error(self.target))?;
        let positions = heads
            .iter()
            .map(|head| head.map_or(Position(0), |head| head.position));
        Ok(Backup {
            heads: positions.collect(),
            blobs,
            bytes: journal_bytes + blob_bytes,
        })
    }

    fn copy_blobs(&self) -> Result<(u64, u64), BackupError> {
        let (mut count, mut bytes) = (0, 0);
        let mut folders = vec![PathBuf::from(blobs::FOLDER)];
        while let Some(folder) = folders.pop() {
            let (from, to) = (self.store.join(&folder), self.target.join(&folder));
            fs::create_dir(&to).map_err(io_error(&to))?;
            for entry in fs::read_dir(&from).map_err(io_error(&from))? {
                let entry = entry.map_err(io_error(&from))?;
                let name = folder.join(entry.file_name());
                if entry.file_name() == blobs::UNFINISHED {
                    continue;
                }
                if entry.path().is_dir() {
                    folders.push(name);
                    continue;
                }
                let to = self.target.join(&name);
                let copied = fs::copy(entry.path(), &to).and_then(|_| synced(&to));
                bytes += copied.map_err(io_error(&to))?;
                count += 1;
            }
            directory::sync(&to).map_err(io_error(&to))?;
        }
        Ok((count, bytes))
    }
}

/// A file with all pages as they are now.
pub(crate) fn copy_database(source: &Connection, path: &Path) -> rusqlite::Result<Connection> {
    let mut target = Connection::open(path)?;
    copy_pages(source, &mut target)?;
    Ok(target)
}

/// Makes the target what the source is now, or leaves it as it is: one read transaction here and one write transaction
/// there. A writer's commits go on meanwhile, into the WAL; so do the target's readers, on what was there before.
pub(crate) fn copy_pages(source: &Connection, target: &mut Connection) -> rusqlite::Result<()> {
    let outcome = backup::Backup::new(source, target)?.step(-1)?;
    match outcome {
        StepResult::Done => Ok(()),
        // Somebody else holds one of the files, as a tool that repairs it does.
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        )),
    }
}

/// Every record continues its chain, and the durable heads are among them.
fn verify(copied: &Connection, durable: &Heads, path: &Path) -> Result<Heads, BackupError> {
    let found = check(copied, durable).map_err(OpenError::sqlite(path))?;
    if let Some(damage) = (found.iter()).find_map(|partition| partition.damage.as_ref()) {
        return Err(BackupError::Damaged(damage.failure.to_string()));
    }
    (0..)
        .map(PartitionId)
        .zip(&found)
        .map(|(partition, _)| verify_partition(copied, partition))
        .collect()
}

fn verify_partition(
    connection: &Connection,
    partition: PartitionId,
) -> Result<Option<Head>, BackupError> {
    let mut chain = Chain::start(partition);
    let mut last = Position(0);
    follow(connection, &mut chain, &mut last).map_err(|detail| {
        BackupError::Damaged(format!(
            "journal.db is damaged: partition {partition}, after record {last}: {detail}"
        ))
    })?;
    Ok((last > Position(0)).then_some(Head {
        position: last,
        record: chain.hash,
    }))
}

/// Moves on to the last record of the chain's partition, or to the last one that is sound.
fn follow(connection: &Connection, chain: &mut Chain, last: &mut Position) -> Result<(), Source> {
    let partition = chain.partition;
    let query = format!("SELECT position, record FROM records_{partition} ORDER BY position");
    let mut statement = connection.prepare(&query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let position = sql::position(row, 0)?;
        if position != last.next() {
            return Err(format!("the next one there is {position}").into());
        }
        chain.follow(row.get_ref(1)?.as_blob()?)?;
        *last = position;
    }
    Ok(())
}

/// Makes a copied file durable; answers its size.
fn synced(path: &Path) -> io::Result<u64> {
    let file = fs::File::open(path)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |reason| BackupError::Io { path, reason }
}
