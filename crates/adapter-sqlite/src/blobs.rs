//! The `BlobStore` port: one file per blob, `blobs/<tenant>/<first two digits>/<digest>`.
//!
//! A blob is written under another name, synced, renamed and made durable in its directory: under its own name it is
//! whole or not there.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{Digest, Tenant};
use eventflow_ports::{BlobError, BlobStore};
use tokio::sync::Semaphore;

use crate::{
    directory::{self, Directory},
    failure::{Failure, Severity},
    health::Health,
};

/// Blobs that are written or read at a time: each is up to 64 MiB of memory, and more would not make the disk faster.
const AT_A_TIME_MAX: usize = 8;
/// Where blobs are written before they get their name; no tenant can be called that.
pub(crate) const UNFINISHED: &str = ".unfinished";
/// Below the store's directory.
pub(crate) const FOLDER: &str = "blobs";

/// Makes the names of unfinished files differ, also from those of a store that was closed over a write.
static UNFINISHED_COUNT: AtomicU64 = AtomicU64::new(0);

/// Blobs as files below a store's directory.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    files: Files,
    at_a_time: Arc<Semaphore>,
    health: Health,
    /// Not held by a write whose caller is gone: such a write must not hold up the next opening of the store.
    _directory: Arc<Directory>,
}

/// Where the blobs lie.
#[derive(Debug, Clone)]
struct Files {
    blobs: Arc<Path>,
}

impl FileBlobs {
    /// Creates the folder, and removes what a crash left unfinished. Only under the store's lock.
    pub(crate) fn prepare(directory: &Path) -> io::Result<()> {
        let unfinished = directory.join(FOLDER).join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        directory::create_durably(&unfinished)
    }

    pub(crate) fn of(directory: Arc<Directory>, health: Health) -> Self {
        Self {
            files: Files {
                blobs: directory.path().join(FOLDER).into(),
            },
            at_a_time: Arc::new(Semaphore::new(AT_A_TIME_MAX)),
            health,
            _directory: directory,
        }
    }

    /// Runs `work` where it may block, not too many at a time.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<R, BlobError> + Send + 'static,
    ) -> Result<R, BlobError> {
        let place = Arc::clone(&self.at_a_time)
            .acquire_owned()
            .await
            .map_err(|error| BlobError::Unavailable(error.into()))?;
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&files)
        })
        .await
        .map_err(|error| BlobError::Unavailable(error.into()))?
    }
}

#[async_trait]
impl BlobStore for FileBlobs {
    async fn put(&self, tenant: &Tenant, digest: &Digest, bytes: Bytes) -> Result<(), BlobError> {
        let (tenant, digest) = (tenant.clone(), *digest);
        let health = self.health.clone();
        self.blocking(move |files| {
            if Digest::of(&bytes) != digest {
                return Err(BlobError::Corrupt { digest });
            }
            let path = files.path(&tenant, &digest);
            files.write(&path, &bytes).map_err(|error| {
                health.note(&format!("writing {}", path.display()), &error);
                unavailable(&path)(error)
            })
        })
        .await
    }

    async fn get(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<Bytes>, BlobError> {
        let (tenant, digest) = (tenant.clone(), *digest);
        self.blocking(move |files| {
            let path = files.path(&tenant, &digest);
            match fs::read(&path) {
                Ok(bytes) if Digest::of(&bytes) == digest => Ok(Some(bytes.into())),
                Ok(_) => Err(BlobError::Corrupt { digest }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => {
                    let failure = Failure::io(&format!("reading {}", path.display()), &error);
                    if failure.severity() == Severity::Passing {
                        return Err(unavailable(&path)(error));
                    }
                    tracing::error!(%failure, "a blob cannot be read");
                    Err(BlobError::Corrupt { digest })
                }
            }
        })
        .await
    }
}

/// Where a blob lies below the folder of all.
pub(crate) fn path(blobs: &Path, tenant: &Tenant, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    blobs.join(tenant.as_str()).join(&name[..2]).join(name)
}

impl Files {
    fn path(&self, tenant: &Tenant, digest: &Digest) -> PathBuf {
        path(&self.blobs, tenant, digest)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // Read, not only looked for: what is damaged is written anew.
        if fs::read(path).is_ok_and(|stored| stored == bytes) {
            // An earlier writer may have been killed between its rename and this.
            return directory::sync(folder);
        }
        directory::create_durably(folder)?;
        let number = UNFINISHED_COUNT.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.blobs.join(UNFINISHED).join(number.to_string());
        let written = File::create(&unfinished)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            // Also removed when the store is opened next.
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        directory::sync(folder)
    }
}

fn unavailable(path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |error| {
        let message = format!("{}: {error}", path.display());
        BlobError::Unavailable(io::Error::new(error.kind(), message).into())
    }
}
