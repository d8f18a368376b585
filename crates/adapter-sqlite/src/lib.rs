//! The embedded store: a directory of SQLite files and blobs (DESIGN section 7).
//!
//! ```text
//! lock                 held exclusively for as long as the store is open
//! journal.db (+ -wal)  records of all partitions, definitions, keys; one writer thread, fsynced before it answers
//! journal.heads        the last durable record of each partition, said a second time each second
//! view-<p>.db          the view of partition p; disposable, rebuilt from the journal
//! blobs/<tenant>/<aa>/<digest>
//! quarantine/          records that an operator has set aside
//! ```
//!
//! [`SqliteStore::open`] gives one handle that hands out the ports:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("store");
//! use eventflow_adapter_sqlite::SqliteStore;
//!
//! let store = SqliteStore::open(&path, 1)?;
//! let journal = store.journal();
//! let view = store.view();
//! # Ok(())
//! # }
//! ```
//!
//! **No port method blocks the caller's thread**: every SQLite connection belongs to a thread of its own and is reached
//! through a bounded queue. **Nothing is acknowledged before its fsync**, except in the view, which follows the journal
//! and can be lost.
//!
//! Opening and dropping a store do block (files, a last checkpoint): do both outside of a busy runtime thread.

mod backup;
mod blobs;
mod definitions;
mod directory;
mod failure;
mod heads;
mod health;
mod journal;
mod keys;
mod open_error;
mod quarantine;
mod reading;
mod sql;
mod store;
mod view;
mod worker;
mod writer;

pub use backup::{Backup, BackupError};
pub use blobs::FileBlobs;
pub use definitions::SqliteDefinitions;
pub use journal::SqliteJournal;
pub use keys::SqliteKeys;
pub use open_error::OpenError;
pub use quarantine::{QuarantineError, Quarantined};
pub use reading::{StoreFiles, StoreReader, StoredRow, ViewReader, ViewState};
pub use store::{Options, SqliteStore};
pub use view::SqliteView;

/// The largest record that is taken, bytes. A writer's batch is held far below it; this keeps one append from holding
/// the commit of all partitions for longer than some 20 ms.
pub const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;
