//! What a failed call of SQLite or the file system means to the caller: worth another try, or the end of the store.

use std::{io, sync::Arc};

use eventflow_ports::Source;
use rusqlite::{ErrorCode, ffi};

/// A failure that many callers are told about.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: Arc<str>,
    severity: Severity,
}

/// What can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Nothing was written, and it may work later: the disk is full, or somebody else holds the file.
    Passing,
    /// The file cannot be trusted any more: I/O error, failed fsync, damage. Never try that again.
    Broken,
}

impl Failure {
    /// `doing` says what was being done, and to which file.
    pub(crate) fn sqlite(doing: &str, error: &rusqlite::Error) -> Self {
        let message = match error.sqlite_error().map(|error| error.extended_code) {
            // SQLite calls it an I/O error.
            Some(ffi::SQLITE_IOERR_SHMSIZE) => {
                format!("{doing}: there is no room for the index of the WAL, the disk is full")
            }
            Some(code) => format!("{doing}: {error} (SQLite {code})"),
            None => format!("{doing}: {error}"),
        };
        Self {
            message: message.into(),
            severity: severity(error),
        }
    }

    /// The same for a file of ours.
    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        Self {
            message: format!("{doing}: {error}").into(),
            severity: io_severity(error),
        }
    }

    pub(crate) fn broken(message: &str) -> Self {
        Self {
            message: message.into(),
            severity: Severity::Broken,
        }
    }

    pub(crate) fn passing(message: &str) -> Self {
        Self {
            message: message.into(),
            severity: Severity::Passing,
        }
    }

    pub(crate) fn severity(&self) -> Severity {
        self.severity
    }

    pub(crate) fn into_source(self) -> Source {
        Box::new(self)
    }
}

/// Whether a file is to blame, and not the moment.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            // `Unknown` is SQLITE_ERROR: a table is missing.
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
        ),
        // A row that does not hold what its column is for.
        None => true,
    }
}

/// Whether the operating system could not read, write or sync.
pub(crate) fn is_io(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

fn io_severity(error: &io::Error) -> Severity {
    match error.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::Interrupted
        | io::ErrorKind::WouldBlock => Severity::Passing,
        _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => Severity::Passing,
        _ => Severity::Broken,
    }
}

/// Too many open files, of the process and of the machine: the same numbers on every Unix.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

fn severity(error: &rusqlite::Error) -> Severity {
    // The index of the WAL is shared memory in a file, rebuilt at every start; a full disk has no room for it either.
    if error.sqlite_error().map(|error| error.extended_code) == Some(ffi::SQLITE_IOERR_SHMSIZE) {
        return Severity::Passing;
    }
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted,
        ) => Severity::Passing,
        // Also what is not known: to go on after a failed write is the one mistake that loses data.
        Some(_) | None => Severity::Broken,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn of(code: std::ffi::c_int) -> Severity {
        severity(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn a_full_disk_and_a_busy_file_pass() {
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_IOERR_SHMSIZE,
        ] {
            assert_eq!(of(code), Severity::Passing, "SQLite {code}");
        }
    }

    #[test]
    fn io_errors_failed_syncs_and_damage_do_not() {
        for code in [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_INTERNAL,
        ] {
            assert_eq!(of(code), Severity::Broken, "SQLite {code}");
        }
    }

    #[test]
    fn so_it_is_for_files() {
        let of = |number| io_severity(&io::Error::from_raw_os_error(number));
        // ENOSPC, EMFILE, EINTR; then EIO, EROFS, EBADF.
        for number in [28, EMFILE, 4] {
            assert_eq!(of(number), Severity::Passing, "{number}");
        }
        for number in [5, 30, 9] {
            assert_eq!(of(number), Severity::Broken, "{number}");
        }
    }
}
