//! An engine in this process, in memory: what `eventflow run` runs on. The same engine as the service's, and gone with
//! the process.

use std::{sync::Arc, time::Duration};

use eventflow_adapter_http_api::execution_view;
use eventflow_adapter_http_client::{AllowedTargets, ReqwestHttpClient};
use eventflow_adapter_memory::{
    MemoryBlobStore, MemoryDefinitionStore, MemoryJournal, MemoryKeyStore, MemoryTaskQueue,
    MemoryView,
};
use eventflow_adapter_system::{SystemClock, UuidIds};
use eventflow_domain::{ExecutionId, Json, Tenant};
use eventflow_engine::{Backend, Config, Engine};
use eventflow_ports::inbound::{Executions, StartExecution, WorkflowRef};
use eventflow_wire::v1::executions::ExecutionView;

/// The engine and whose it is.
pub(crate) struct Embedded {
    engine: Engine,
    tenant: Tenant,
}

impl Embedded {
    /// An engine without anything in it. HTTP steps may reach this machine, as whoever runs them may.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let backend = Backend {
            name: "memory",
            journal: Arc::new(MemoryJournal::default()),
            view: Arc::new(MemoryView::default()),
            queue: Arc::new(MemoryTaskQueue::default()),
            definitions: Arc::new(MemoryDefinitionStore::default()),
            blobs: Arc::new(MemoryBlobStore::default()),
            keys: Arc::new(MemoryKeyStore::default()),
            http: Arc::new(ReqwestHttpClient::new(AllowedTargets::with_loopback())?),
            publisher: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(UuidIds),
            cluster: None,
        };
        Ok(Self {
            engine: Engine::start(backend, Config::default()).await?,
            tenant: Tenant::default_tenant(),
        })
    }

    /// Starts an execution of a document.
    pub(crate) async fn execute(
        &self,
        document: Json,
        input: Json,
    ) -> anyhow::Result<ExecutionView> {
        let request = StartExecution {
            tenant: self.tenant.clone(),
            workflow: WorkflowRef::Inline(document),
            input,
            execution: None,
            idempotency_key: None,
            correlation: None,
            labels: std::collections::BTreeMap::new(),
            traceparent: None,
            causation: None,
        };
        let started = Executions::start(&self.engine, request).await?;
        Ok(execution_view(started.view))
    }

    /// The execution once it has ended, or as it is after this long.
    pub(crate) async fn wait(
        &self,
        execution: &ExecutionId,
        within: Duration,
    ) -> anyhow::Result<ExecutionView> {
        let view = self.engine.wait(&self.tenant, execution, within).await?;
        Ok(execution_view(view))
    }
}
