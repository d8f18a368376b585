//! Everything the engine asks of the outside, in one struct: a backend is one function that fills it.

use std::sync::Arc;

use eventflow_ports::{
    BlobStore, Clock, DefinitionStore, EventPublisher, HttpClient, Ids, Journal, KeyStore,
    Leadership, Peers, TaskQueue, View, ViewCopies,
};

/// The outbound ports of one node.
#[derive(Clone)]
pub struct Backend {
    /// What people call it: `sqlite`, `memory`, `nats`.
    pub name: &'static str,
    /// The only truth.
    pub journal: Arc<dyn Journal>,
    /// What follows it.
    pub view: Arc<dyn View>,
    /// Where ready attempts wait.
    pub queue: Arc<dyn TaskQueue>,
    /// Documents.
    pub definitions: Arc<dyn DefinitionStore>,
    /// Large values.
    pub blobs: Arc<dyn BlobStore>,
    /// What signs task tokens.
    pub keys: Arc<dyn KeyStore>,
    /// What performs `call: http`.
    pub http: Arc<dyn HttpClient>,
    /// Where lifecycle events go, where there is anybody beyond this service's own streams.
    pub publisher: Option<Arc<dyn EventPublisher>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh execution ids.
    pub ids: Arc<dyn Ids>,
    /// The other nodes on the same store; without, this one leads every partition.
    pub cluster: Option<Cluster>,
}

/// What several nodes on one store need of each other.
#[derive(Clone)]
pub struct Cluster {
    /// Who leads which partition.
    pub leadership: Arc<dyn Leadership>,
    /// The way to whoever leads one.
    pub peers: Arc<dyn Peers>,
    /// Where the views of others can be had, so that a new leader need not replay a whole journal.
    pub view_copies: Option<Arc<dyn ViewCopies>>,
}
