//! Servers, nodes on them, and tasks as the engine offers them.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{self, stream::Stream};
use async_trait::async_trait;
use eventflow_adapter_nats::{NatsConfig, NatsPeers, NatsTaskQueue};
use eventflow_contracts::{peers::PeersFixture, task_queue::TaskQueueFixture};
use eventflow_domain::{
    Attempt, Capability, ExecutionId, Json, PartitionId, TaskReference, Tenant, Timestamp, Value,
    WorkflowId,
};
use eventflow_nats_server::NatsCluster;
use eventflow_ports::{Peers, TaskOffer, TaskQueue};

use super::support::Servers;

/// Servers, with nothing on them when they were started. Every node has a connection of its own.
pub(crate) struct Nodes {
    pub(crate) servers: Servers,
    pub(crate) config: NatsConfig,
}

impl Nodes {
    pub(crate) fn single() -> Self {
        Self::of(Servers::single())
    }

    pub(crate) fn synced() -> Self {
        Self::of(Servers::synced())
    }

    pub(crate) fn replicated() -> Self {
        Self::of(Servers::replicated())
    }

    fn of(servers: Servers) -> Self {
        let config = NatsConfig {
            replicas: servers.replicas(),
            ..NatsConfig::default()
        };
        Self { servers, config }
    }

    /// The three servers.
    pub(crate) fn cluster(&mut self) -> &mut NatsCluster {
        match &mut self.servers {
            Servers::One(_) => panic!("there is one server"),
            Servers::Three(cluster) => cluster,
        }
    }

    /// A new node's queue.
    pub(crate) async fn queue(&self) -> NatsTaskQueue {
        let client = self.servers.connect().await;
        let opened = NatsTaskQueue::open(&client, &self.config).await;
        opened.expect("opened")
    }

    /// The stream of tasks, as an operator sees it.
    pub(crate) async fn stream(&self) -> Stream {
        let context = jetstream::new(self.servers.connect().await);
        let stream = context.get_stream("EVENTFLOW_TASKS").await;
        stream.expect("the stream is there")
    }
}

#[async_trait]
impl TaskQueueFixture for Nodes {
    async fn open(&self) -> Arc<dyn TaskQueue> {
        Arc::new(self.queue().await)
    }
}

#[async_trait]
impl PeersFixture for Nodes {
    async fn open(&self) -> Arc<dyn Peers> {
        Arc::new(NatsPeers::new(&self.servers.connect().await, &self.config))
    }
}

pub(crate) const P: PartitionId = PartitionId(0);

pub(crate) fn tenant() -> Tenant {
    Tenant::parse("default").expect("a name")
}

pub(crate) fn capability(name: &str) -> Capability {
    Capability::parse(name).expect("a name")
}

/// The task of this number of an execution.
pub(crate) fn offer(of: &str, task: usize) -> TaskOffer {
    TaskOffer {
        tenant: tenant(),
        capability: capability("charge"),
        partition: P,
        execution: ExecutionId::parse(of).expect("a name"),
        task: TaskReference::at(&format!("/do/{task}")),
        attempt: Attempt(1),
        workflow: WorkflowId {
            namespace: "default".into(),
            name: "order".into(),
            version: "1.0.0".into(),
        },
        token: format!("token-{of}-{task}").into(),
        input: Value::new(Json::of(&task)),
        ready_at: Timestamp(1_700_000_000_123),
        traceparent: None,
    }
}

/// Takes up to so many tasks, in one take.
pub(crate) async fn take(queue: &NatsTaskQueue, max: usize, wait: Duration) -> Vec<TaskOffer> {
    let capabilities = [capability("charge")];
    let taken = queue.take(&tenant(), &capabilities, max, wait).await;
    taken.expect("taken")
}
