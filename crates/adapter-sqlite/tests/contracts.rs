//! The contract suites of the ports, on real files.

mod support;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use eventflow_adapter_sqlite::{OpenError, RECORD_BYTES_MAX, SqliteStore};
use eventflow_contracts::{
    blob_store::BlobStoreFixture, blob_store_contract, definition_store::DefinitionStoreFixture,
    definition_store_contract, journal::JournalFixture, journal_contract,
    key_store::KeyStoreFixture, key_store_contract, view::ViewFixture, view_contract,
};
use eventflow_domain::{Digest, Tenant};
use eventflow_ports::{BlobStore, DefinitionStore, Journal, KeyStore, View};
use tempfile::TempDir;

journal_contract!(journal, || async { PortFixture::of(SqliteStore::journal) });
definition_store_contract!(definitions, || async {
    PortFixture::of(SqliteStore::definitions)
});
key_store_contract!(keys, || async { PortFixture::of(SqliteStore::keys) });
view_contract!(view, || async { PortFixture::of(SqliteStore::view) });
blob_store_contract!(blobs, || async { PortFixture::of(SqliteStore::blobs) });

/// What the suites need.
const PARTITIONS: u16 = 2;
/// How long the store of a dropped port takes at most to be closed on another thread.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// A store on disk and one of its ports. The store is open once at a time, by its lock: while a port is in use, a new
/// instance is that one; afterwards it is read from the files.
struct PortFixture<P: ?Sized> {
    directory: TempDir,
    port: fn(&SqliteStore) -> Arc<P>,
    last: Mutex<Option<Weak<P>>>,
}

impl<P: ?Sized> PortFixture<P> {
    fn of(port: fn(&SqliteStore) -> Arc<P>) -> Self {
        Self {
            directory: support::directory(),
            port,
            last: Mutex::new(None),
        }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn instance(&self) -> Arc<P> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(in_use) = last.as_ref().and_then(Weak::upgrade) {
            return in_use;
        }
        let deadline = Instant::now() + CLOSED_WITHIN;
        let store = loop {
            match SqliteStore::open(self.store(), PARTITIONS) {
                Err(OpenError::Locked { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => break opened.expect("opened"),
            }
        };
        let port = (self.port)(&store);
        *last = Some(Arc::downgrade(&port));
        port
    }
}

#[async_trait]
impl JournalFixture for PortFixture<dyn Journal> {
    async fn open(&self) -> Arc<dyn Journal> {
        self.instance()
    }
    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }
}

#[async_trait]
impl DefinitionStoreFixture for PortFixture<dyn DefinitionStore> {
    async fn open(&self) -> Arc<dyn DefinitionStore> {
        self.instance()
    }
}

#[async_trait]
impl KeyStoreFixture for PortFixture<dyn KeyStore> {
    async fn open(&self) -> Arc<dyn KeyStore> {
        self.instance()
    }
}

#[async_trait]
impl ViewFixture for PortFixture<dyn View> {
    async fn open(&self) -> Arc<dyn View> {
        self.instance()
    }
}

#[async_trait]
impl BlobStoreFixture for PortFixture<dyn BlobStore> {
    async fn open(&self) -> Arc<dyn BlobStore> {
        self.instance()
    }

    async fn damage(&self, tenant: &Tenant, digest: &Digest) {
        let name = digest.to_string();
        let path = self
            .store()
            .join("blobs")
            .join(tenant.as_str())
            .join(&name[..2])
            .join(&name);
        let mut bytes = fs::read(&path).expect("a blob that was put");
        bytes[0] ^= 1;
        fs::write(&path, bytes).expect("damaged");
    }
}
