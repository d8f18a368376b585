//! Everything the engine asks of the outside, in one struct: a backend is one function that fills it.

use std::sync::Arc;

use eventflow_ports::{
    BlobStore, Clock, DefinitionStore, EventPublisher, HttpClient, Ids, Journal, KeyStore,
    TaskQueue, View,
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
}
