//! The inbound ports' suites through a node that leads nothing: whatever is asked goes to another one and back.

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eventflow_adapter_http_client::{AllowedTargets, ReqwestHttpClient};
use eventflow_adapter_memory::When;
use eventflow_adapter_system::SystemClock;
use eventflow_contracts::inbound::EngineFixture;
use eventflow_engine::{Engine, Node};
use eventflow_ports::inbound::{Calls, Controls, Events, Executions, System, Tasks, Workflows};
use support::{
    World,
    nodes::{Nodes, TestNode},
};

/// Each leads one; the third node finds nothing left to lead.
const PARTITIONS: u16 = 2;

struct Fixture {
    world: World,
    /// The last one is asked.
    living: Mutex<Vec<Arc<TestNode>>>,
}

impl Fixture {
    async fn begin() -> Self {
        let world = World::memory(Arc::new(SystemClock));
        let living = Mutex::new(live(&world).await);
        Self { world, living }
    }

    fn engine(&self) -> Arc<Engine> {
        let living = self.living.lock().unwrap();
        let asked = living.last().expect("between two lives nobody asks");
        asked.engine.clone()
    }
}

/// Three nodes on the stores of this world.
async fn live(world: &World) -> Vec<Arc<TestNode>> {
    let nodes = Nodes::on(world.clone(), PARTITIONS);
    let mut living = Vec::new();
    for _ in 0..3 {
        let http = ReqwestHttpClient::new(AllowedTargets::with_loopback());
        let http = Arc::new(http.expect("the client is set up"));
        living.push(nodes.start_with(|backend| backend.http = http).await);
        nodes.balanced(&living).await;
    }
    assert!(living[2].leads().is_empty());
    living
}

#[async_trait]
impl EngineFixture for Fixture {
    fn executions(&self) -> Arc<dyn Executions> {
        self.engine()
    }

    fn controls(&self) -> Arc<dyn Controls> {
        self.engine()
    }

    fn workflows(&self) -> Arc<dyn Workflows> {
        self.engine().definitions()
    }

    fn tasks(&self) -> Arc<dyn Tasks> {
        self.engine()
    }

    fn events(&self) -> Arc<dyn Events> {
        self.engine()
    }

    fn calls(&self) -> Arc<dyn Calls> {
        self.engine()
    }

    fn system(&self) -> Arc<dyn System> {
        let metrics = || "# TYPE eventflow_up gauge\neventflow_up 1\n".to_owned();
        Arc::new(Node::new(self.engine(), metrics))
    }

    /// All nodes at once; the roll of those that come is their own, so that nobody waits for the leases of the dead.
    async fn restart(&self) {
        for node in std::mem::take(&mut *self.living.lock().unwrap()) {
            node.engine.abort();
        }
        let living = live(&self.world).await;
        *self.living.lock().unwrap() = living;
    }

    async fn cut_off(&self) {
        for node in self.living.lock().unwrap().iter() {
            node.faults.fail_at(node.faults.calls() + 1, When::Before);
        }
    }
}

eventflow_contracts::executions_contract!(executions, Fixture::begin);
eventflow_contracts::controls_contract!(controls, Fixture::begin);
eventflow_contracts::workflows_contract!(workflows, Fixture::begin);
eventflow_contracts::tasks_contract!(tasks, Fixture::begin);
eventflow_contracts::events_contract!(events, Fixture::begin);
eventflow_contracts::calls_contract!(calls, Fixture::begin);
eventflow_contracts::system_contract!(system, Fixture::begin);
