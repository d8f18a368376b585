//! Everything on a NATS server but the view, as the service has it there.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use eventflow_adapter_memory::Faults;
use eventflow_adapter_nats::{
    ConnectOptions, NatsBlobs, NatsConfig, NatsDefinitions, NatsJournal, NatsKeys, NatsLeadership,
    NatsPeers, NatsPublisher, NatsTaskQueue, NatsViewCopies,
};
use eventflow_adapter_sqlite::SqliteView;
use eventflow_domain::NodeName;
use eventflow_engine::{Backend, Cluster};
use eventflow_nats_server::{NatsServer, Options};
use eventflow_ports::{
    BlobStore, DefinitionStore, EventPublisher, HttpClient, Ids, Journal, KeyStore, Leadership,
    Peers, TaskQueue, View,
};

use super::World;

/// A server, and the folder where nodes have their views.
pub(crate) struct NatsStores {
    server: NatsServer,
    views: tempfile::TempDir,
    nodes: AtomicU32,
    opened: AtomicU32,
}

impl NatsStores {
    pub(crate) fn start() -> Self {
        Self {
            server: NatsServer::start(Options { sync_always: true }),
            views: tempfile::tempdir().expect("a temporary directory"),
            nodes: AtomicU32::new(0),
            opened: AtomicU32::new(0),
        }
    }

    /// A name that no engine before it had.
    pub(crate) fn another_node(&self) -> NodeName {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        NodeName::parse(&format!("node-{number}")).expect("a name")
    }

    /// The ports of a life, on a connection of its own.
    pub(crate) async fn backend(&self, world: &World, faults: &Faults) -> Backend {
        let client = eventflow_adapter_nats::connect(&ConnectOptions {
            urls: vec![self.server.url()],
            ..ConnectOptions::default()
        })
        .await
        .expect("the server takes the connection");
        let config = NatsConfig {
            partitions: world.partitions,
            ..NatsConfig::default()
        };
        let opened = "everything can be opened";
        let journal: Arc<dyn Journal> = Arc::new(
            NatsJournal::open(&client, config.clone())
                .await
                .expect(opened),
        );
        let definitions: Arc<dyn DefinitionStore> =
            Arc::new(NatsDefinitions::open(&client, &config).await.expect(opened));
        let blobs: Arc<dyn BlobStore> =
            Arc::new(NatsBlobs::open(&client, &config).await.expect(opened));
        let keys: Arc<dyn KeyStore> =
            Arc::new(NatsKeys::open(&client, &config).await.expect(opened));
        let queue: Arc<dyn TaskQueue> =
            Arc::new(NatsTaskQueue::open(&client, &config).await.expect(opened));
        let publisher: Arc<dyn EventPublisher> =
            Arc::new(NatsPublisher::open(&client, &config).await.expect(opened));
        let leadership: Arc<dyn Leadership> =
            Arc::new(NatsLeadership::open(&client, &config).await.expect(opened));
        let peers: Arc<dyn Peers> = Arc::new(NatsPeers::new(&client, &config));
        let copies = NatsViewCopies::open(&client, &config).await.expect(opened);
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let folder = self.views.path().join(number.to_string());
        let view: Arc<dyn View> =
            Arc::new(SqliteView::open(folder, world.partitions).expect(opened));
        let http: Arc<dyn HttpClient> = Arc::new(world.http.clone());
        let ids: Arc<dyn Ids> = world.ids.clone();
        Backend {
            name: "nats",
            journal: faults.wrap(journal),
            view: faults.wrap(view),
            queue: faults.wrap(queue),
            definitions: faults.wrap(definitions),
            blobs: faults.wrap(blobs),
            keys: faults.wrap(keys),
            http: faults.wrap(http),
            publisher: Some(faults.wrap(publisher)),
            clock: faults.wrap(world.clock.clone()),
            ids: faults.wrap(ids),
            cluster: Some(Cluster {
                leadership: faults.wrap(leadership),
                peers: faults.wrap(peers),
                view_copies: Some(Arc::new(copies)),
            }),
        }
    }
}
