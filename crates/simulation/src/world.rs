//! What outlives every engine: the stores, two nodes with a clock and a view of their own, and the site.

use std::{sync::Arc, time::Duration};

use eventflow_adapter_memory::{
    Faults, ManualClock, MemoryBlobStore, MemoryDefinitionStore, MemoryEventPublisher,
    MemoryJournal, MemoryKeyStore, MemoryTaskQueue, MemoryView, SequentialIds,
};
use eventflow_domain::{DurationMs, NodeName, Timestamp};
use eventflow_engine::{Backend, Config};
use eventflow_ports::{
    BlobStore, Clock, DefinitionStore, EventPublisher, HttpClient, Ids, Journal, KeyStore,
    TaskQueue, View,
};

use crate::{draw::Draw, journal::SlowJournal, ledger::Ledger, site::Site};

/// Whoever takes over is another one.
pub(crate) const NODES: usize = 2;

/// A machine on which one engine at a time can live.
pub(crate) struct Node {
    pub(crate) clock: ManualClock,
    view: MemoryView,
}

/// The whole of it.
pub(crate) struct World {
    pub(crate) partitions: u16,
    pub(crate) ledger: Ledger,
    pub(crate) site: Site,
    pub(crate) publisher: MemoryEventPublisher,
    pub(crate) nodes: [Node; NODES],
    journal: MemoryJournal,
    definitions: MemoryDefinitionStore,
    blobs: MemoryBlobStore,
    keys: MemoryKeyStore,
    ids: SequentialIds,
    /// The latest that any clock has ever shown.
    latest: Timestamp,
}

/// How slow the ports of a life are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) journal: Duration,
    pub(crate) others: Duration,
}

impl World {
    pub(crate) fn new(draw: &mut Draw) -> Self {
        let partitions = 1 + u16::try_from(draw.place(3)).expect("a small number");
        let journal = MemoryJournal::default();
        let ledger = Ledger::new(journal.clone(), partitions);
        let node = || Node {
            clock: ManualClock::default(),
            view: MemoryView::default(),
        };
        let nodes = [node(), node()];
        let clock = nodes[0].clock.clone();
        Self {
            partitions,
            site: Site::new(draw.split(), ledger.clone(), clock.clone()),
            ledger,
            publisher: MemoryEventPublisher::default(),
            nodes,
            journal,
            definitions: MemoryDefinitionStore::default(),
            blobs: MemoryBlobStore::default(),
            keys: MemoryKeyStore::default(),
            ids: SequentialIds::default(),
            latest: clock.now(),
        }
    }

    /// The ports of one life on this node.
    pub(crate) fn backend(
        &self,
        node: usize,
        faults: &Faults,
        latency: Latency,
        draw: Draw,
    ) -> Backend {
        let Node { clock, view } = &self.nodes[node];
        let journal: Arc<dyn Journal> =
            Arc::new(SlowJournal::new(&self.journal, latency.journal, draw));
        let view: Arc<dyn View> = Arc::new(view.clone());
        let queue: Arc<dyn TaskQueue> = Arc::new(MemoryTaskQueue::default());
        let definitions: Arc<dyn DefinitionStore> = Arc::new(self.definitions.clone());
        let blobs: Arc<dyn BlobStore> = Arc::new(self.blobs.clone());
        let keys: Arc<dyn KeyStore> = Arc::new(self.keys.clone());
        let http: Arc<dyn HttpClient> = Arc::new(self.site.reached_with(clock));
        let publisher: Arc<dyn EventPublisher> = Arc::new(self.publisher.clone());
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let ids: Arc<dyn Ids> = Arc::new(self.ids.clone());
        faults.slow_down(latency.others);
        Backend {
            name: "simulated",
            journal: faults.wrap(journal),
            view: faults.wrap(view),
            queue: faults.wrap(queue),
            definitions: faults.wrap(definitions),
            blobs: faults.wrap(blobs),
            keys: faults.wrap(keys),
            http: faults.wrap(http),
            publisher: Some(faults.wrap(publisher)),
            clock: faults.wrap(clock),
            ids: faults.wrap(ids),
            cluster: None,
        }
    }

    pub(crate) fn config(&self, life: u32) -> Config {
        Config {
            node: NodeName::parse(&format!("life-{life}")).expect("a name"),
            partitions: self.partitions,
            ..Config::default()
        }
    }

    /// The node's disk is gone, and with it its view, which is disposable.
    pub(crate) fn lose_view(&mut self, node: usize) {
        self.nodes[node].view = MemoryView::default();
    }

    /// Time passes, the same everywhere.
    pub(crate) fn advance(&mut self, span: DurationMs) {
        for node in &self.nodes {
            node.clock.advance(span);
        }
        self.note_time();
    }

    /// One node's clock is set, as a machine's clock is at times.
    pub(crate) fn jump(&mut self, node: usize, by_ms: i64) {
        let clock = &self.nodes[node].clock;
        clock.set(Timestamp(clock.now().0 + by_ms));
        self.note_time();
    }

    /// How long until the first sleeper on any of these nodes wakes.
    pub(crate) fn until_next_sleeper(&self, nodes: &[usize]) -> Option<DurationMs> {
        let spans = nodes.iter().filter_map(|&node| {
            let clock = &self.nodes[node].clock;
            Some(clock.next_sleeper()?.since(clock.now()))
        });
        spans.min()
    }

    /// The latest that any clock has shown: no record can be of a later time.
    pub(crate) fn latest(&self) -> Timestamp {
        self.latest
    }

    fn note_time(&mut self) {
        for node in &self.nodes {
            self.latest = self.latest.max(node.clock.now());
        }
    }
}
