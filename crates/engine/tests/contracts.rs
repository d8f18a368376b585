//! The inbound ports' suites against the engine, over memory and over SQLite.

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eventflow_adapter_http_client::{AllowedTargets, ReqwestHttpClient};
use eventflow_adapter_memory::{Faults, When};
use eventflow_adapter_system::SystemClock;
use eventflow_contracts::inbound::EngineFixture;
use eventflow_engine::{Backend, Config, Engine, Node};
use eventflow_ports::inbound::{Calls, Controls, Events, Executions, System, Tasks, Workflows};
use support::World;

struct Fixture {
    world: World,
    living: Mutex<Option<(Arc<Engine>, Faults)>>,
}

impl Fixture {
    async fn on(world: World) -> Self {
        let faults = Faults::new();
        let engine = live(&world, &faults).await;
        Self {
            world,
            living: Mutex::new(Some((Arc::new(engine), faults))),
        }
    }

    fn engine(&self) -> Arc<Engine> {
        let living = self.living.lock().unwrap();
        living
            .as_ref()
            .expect("between two lives nobody asks")
            .0
            .clone()
    }
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

    async fn restart(&self) {
        self.engine().abort();
        let faults = Faults::new();
        self.living.lock().unwrap().take();
        let engine = live(&self.world, &faults).await;
        *self.living.lock().unwrap() = Some((Arc::new(engine), faults));
    }

    async fn cut_off(&self) {
        let living = self.living.lock().unwrap();
        let faults = &living.as_ref().expect("it lives").1;
        faults.fail_at(faults.calls() + 1, When::Before);
    }
}

/// A life that reaches sites on this machine.
async fn live(world: &World, faults: &Faults) -> Engine {
    let http = ReqwestHttpClient::new(AllowedTargets::with_loopback());
    let http = Arc::new(http.expect("the client is set up"));
    let backend = Backend {
        http: faults.wrap(http),
        ..world.backend(faults).await
    };
    let config = Config {
        partitions: world.partitions,
        ..Config::default()
    };
    Engine::start(backend, config).await.expect("it starts")
}

async fn memory() -> Fixture {
    Fixture::on(World::memory(Arc::new(SystemClock))).await
}

async fn sqlite() -> Fixture {
    Fixture::on(World::sqlite(Arc::new(SystemClock))).await
}

eventflow_contracts::executions_contract!(executions_on_memory, memory);
eventflow_contracts::controls_contract!(controls_on_memory, memory);
eventflow_contracts::workflows_contract!(workflows_on_memory, memory);
eventflow_contracts::tasks_contract!(tasks_on_memory, memory);
eventflow_contracts::events_contract!(events_on_memory, memory);
eventflow_contracts::calls_contract!(calls_on_memory, memory);
eventflow_contracts::system_contract!(system_on_memory, memory);
eventflow_contracts::executions_contract!(executions_on_sqlite, sqlite);
eventflow_contracts::controls_contract!(controls_on_sqlite, sqlite);
eventflow_contracts::workflows_contract!(workflows_on_sqlite, sqlite);
eventflow_contracts::tasks_contract!(tasks_on_sqlite, sqlite);
eventflow_contracts::events_contract!(events_on_sqlite, sqlite);
eventflow_contracts::calls_contract!(calls_on_sqlite, sqlite);
eventflow_contracts::system_contract!(system_on_sqlite, sqlite);
