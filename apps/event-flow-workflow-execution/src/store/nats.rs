//! A store on NATS `JetStream`: everything is there but the views, which each node has for itself and can lose.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use eventflow_adapter_nats::{
    ConnectOptions, Findings, NatsBlobs, NatsConfig, NatsDefinitions, NatsInbound, NatsJournal,
    NatsKeys, NatsLeadership, NatsPeers, NatsPublisher, NatsTaskQueue, NatsViewCopies,
};
use eventflow_adapter_sqlite::SqliteView;
use eventflow_adapter_system::{SystemClock, UuidIds};
use eventflow_domain::NodeName;
use eventflow_engine::{Backend, Cluster};
use eventflow_ports::HttpClient;
use tokio::sync::watch;

use super::Opened;
use crate::config::Config;

/// Where views lie, a folder for each node that runs here.
const VIEWS: &str = ".eventflow/views";

/// What else of the service speaks NATS.
pub(crate) struct Nats {
    /// What comes in.
    pub(crate) inbound: NatsInbound,
    /// What the server is like.
    pub(crate) findings: Findings,
}

/// Connects, and creates or verifies everything that is needed there.
pub(crate) async fn open(
    config: &Config,
    servers: &[String],
    node: &NodeName,
    http: Arc<dyn HttpClient>,
) -> anyhow::Result<Opened> {
    let client = eventflow_adapter_nats::connect(&ConnectOptions {
        name: node.to_string(),
        urls: servers.to_vec(),
        creds: config.nats_creds.clone(),
        context: config.nats_context.clone(),
        ..ConnectOptions::default()
    })
    .await?;
    let nats = NatsConfig {
        prefix: config.nats_prefix.clone(),
        partitions: config.partitions(),
        replicas: config.nats_replicas,
        node: Some(node.clone()),
        ..NatsConfig::default()
    };
    let journal = NatsJournal::open(&client, nats.clone()).await?;
    let definitions = NatsDefinitions::open(&client, &nats).await?;
    let blobs = NatsBlobs::open(&client, &nats).await?;
    let keys = NatsKeys::open(&client, &nats).await?;
    let queue = NatsTaskQueue::open(&client, &nats).await?;
    let publisher = NatsPublisher::open(&client, &nats).await?;
    let leadership = NatsLeadership::open(&client, &nats).await?;
    let peers = NatsPeers::new(&client, &nats);
    let copies = NatsViewCopies::open(&client, &nats).await?;
    let (partitions, folder) = (config.partitions(), views(node)?);
    let view = tokio::task::spawn_blocking(move || SqliteView::open(folder, partitions)).await;
    let view = view.context("opening the views panicked")??;
    let backend = Backend {
        name: "nats",
        journal: Arc::new(journal),
        view: Arc::new(view),
        queue: Arc::new(queue),
        definitions: Arc::new(definitions),
        blobs: Arc::new(blobs),
        keys: Arc::new(keys),
        http,
        publisher: Some(Arc::new(publisher)),
        clock: Arc::new(SystemClock),
        ids: Arc::new(UuidIds),
        cluster: Some(Cluster {
            leadership: Arc::new(leadership),
            peers: Arc::new(peers),
            view_copies: Some(Arc::new(copies)),
        }),
    };
    Ok(Opened {
        backend,
        // What fails there is said by its answers.
        failures: watch::channel(BTreeMap::new()).1,
        nats: Some(Nats {
            inbound: NatsInbound::open(&client, &nats).await?,
            findings: Findings::look(&client, &nats, None).await?,
        }),
    })
}

/// A new folder for this node's views. Those of nodes that are gone are removed: what they hold is in the journal.
fn views(node: &NodeName) -> anyhow::Result<PathBuf> {
    let all = Path::new(VIEWS);
    fs::create_dir_all(all)
        .and_then(|()| remove_left(all))
        .with_context(|| format!("the folder {} for views cannot be used", all.display()))?;
    Ok(all.join(node.as_str()))
}

fn remove_left(all: &Path) -> io::Result<()> {
    for left in fs::read_dir(all)? {
        let left = left?.path();
        // Whoever uses one holds its lock. One without a lock is just being made, by somebody else.
        let Ok(lock) = File::open(left.join("lock")) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            fs::remove_dir_all(&left)?;
        }
    }
    Ok(())
}
