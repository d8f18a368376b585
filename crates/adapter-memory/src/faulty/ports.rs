//! The decorators of all ports but the journal.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{
    Capability, Digest, ExecutionId, NodeName, PartitionId, Position, Tenant, Timestamp,
};
use eventflow_ports::{
    Answering, BlobError, BlobStore, Clock, Definition, DefinitionError, DefinitionStore,
    EventPublisher, HttpClient, HttpFailure, HttpFailureKind, HttpRequest, HttpResponse, Ids,
    KeyError, KeyStore, Leadership, LeadershipError, LifecycleEvent, ListQuery, Mark,
    OfferedAttempt, PeerError, Peers, PublishError, Put, QueueError, Responder, Roll, TaskOffer,
    TaskQueue, View, ViewBatch, ViewError, ViewPosition, ViewRow,
};

use super::{Faulty, Injected};

#[async_trait]
impl<T: View + ?Sized> View for Faulty<T> {
    async fn apply(&self, partition: PartitionId, batch: ViewBatch) -> Result<(), ViewError> {
        let call = self.inner.apply(partition, batch);
        self.faults
            .run(("View", "apply"), ViewError::Unavailable, call)
            .await
    }

    async fn position(&self, partition: PartitionId) -> Result<ViewPosition, ViewError> {
        let call = self.inner.position(partition);
        self.faults
            .run(("View", "position"), ViewError::Unavailable, call)
            .await
    }

    async fn get(
        &self,
        partition: PartitionId,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Option<ViewRow>, ViewError> {
        let call = self.inner.get(partition, tenant, execution);
        self.faults
            .run(("View", "get"), ViewError::Unavailable, call)
            .await
    }

    async fn open(&self, partition: PartitionId) -> Result<Vec<ViewRow>, ViewError> {
        let call = self.inner.open(partition);
        self.faults
            .run(("View", "open"), ViewError::Unavailable, call)
            .await
    }

    async fn list(
        &self,
        partition: PartitionId,
        query: ListQuery,
    ) -> Result<Vec<ViewRow>, ViewError> {
        let call = self.inner.list(partition, query);
        self.faults
            .run(("View", "list"), ViewError::Unavailable, call)
            .await
    }

    async fn copy(
        &self,
        partition: PartitionId,
        to: &Path,
    ) -> Result<Option<ViewPosition>, ViewError> {
        let call = self.inner.copy(partition, to);
        self.faults
            .run(("View", "copy"), ViewError::Unavailable, call)
            .await
    }

    async fn replace(&self, partition: PartitionId, from: &Path) -> Result<(), ViewError> {
        let call = self.inner.replace(partition, from);
        self.faults
            .run(("View", "replace"), ViewError::Unavailable, call)
            .await
    }
}

#[async_trait]
impl<T: TaskQueue + ?Sized> TaskQueue for Faulty<T> {
    async fn offer(&self, tasks: Vec<TaskOffer>) -> Result<(), QueueError> {
        let call = self.inner.offer(tasks);
        self.faults
            .run(("TaskQueue", "offer"), QueueError::Unavailable, call)
            .await
    }

    async fn take(
        &self,
        tenant: &Tenant,
        capabilities: &[Capability],
        max: usize,
        wait: Duration,
    ) -> Result<Vec<TaskOffer>, QueueError> {
        let call = self.inner.take(tenant, capabilities, max, wait);
        self.faults
            .run(("TaskQueue", "take"), QueueError::Unavailable, call)
            .await
    }

    async fn lost(&self, partition: PartitionId) -> Result<Vec<OfferedAttempt>, QueueError> {
        let call = self.inner.lost(partition);
        self.faults
            .run(("TaskQueue", "lost"), QueueError::Unavailable, call)
            .await
    }

    fn settle(&self, attempt: &OfferedAttempt) {
        self.inner.settle(attempt);
    }

    fn forget(&self, partition: PartitionId) {
        self.inner.forget(partition);
    }
}

#[async_trait]
impl<T: EventPublisher + ?Sized> EventPublisher for Faulty<T> {
    async fn publish(
        &self,
        partition: PartitionId,
        through: Position,
        events: Vec<LifecycleEvent>,
    ) -> Result<(), PublishError> {
        let call = self.inner.publish(partition, through, events);
        self.faults
            .run(
                ("EventPublisher", "publish"),
                PublishError::Unavailable,
                call,
            )
            .await
    }

    async fn position(&self, partition: PartitionId) -> Result<Position, PublishError> {
        let call = self.inner.position(partition);
        self.faults
            .run(
                ("EventPublisher", "position"),
                PublishError::Unavailable,
                call,
            )
            .await
    }
}

#[async_trait]
impl<T: DefinitionStore + ?Sized> DefinitionStore for Faulty<T> {
    async fn put(&self, tenant: &Tenant, definition: Definition) -> Result<Put, DefinitionError> {
        let call = self.inner.put(tenant, definition);
        self.faults
            .run(
                ("DefinitionStore", "put"),
                DefinitionError::Unavailable,
                call,
            )
            .await
    }

    async fn keep(&self, tenant: &Tenant, definition: Definition) -> Result<(), DefinitionError> {
        let call = self.inner.keep(tenant, definition);
        self.faults
            .run(
                ("DefinitionStore", "keep"),
                DefinitionError::Unavailable,
                call,
            )
            .await
    }

    async fn by_digest(
        &self,
        tenant: &Tenant,
        digest: &Digest,
    ) -> Result<Option<Definition>, DefinitionError> {
        let call = self.inner.by_digest(tenant, digest);
        self.faults
            .run(
                ("DefinitionStore", "by_digest"),
                DefinitionError::Unavailable,
                call,
            )
            .await
    }

    async fn by_name<'a>(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        version: Option<&'a str>,
    ) -> Result<Option<Definition>, DefinitionError> {
        let call = self.inner.by_name(tenant, namespace, name, version);
        self.faults
            .run(
                ("DefinitionStore", "by_name"),
                DefinitionError::Unavailable,
                call,
            )
            .await
    }

    async fn list<'a>(
        &self,
        tenant: &Tenant,
        namespace: Option<&'a str>,
    ) -> Result<Vec<Definition>, DefinitionError> {
        let call = self.inner.list(tenant, namespace);
        self.faults
            .run(
                ("DefinitionStore", "list"),
                DefinitionError::Unavailable,
                call,
            )
            .await
    }
}

#[async_trait]
impl<T: BlobStore + ?Sized> BlobStore for Faulty<T> {
    async fn put(&self, tenant: &Tenant, digest: &Digest, bytes: Bytes) -> Result<(), BlobError> {
        let call = self.inner.put(tenant, digest, bytes);
        self.faults
            .run(("BlobStore", "put"), BlobError::Unavailable, call)
            .await
    }

    async fn get(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<Bytes>, BlobError> {
        let call = self.inner.get(tenant, digest);
        self.faults
            .run(("BlobStore", "get"), BlobError::Unavailable, call)
            .await
    }
}

#[async_trait]
impl<T: KeyStore + ?Sized> KeyStore for Faulty<T> {
    async fn get_or_create(&self, name: &str) -> Result<[u8; 32], KeyError> {
        let call = self.inner.get_or_create(name);
        self.faults
            .run(("KeyStore", "get_or_create"), KeyError::Unavailable, call)
            .await
    }
}

#[async_trait]
impl<T: Leadership + ?Sized> Leadership for Faulty<T> {
    async fn announce(&self, node: &NodeName) -> Result<(), LeadershipError> {
        let call = self.inner.announce(node);
        self.faults
            .run(
                ("Leadership", "announce"),
                LeadershipError::Unavailable,
                call,
            )
            .await
    }

    async fn leave(&self, node: &NodeName) -> Result<(), LeadershipError> {
        let call = self.inner.leave(node);
        self.faults
            .run(("Leadership", "leave"), LeadershipError::Unavailable, call)
            .await
    }

    async fn roll(&self) -> Result<Roll, LeadershipError> {
        let call = self.inner.roll();
        self.faults
            .run(("Leadership", "roll"), LeadershipError::Unavailable, call)
            .await
    }

    async fn take(
        &self,
        partition: PartitionId,
        node: &NodeName,
        seen: Mark,
    ) -> Result<Mark, LeadershipError> {
        let call = self.inner.take(partition, node, seen);
        self.faults
            .run(("Leadership", "take"), LeadershipError::Unavailable, call)
            .await
    }

    async fn release(&self, partition: PartitionId, held: Mark) -> Result<(), LeadershipError> {
        let call = self.inner.release(partition, held);
        self.faults
            .run(
                ("Leadership", "release"),
                LeadershipError::Unavailable,
                call,
            )
            .await
    }

    /// Counted only: to look too late is no failure.
    async fn changed(&self) {
        self.faults.count("Leadership", "changed");
        self.inner.changed().await;
    }
}

#[async_trait]
impl<T: Peers + ?Sized> Peers for Faulty<T> {
    async fn ask(
        &self,
        partition: PartitionId,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, PeerError> {
        let call = self.inner.ask(partition, request, within);
        self.faults
            .run(("Peers", "ask"), PeerError::Unavailable, call)
            .await
    }

    async fn answer(
        &self,
        partition: PartitionId,
        responder: Arc<dyn Responder>,
    ) -> Result<Answering, PeerError> {
        let call = self.inner.answer(partition, responder);
        self.faults
            .run(("Peers", "answer"), PeerError::Unavailable, call)
            .await
    }
}

/// A crash is a broken connection here, for want of an `Unavailable`; a hiccup leaves it alone, for it would be an
/// outcome of its own.
#[async_trait]
impl<T: HttpClient + ?Sized> HttpClient for Faulty<T> {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let broken = |injected: Injected| HttpFailure {
            kind: HttpFailureKind::Network,
            message: injected.to_string(),
            latency: Duration::ZERO,
        };
        let pass = self
            .faults
            .call_where("HttpClient", "execute", false)
            .map_err(broken)?;
        let outcome = self.inner.execute(request).await;
        pass.done().map_err(broken)?;
        outcome
    }
}

/// Counted only: time passes for the dead as well.
#[async_trait]
impl<T: Clock + ?Sized> Clock for Faulty<T> {
    fn now(&self) -> Timestamp {
        self.faults.count("Clock", "now");
        self.inner.now()
    }

    fn elapsed(&self) -> Duration {
        self.faults.count("Clock", "elapsed");
        self.inner.elapsed()
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.faults.count("Clock", "sleep_until");
        self.inner.sleep_until(at).await;
    }
}

/// Counted only.
impl<T: Ids + ?Sized> Ids for Faulty<T> {
    fn execution_id(&self) -> ExecutionId {
        self.faults.count("Ids", "execution_id");
        self.inner.execution_id()
    }
}
