//! The open store: what is shared by its ports, and the order in which it is opened.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{BlobStore, DefinitionStore, Journal, KeyStore, View};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    FileBlobs, OpenError, SqliteDefinitions, SqliteJournal, SqliteKeys, SqliteView,
    directory::Directory,
    heads::{self, Damage, Found, Keeper},
    health::Health,
    journal::JournalFile,
    worker::Worker,
    writer::Writer,
};

/// Each partition has a table, a file and a thread.
const PARTITIONS_MAX: u16 = 256;

/// How a store is laid out. Start from [`Options::new`]; what it says was measured (`examples/append_bench.rs`).
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many partitions, 1 to 256; fixed when the store is created.
    pub partitions: u16,
    /// SQLite's page size in `journal.db`, bytes, a power of two from 512 to 65,536; fixed when the store is created.
    ///
    /// A commit writes whole pages, twice. With 1 KiB a record of 200 B to 8 KiB puts a third less on the device than
    /// with 4 KiB, at the same latency; one of 64 KiB takes a quarter longer.
    pub page_bytes: u32,
    /// How much of the journal's WAL is written before the first commit, bytes; commits then overwrite it.
    ///
    /// A sync of overwritten blocks takes half the time of one that adds blocks.
    pub wal_bytes: u64,
    /// A checkpoint begins when the WAL has grown to this, bytes: half of `wal_bytes`, so that commits find room while
    /// it runs.
    pub checkpoint_at_bytes: u64,
}

impl Options {
    /// What a store has that nobody tunes.
    pub const fn new(partitions: u16) -> Self {
        Self {
            partitions,
            page_bytes: 1024,
            wal_bytes: 16 * 1024 * 1024,
            checkpoint_at_bytes: 8 * 1024 * 1024,
        }
    }
}

/// An open store; cheap to clone. It is closed, and its lock released, when the last clone and the last port are dropped.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    view: SqliteView,
    blobs: FileBlobs,
}

/// What the ports of a store share. Dropped in this order: readers, writer, the keeper of what it has written, lock.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) reader: Worker<Connection>,
    pub(crate) writer: Writer,
    _keeper: Keeper,
    health: Health,
    /// One per partition, as it was found when the store was opened.
    damage: Vec<Option<Damage>>,
    _directory: Arc<Directory>,
}

impl Shared {
    /// What the partition's log should hold and does not.
    pub(crate) fn damage(&self, partition: PartitionId) -> Option<&Damage> {
        self.damage.get(usize::from(partition.0))?.as_ref()
    }
}

impl SqliteStore {
    /// Opens the store in `directory`, or creates it there. Blocks.
    pub fn open(directory: impl AsRef<Path>, partitions: u16) -> Result<Self, OpenError> {
        Self::open_with(directory, &Options::new(partitions))
    }

    /// The same with a layout of one's own.
    pub fn open_with(directory: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        let path = directory.as_ref();
        if !(1..=PARTITIONS_MAX).contains(&options.partitions) {
            let asked = options.partitions;
            let message = format!("a store has 1 to {PARTITIONS_MAX} partitions, not {asked}");
            let source = io::Error::new(io::ErrorKind::InvalidInput, message);
            return Err(OpenError::io(path)(source));
        }
        let directory = Arc::new(Directory::open(path)?);
        let durable = heads::read(path, options.partitions)?;
        let (file, found) = JournalFile::open(path, options, &durable)?;
        let damaged = |(partition, found): (u16, &Found)| {
            let damage = found.damage.as_ref()?;
            Some((PartitionId(partition), damage.failure.to_string()))
        };
        let failures = (0..).zip(&found).filter_map(damaged).collect();
        let health = Health::new(options.partitions, failures);
        let last = found.iter().map(|partition| partition.head.0).collect();
        let writer = Writer::start(&file, last, options.checkpoint_at_bytes, health.clone())?;
        let reader =
            Worker::spawn("journal-reader".into(), file.connect()?).map_err(OpenError::io(path))?;
        let keeper = Keeper::start(
            path.to_owned(),
            file.connect()?,
            writer.heads(),
            durable,
            health.clone(),
        )?;
        let ends = found.iter().map(view_end).collect::<Vec<_>>();
        let view = SqliteView::behind(&directory, &ends, &health)?;
        FileBlobs::prepare(path).map_err(OpenError::io(path))?;
        Ok(Self {
            blobs: FileBlobs::of(Arc::clone(&directory), health.clone()),
            shared: Arc::new(Shared {
                reader,
                writer,
                _keeper: keeper,
                health,
                damage: found
                    .into_iter()
                    .map(|partition| partition.damage)
                    .collect(),
                _directory: directory,
            }),
            view,
        })
    }

    /// Why partitions have failed and must not be written any more, by partition, as it happens.
    pub fn failures(&self) -> watch::Receiver<BTreeMap<PartitionId, String>> {
        self.shared.health.watch()
    }

    /// The journal.
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(SqliteJournal::new(Arc::clone(&self.shared)))
    }

    /// The registered definitions.
    pub fn definitions(&self) -> Arc<dyn DefinitionStore> {
        Arc::new(SqliteDefinitions::new(Arc::clone(&self.shared)))
    }

    /// The store's keys.
    pub fn keys(&self) -> Arc<dyn KeyStore> {
        Arc::new(SqliteKeys::new(Arc::clone(&self.shared)))
    }

    /// The view of all partitions.
    pub fn view(&self) -> Arc<dyn View> {
        Arc::new(self.view.clone())
    }

    /// The blobs.
    pub fn blobs(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.blobs.clone())
    }
}

/// How far a view may reach: to the end of its journal. One of a damaged journal is left as it is.
fn view_end(found: &Found) -> Position {
    match found.damage {
        None => found.head,
        Some(_) => Position(u64::MAX),
    }
}
