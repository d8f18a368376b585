//! Why a store was not opened: each prints as one line that says what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A store that was not opened, and was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the store {} is in use by another process: stop that one, or choose another directory",
        directory.display()
    )]
    Locked {
        /// The store.
        directory: PathBuf,
    },
    /// A later release wrote it.
    #[error(
        "{} has format {found}, this release knows up to {known}: use the release that wrote it, or a newer one",
        file.display()
    )]
    NewerFormat {
        /// The file that says so.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest one that this release reads.
        known: u32,
    },
    /// It was created with another number of partitions, which is fixed for its life.
    #[error(
        "the store {} has {stored} partitions, not {asked}: ask for {stored}, or copy it offline to a store of {asked}",
        directory.display()
    )]
    PartitionsDiffer {
        /// The store.
        directory: PathBuf,
        /// How many it has.
        stored: u16,
        /// How many were asked for.
        asked: u16,
    },
    /// It is damaged, or not a store.
    #[error("{} is damaged or not an EventFlow store: {detail}; restore it from a backup", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The operating system refused something.
    #[error("cannot open {}: {reason}", path.display())]
    Io {
        /// What was to be opened, read or written.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, reason }
    }

    pub(crate) fn corrupt(file: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt {
            file: file.to_owned(),
            detail: detail.into(),
        }
    }

    /// What SQLite said when it was to open a file: damaged, or an operating system's refusal.
    pub(crate) fn sqlite(file: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{
            CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure,
        };
        let file = file.to_owned();
        move |error| match error.sqlite_error_code() {
            Some(CannotOpen | DiskFull | PermissionDenied | ReadOnly | SystemIoFailure) => {
                Self::Io {
                    path: file,
                    reason: io::Error::other(error),
                }
            }
            _ => Self::Corrupt {
                file,
                detail: error.to_string(),
            },
        }
    }
}
