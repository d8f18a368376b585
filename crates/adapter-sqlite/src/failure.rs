//! What a failed SQLite call means to the caller: worth another try, or the end of the store.

use std::sync::Arc;

use eventflow_ports::Source;
use rusqlite::ErrorCode;

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
        let code = error
            .sqlite_error()
            .map(|error| format!(" (SQLite {})", error.extended_code))
            .unwrap_or_default();
        Self {
            message: format!("{doing}: {error}{code}").into(),
            severity: severity(error),
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

fn severity(error: &rusqlite::Error) -> Severity {
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
}
