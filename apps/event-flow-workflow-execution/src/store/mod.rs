//! A backend is one function that fills the struct of ports.

mod nats;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::Context;
use eventflow_adapter_http_client::{AllowedTargets, ReqwestHttpClient};
use eventflow_adapter_memory::{
    MemoryBlobStore, MemoryDefinitionStore, MemoryJournal, MemoryKeyStore, MemoryTaskQueue,
    MemoryView,
};
use eventflow_adapter_sqlite::SqliteStore;
use eventflow_adapter_system::{SystemClock, UuidIds};
use eventflow_domain::{NodeName, PartitionId};
use eventflow_engine::Backend;
use eventflow_ports::HttpClient;
use tokio::sync::watch;

pub(crate) use nats::Nats;

use crate::config::{Config, Store};

/// An open store.
pub(crate) struct Opened {
    pub(crate) backend: Backend,
    /// Why partitions have failed below it, by partition, as it happens.
    pub(crate) failures: watch::Receiver<BTreeMap<PartitionId, String>>,
    /// What speaks NATS, where that is the store.
    pub(crate) nats: Option<Nats>,
}

/// Opens what the configuration names.
pub(crate) async fn open(
    config: &Config,
    node: &NodeName,
    listens_on_loopback: bool,
) -> anyhow::Result<Opened> {
    let http = http_client(config, listens_on_loopback)?;
    match &config.store {
        Store::Memory => Ok(memory(http)),
        Store::Sqlite(directory) => sqlite(directory.clone(), config.partitions(), http).await,
        Store::Nats(servers) => Box::pin(nats::open(config, servers, node, http)).await,
    }
}

fn http_client(config: &Config, listens_on_loopback: bool) -> anyhow::Result<Arc<dyn HttpClient>> {
    let mut allowed = if listens_on_loopback {
        AllowedTargets::with_loopback()
    } else {
        AllowedTargets::default()
    };
    allowed.private_ranges.extend(&config.http_allow);
    Ok(Arc::new(
        ReqwestHttpClient::new(allowed).context("the HTTP client cannot be made")?,
    ))
}

async fn sqlite(
    directory: PathBuf,
    partitions: u16,
    http: Arc<dyn HttpClient>,
) -> anyhow::Result<Opened> {
    let opened =
        tokio::task::spawn_blocking(move || SqliteStore::open(directory, partitions)).await;
    let store = opened.context("opening the store panicked")??;
    let failures = store.failures();
    let backend = Backend {
        name: "sqlite",
        journal: store.journal(),
        view: store.view(),
        queue: Arc::new(MemoryTaskQueue::default()),
        definitions: store.definitions(),
        blobs: store.blobs(),
        keys: store.keys(),
        http,
        publisher: None,
        clock: Arc::new(SystemClock),
        ids: Arc::new(UuidIds),
        cluster: None,
    };
    Ok(Opened {
        backend,
        failures,
        nats: None,
    })
}

fn memory(http: Arc<dyn HttpClient>) -> Opened {
    let backend = Backend {
        name: "memory",
        journal: Arc::new(MemoryJournal::default()),
        view: Arc::new(MemoryView::default()),
        queue: Arc::new(MemoryTaskQueue::default()),
        definitions: Arc::new(MemoryDefinitionStore::default()),
        blobs: Arc::new(MemoryBlobStore::default()),
        keys: Arc::new(MemoryKeyStore::default()),
        http,
        publisher: None,
        clock: Arc::new(SystemClock),
        ids: Arc::new(UuidIds),
        cluster: None,
    };
    // Memory does not fail.
    let failures = watch::channel(BTreeMap::new()).1;
    Opened {
        backend,
        failures,
        nats: None,
    }
}
