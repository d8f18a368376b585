//! `view-<p>.db`: its tables, and when it is thrown away.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use eventflow_domain::{PartitionId, Position};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{query, trust::Trust};
use crate::{
    OpenError, directory,
    failure::{Failure, Severity, is_damage},
};

/// `PRAGMA user_version`. A view of another format is rebuilt: raise it with every change of the tables, or of what the
/// rows mean.
pub(super) const FORMAT: u32 = 1;
/// Readers and the writer do not hold each other up; this is for tools that look in from outside.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages that a connection keeps, KiB.
const CACHE_KIB: u32 = 8 * 1024;
/// Pages of 4 KiB in the WAL when a commit copies them back: the seldomer, the more often a page is overwritten before.
const CHECKPOINT_AT_PAGES: u32 = 4096;
/// Statements that stay prepared: four per batch, and a list for each combination of filters.
const STATEMENTS_MAX: usize = 64;

/// The rows lie in the order of their creation, so that what is running lies together, on few pages. The indices hold
/// only columns that seldom change: an update of a running execution touches none. `class` says which of the partial
/// indices holds the row (see `query::class`).
const SCHEMA: &str = "
    CREATE TABLE position (id INTEGER PRIMARY KEY, through INTEGER NOT NULL, replay_after INTEGER NOT NULL);
    INSERT INTO position VALUES (0, 0, 0);
    CREATE TABLE executions (
        row INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL, execution TEXT NOT NULL, workflow TEXT NOT NULL,
        status TEXT NOT NULL, class INTEGER NOT NULL, created_at INTEGER NOT NULL,
        labels TEXT NOT NULL, summary TEXT NOT NULL);
    CREATE TABLE states (row INTEGER PRIMARY KEY, state BLOB NOT NULL);
    CREATE UNIQUE INDEX executions_by_id ON executions (tenant, execution);
    CREATE INDEX executions_by_time ON executions (tenant, created_at, execution);
    CREATE INDEX executions_by_workflow ON executions (tenant, workflow, created_at, execution);
    CREATE INDEX executions_open ON executions (tenant, created_at, execution) WHERE class = 0;
    CREATE INDEX executions_failed ON executions (tenant, created_at, execution) WHERE class = 1;";

/// One partition's file. Dropped after its connections, it is synced and marked as closed.
#[derive(Debug)]
pub(super) struct ViewFile {
    path: PathBuf,
    trust: Trust,
    /// Open, and no damage was met.
    sound: AtomicBool,
}

impl ViewFile {
    /// Opens a view that reaches at most to `head`; anything else is deleted and begun anew.
    pub(super) fn open(
        directory: &Path,
        partition: PartitionId,
        head: Position,
    ) -> Result<Self, OpenError> {
        let path = directory.join(format!("view-{partition}.db"));
        let file = Self {
            trust: Trust::beside(&path),
            path,
            sound: AtomicBool::new(false),
        };
        match file.distrust(head) {
            Ok(None) => {}
            Ok(Some(reason)) => {
                if file.path.exists() {
                    tracing::warn!(view = %file.path.display(), reason, "the view is rebuilt");
                }
                file.create_anew()?;
            }
            Err(error) if is_damage(&error) => {
                tracing::warn!(view = %file.path.display(), %error, "the view is rebuilt");
                file.create_anew()?;
            }
            Err(error) => return Err(OpenError::sqlite(&file.path)(error)),
        }
        file.trust.begin().map_err(OpenError::io(&file.path))?;
        file.sound.store(true, Ordering::Relaxed);
        Ok(file)
    }

    /// A connection for one thread.
    pub(super) fn connect(&self) -> Result<Connection, OpenError> {
        self.connection(OpenFlags::empty())
            .map_err(OpenError::sqlite(&self.path))
    }

    /// What a failed call means; one that does not pass is noted, so that the next opening rebuilds the view.
    pub(super) fn failure(&self, doing: &str, error: &rusqlite::Error) -> Failure {
        let view = self.path.display();
        let failure = Failure::sqlite(&format!("{doing} {view}"), error);
        if failure.severity() == Severity::Passing {
            return failure;
        }
        if self.sound.swap(false, Ordering::Relaxed)
            && let Err(error) = self.trust.withdraw()
        {
            tracing::warn!(%view, %error, "cannot note that the view is damaged");
        }
        Failure::broken(&format!(
            "{failure}; it is rebuilt from the journal at the next start"
        ))
    }

    /// Why the file cannot be gone on with, if so.
    fn distrust(&self, head: Position) -> rusqlite::Result<Option<&'static str>> {
        if !self.trust.is_given() {
            return Ok(Some(
                "it is damaged, or the machine went down while it was open",
            ));
        }
        if !self.path.exists() {
            return Ok(Some("it is gone"));
        }
        let connection = self.connection(OpenFlags::empty())?;
        let format: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if format != FORMAT {
            return Ok(Some("it has another format"));
        }
        if query::position(&connection)?.through > head {
            return Ok(Some("it is ahead of the journal"));
        }
        Ok(None)
    }

    fn create_anew(&self) -> Result<(), OpenError> {
        self.delete().map_err(OpenError::io(&self.path))?;
        let created = self
            .connection(OpenFlags::SQLITE_OPEN_CREATE)
            .and_then(|connection| {
                connection.execute_batch(&format!(
                    "PRAGMA journal_mode = WAL; BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;"
                ))
            });
        created.map_err(OpenError::sqlite(&self.path))
    }

    pub(super) fn connection(&self, more: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // Otherwise every look-up by id is planned again, in case another value made another partial index fit.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.execute_batch(&format!(
            "PRAGMA synchronous = {};
             PRAGMA wal_autocheckpoint = {CHECKPOINT_AT_PAGES};
             PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -{CACHE_KIB};",
            self.trust.synchronous()
        ))?;
        Ok(connection)
    }

    fn delete(&self) -> io::Result<()> {
        // First of all: a crash in between must not leave a trusted half.
        self.trust.withdraw()?;
        for suffix in WITH_WAL {
            match fs::remove_file(self.beside(suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        for suffix in WITH_WAL {
            match File::open(self.beside(suffix)) {
                Ok(file) => file.sync_all()?,
                // The last connection copies the WAL back and removes it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.path.parent().map_or(Ok(()), directory::sync)?;
        self.trust.close()
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }
}

impl Drop for ViewFile {
    fn drop(&mut self) {
        if self.sound.load(Ordering::Relaxed)
            && let Err(error) = self.close()
        {
            let view = self.path.display();
            tracing::warn!(%view, %error, "the view could not be closed: a power loss will rebuild it");
        }
    }
}

/// The suffixes of the files that SQLite keeps for one database.
const WITH_WAL: [&str; 3] = ["-wal", "-shm", ""];
