//! Stores that outlive an engine, and engines on them that can be made to crash.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod held;
pub(crate) mod life;
pub(crate) mod lives;
pub(crate) mod log;
pub(crate) mod nats;
pub(crate) mod nodes;
pub(crate) mod requests;
pub(crate) mod scene;

use std::{sync::Arc, time::Duration};

use eventflow_adapter_memory::{
    Faults, ManualClock, MemoryBlobStore, MemoryDefinitionStore, MemoryEventPublisher,
    MemoryJournal, MemoryKeyStore, MemoryTaskQueue, MemoryView, ScriptedHttpClient, SequentialIds,
};
use eventflow_adapter_sqlite::SqliteStore;
use eventflow_engine::{Backend, Config, Engine, StartError};
use eventflow_ports::{
    BlobStore, Clock, DefinitionStore, EventPublisher, HttpClient, Ids, Journal, KeyStore,
    TaskQueue, View,
};
use nats::NatsStores;

/// What survives a crash of the engine.
#[derive(Clone)]
pub(crate) enum Stores {
    /// Everything in this process' memory, beside the engine.
    Memory(Arc<MemoryStores>),
    /// A directory of SQLite files, closed and opened again with each engine.
    Sqlite(Arc<tempfile::TempDir>),
    /// A NATS server; each engine is another node, with a connection and views of its own.
    Nats(Arc<NatsStores>),
}

/// The memory adapters.
#[derive(Default)]
pub(crate) struct MemoryStores {
    pub(crate) journal: MemoryJournal,
    pub(crate) view: MemoryView,
    pub(crate) definitions: MemoryDefinitionStore,
    pub(crate) blobs: MemoryBlobStore,
    pub(crate) keys: MemoryKeyStore,
}

/// The rest of an engine's world, the same for all of its lives.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) stores: Stores,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) http: ScriptedHttpClient,
    pub(crate) publisher: MemoryEventPublisher,
    pub(crate) ids: Arc<SequentialIds>,
    pub(crate) partitions: u16,
}

impl World {
    pub(crate) fn new(stores: Stores, clock: Arc<dyn Clock>) -> Self {
        Self {
            stores,
            clock,
            http: ScriptedHttpClient::default(),
            publisher: MemoryEventPublisher::default(),
            ids: Arc::default(),
            partitions: 1,
        }
    }

    pub(crate) fn memory(clock: Arc<dyn Clock>) -> Self {
        Self::new(Stores::Memory(Arc::default()), clock)
    }

    pub(crate) fn sqlite(clock: Arc<dyn Clock>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::new(Stores::Sqlite(Arc::new(directory)), clock)
    }

    /// On a server of its own that syncs everything.
    pub(crate) fn nats(clock: Arc<dyn Clock>) -> Self {
        Self::new(Stores::Nats(Arc::new(NatsStores::start())), clock)
    }

    /// A life of the engine, whose port calls go through `faults`.
    pub(crate) async fn live(&self, faults: &Faults) -> Result<Engine, StartError> {
        let mut config = Config {
            partitions: self.partitions,
            ..Config::default()
        };
        if let Stores::Nats(stores) = &self.stores {
            config.node = stores.another_node();
        }
        Engine::start(self.backend(faults).await, config).await
    }

    /// The ports of a life, for a test that puts its own in place of some.
    pub(crate) async fn backend(&self, faults: &Faults) -> Backend {
        if let Stores::Nats(stores) = &self.stores {
            return stores.backend(self, faults).await;
        }
        let (journal, view, definitions, blobs, keys): Parts = match &self.stores {
            Stores::Memory(stores) => (
                Arc::new(stores.journal.clone()),
                Arc::new(stores.view.clone()),
                Arc::new(stores.definitions.clone()),
                Arc::new(stores.blobs.clone()),
                Arc::new(stores.keys.clone()),
            ),
            Stores::Sqlite(directory) => {
                let store = open(directory.path(), self.partitions).await;
                (
                    store.journal(),
                    store.view(),
                    store.definitions(),
                    store.blobs(),
                    store.keys(),
                )
            }
            Stores::Nats(_) => unreachable!("has a backend of its own"),
        };
        let queue: Arc<dyn TaskQueue> = Arc::new(MemoryTaskQueue::default());
        let http: Arc<dyn HttpClient> = Arc::new(self.http.clone());
        let publisher: Arc<dyn EventPublisher> = Arc::new(self.publisher.clone());
        let ids: Arc<dyn Ids> = self.ids.clone();
        Backend {
            name: "test",
            journal: faults.wrap(journal),
            view: faults.wrap(view),
            queue: faults.wrap(queue),
            definitions: faults.wrap(definitions),
            blobs: faults.wrap(blobs),
            keys: faults.wrap(keys),
            http: faults.wrap(http),
            publisher: Some(faults.wrap(publisher)),
            clock: faults.wrap(self.clock.clone()),
            ids: faults.wrap(ids),
            cluster: None,
        }
    }
}

type Parts = (
    Arc<dyn Journal>,
    Arc<dyn View>,
    Arc<dyn DefinitionStore>,
    Arc<dyn BlobStore>,
    Arc<dyn KeyStore>,
);

/// Opens a store whose last owner may still be letting go of it.
async fn open(directory: &std::path::Path, partitions: u16) -> SqliteStore {
    for _ in 0..6_000 {
        let path = directory.join("store");
        let opened = tokio::task::spawn_blocking(move || SqliteStore::open(path, partitions)).await;
        match opened.expect("opening does not panic") {
            Ok(store) => return store,
            Err(eventflow_adapter_sqlite::OpenError::Locked { .. }) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("the store cannot be opened: {error}"),
        }
    }
    panic!("the store was not released within thirty seconds")
}

/// A clock that the test moves.
pub(crate) fn manual_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::default())
}

/// Waits until something is so, which it must be within the patience of a test.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < requests::PATIENCE,
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
