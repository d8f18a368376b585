//! Whether a view's file can be gone on with after its process has ended.
//!
//! A view is never synced while it is open, which saves two thirds of its writes. After a kill the operating system
//! still has all of them; after a power loss nobody knows which pages reached the disk, and SQLite cannot tell. So a
//! small file beside the view, `view-<p>.db-boot`, names the boot of the machine in which the view was opened, durably
//! and before the first write; closing the view syncs it and says so there. Of another boot, or without that file, a
//! view is not trusted.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::directory;

/// What the file says of a view that was closed and synced.
const CLOSED: &str = "closed";

/// The file beside a view.
#[derive(Debug)]
pub(crate) struct Trust {
    path: PathBuf,
    /// `None` where the operating system does not tell; then every checkpoint of the view is synced.
    boot: Option<String>,
}

impl Trust {
    pub(crate) fn beside(view: &Path) -> Self {
        let mut path = view.as_os_str().to_owned();
        path.push("-boot");
        // Linux: random for each boot.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        Self {
            path: path.into(),
            boot: boot.map(|id| id.trim().to_owned()),
        }
    }

    /// SQLite's `synchronous` for the view.
    pub(super) fn synchronous(&self) -> &'static str {
        match self.boot {
            Some(_) => "OFF",
            None => "NORMAL",
        }
    }

    /// Whether everything that was written to the view is there.
    pub(crate) fn is_given(&self) -> bool {
        match (fs::read_to_string(&self.path), &self.boot) {
            (Ok(said), Some(boot)) => said == CLOSED || said == *boot,
            (Ok(_), None) => true,
            (Err(_), _) => false,
        }
    }

    /// From here on the view is written without being synced.
    pub(super) fn begin(&self) -> io::Result<()> {
        self.say(self.boot.as_deref().unwrap_or_default())
    }

    /// The view has been synced, and is written no more.
    pub(super) fn close(&self) -> io::Result<()> {
        self.say(CLOSED)
    }

    /// The view is damaged.
    pub(super) fn withdraw(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn say(&self, text: &str) -> io::Result<()> {
        directory::replace(&self.path, text.as_bytes())
    }
}
