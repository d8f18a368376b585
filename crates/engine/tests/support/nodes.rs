//! Several engines on one store in one process, each with its own view, clock and ways to the others, which can be cut.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_memory::{
    Faults, ManualClock, MemoryLeadership, MemoryPeers, MemoryTaskQueue, MemoryView,
};
use eventflow_domain::{DurationMs, ExecutionId, NodeName, PartitionId, execution::Status};
use eventflow_engine::{Backend, Cluster, Config, Engine, Node};
use eventflow_ports::{
    Answering, Clock, Leadership, LeadershipError, Mark, PeerError, Peers, Responder, Roll,
    TaskQueue,
    inbound::{Executions, PartitionView, System},
};

use super::{
    World,
    requests::{PATIENCE, id, tenant},
    until,
};

/// A step of time: long enough for the next announcement, far shorter than a lease.
const STEP: DurationMs = DurationMs(1_000);

/// What all nodes share.
pub(crate) struct Nodes {
    pub(crate) world: World,
    pub(crate) leadership: MemoryLeadership,
    peers: MemoryPeers,
    queue: MemoryTaskQueue,
    /// Whose clocks are moved together; none where time passes by itself.
    clocks: Option<Mutex<Vec<Arc<TestNode>>>>,
    started: AtomicU32,
}

/// One of them.
pub(crate) struct TestNode {
    pub(crate) name: NodeName,
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Option<Arc<ManualClock>>,
    /// Whether it reaches neither the roll nor the others.
    pub(crate) is_cut: Arc<AtomicBool>,
    pub(crate) faults: Faults,
}

impl Nodes {
    /// On one store in memory, each with a clock that the test moves.
    pub(crate) fn by_hand(partitions: u16) -> Self {
        let mut nodes = Self::on(World::memory(super::manual_clock()), partitions);
        nodes.clocks = Some(Mutex::default());
        nodes
    }

    /// On a store, with the clock of its world.
    pub(crate) fn on(world: World, partitions: u16) -> Self {
        Self {
            world: World {
                partitions,
                ..world
            },
            leadership: MemoryLeadership::default(),
            peers: MemoryPeers::default(),
            queue: MemoryTaskQueue::default(),
            clocks: None,
            started: AtomicU32::new(0),
        }
    }

    /// Another node, which has announced itself.
    pub(crate) async fn start(&self) -> Arc<TestNode> {
        self.start_with(|_| {}).await
    }

    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut Backend)) -> Arc<TestNode> {
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let name = NodeName::parse(&format!("node-{number}")).expect("a name");
        let (faults, is_cut) = (Faults::new(), Arc::new(AtomicBool::new(false)));
        let mut backend = self.world.backend(&faults).await;
        let clock = self
            .clocks
            .is_some()
            .then(|| Arc::new(ManualClock::at(self.world.clock.now())));
        if let Some(clock) = &clock {
            let clock: Arc<dyn Clock> = clock.clone();
            backend.clock = faults.wrap(clock);
        }
        backend.view = Arc::new(MemoryView::default());
        let queue: Arc<dyn TaskQueue> = Arc::new(self.queue.clone());
        backend.queue = faults.wrap(queue);
        backend.cluster = Some(Cluster {
            leadership: Arc::new(Cut {
                port: self.leadership.clone(),
                is_cut: is_cut.clone(),
            }),
            peers: Arc::new(Cut {
                port: self.peers.clone(),
                is_cut: is_cut.clone(),
            }),
            view_copies: None,
        });
        change(&mut backend);
        let config = Config {
            node: name.clone(),
            partitions: self.world.partitions,
            ..Config::default()
        };
        let engine = Engine::start(backend, config).await.expect("it starts");
        let node = Arc::new(TestNode {
            name,
            engine: Arc::new(engine),
            clock,
            is_cut,
            faults,
        });
        if let Some(clocks) = &self.clocks {
            clocks.lock().unwrap().push(node.clone());
        }
        node
    }

    /// Some nodes that have shared the partitions among themselves.
    pub(crate) async fn start_many<const N: usize>(&self) -> [Arc<TestNode>; N] {
        let mut nodes = Vec::new();
        for _ in 0..N {
            nodes.push(self.start().await);
        }
        self.balanced(&nodes).await;
        nodes
            .try_into()
            .unwrap_or_else(|_| panic!("{N} nodes were started"))
    }

    /// Waits until these nodes have shared the partitions evenly, and each knows it.
    pub(crate) async fn balanced(&self, nodes: &[Arc<TestNode>]) {
        let all = usize::from(self.world.partitions);
        let least = all / nodes.len();
        let spread = || {
            let led: Vec<_> = nodes.iter().map(|node| node.leads().len()).collect();
            led.iter().sum::<usize>() == all
                && led.iter().all(|led| (least..=least + 1).contains(led))
        };
        until("an even spread", || {
            spread() && nodes.iter().all(|node| node.readiness().is_ok())
        })
        .await;
    }

    /// Lets a second pass for these nodes, and waits until the others have heard of those that can be heard.
    pub(crate) async fn second(&self, nodes: &[&Arc<TestNode>]) {
        let marks = async || self.leadership.roll().await.expect("read").nodes;
        let before = marks().await;
        for node in nodes {
            node.clock.as_ref().expect("a clock in hand").advance(STEP);
        }
        let began = std::time::Instant::now();
        loop {
            let now = marks().await;
            let heard = |node: &&Arc<TestNode>| {
                let mark = now.iter().find(|(name, _)| *name == node.name);
                node.is_cut.load(Ordering::SeqCst) || mark.is_none_or(|mark| !before.contains(mark))
            };
            if nodes.iter().all(heard) {
                break;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "not every node has announced itself"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Whoever looks has looked.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Lets time pass for these nodes until something is so; fails where it takes longer than a take-over may.
    pub(crate) async fn within_5_seconds(
        &self,
        nodes: &[&Arc<TestNode>],
        what: &str,
        is_so: impl Fn() -> bool,
    ) {
        for _ in 0..5 {
            if is_so() {
                return;
            }
            self.second(nodes).await;
        }
        until(what, is_so).await;
    }

    /// An id whose home is this partition.
    pub(crate) fn id_in(&self, home: PartitionId, name: &str) -> ExecutionId {
        (0..10_000)
            .map(|number| id(&format!("{name}-{number}")))
            .find(|id| PartitionId::of(&tenant(), id, self.world.partitions) == home)
            .expect("one of many")
    }
}

impl TestNode {
    pub(crate) fn node(&self) -> Node<fn() -> String> {
        Node::new(self.engine.clone(), String::new)
    }

    pub(crate) fn readiness(&self) -> Result<(), Vec<String>> {
        self.node().readiness()
    }

    pub(crate) fn partitions(&self) -> Vec<PartitionView> {
        self.node().system().partitions
    }

    /// What it leads, by its own words.
    pub(crate) fn leads(&self) -> Vec<PartitionId> {
        let partitions = self.partitions().into_iter();
        let own = partitions.filter(|view| view.leader.as_deref() == Some(self.name.as_str()));
        own.map(|view| view.id).collect()
    }

    /// Where an execution stands, asked here.
    pub(crate) async fn status(&self, execution: &ExecutionId) -> Status {
        let view = self.engine.view(&tenant(), execution).await;
        view.expect("seen").status
    }

    /// How it ended, waited for here.
    pub(crate) async fn ended(&self, execution: &ExecutionId) -> Status {
        let view = self.engine.wait(&tenant(), execution, PATIENCE).await;
        view.expect("seen").status
    }

    /// It dies, and everybody who asks it learns that at once, as from a connection that is closed.
    pub(crate) async fn die(&self) {
        self.engine.abort();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// From now on it reaches neither the roll nor the others, or does again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }
}

/// A way to the others that can be cut.
struct Cut<P> {
    port: P,
    is_cut: Arc<AtomicBool>,
}

impl<P> Cut<P> {
    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    fn reach(&self) -> Result<&P, LeadershipError> {
        if self.is_cut() {
            return Err(LeadershipError::Unavailable("cut on purpose".into()));
        }
        Ok(&self.port)
    }
}

#[async_trait]
impl Leadership for Cut<MemoryLeadership> {
    async fn announce(&self, node: &NodeName) -> Result<(), LeadershipError> {
        self.reach()?.announce(node).await
    }

    async fn leave(&self, node: &NodeName) -> Result<(), LeadershipError> {
        self.reach()?.leave(node).await
    }

    async fn roll(&self) -> Result<Roll, LeadershipError> {
        self.reach()?.roll().await
    }

    async fn take(
        &self,
        partition: PartitionId,
        node: &NodeName,
        seen: Mark,
    ) -> Result<Mark, LeadershipError> {
        self.reach()?.take(partition, node, seen).await
    }

    async fn release(&self, partition: PartitionId, held: Mark) -> Result<(), LeadershipError> {
        self.reach()?.release(partition, held).await
    }

    async fn changed(&self) {
        self.port.changed().await;
    }
}

#[async_trait]
impl Peers for Cut<MemoryPeers> {
    async fn ask(
        &self,
        partition: PartitionId,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, PeerError> {
        if self.is_cut() {
            return Err(PeerError::Unavailable("cut on purpose".into()));
        }
        self.port.ask(partition, request, within).await
    }

    async fn answer(
        &self,
        partition: PartitionId,
        responder: Arc<dyn Responder>,
    ) -> Result<Answering, PeerError> {
        if self.is_cut() {
            return Err(PeerError::Unavailable("cut on purpose".into()));
        }
        self.port.answer(partition, responder).await
    }
}
