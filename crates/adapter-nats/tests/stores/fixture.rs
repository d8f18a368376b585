//! Servers with empty buckets, as the suites want them.

use std::{collections::BTreeSet, sync::Arc};

use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use eventflow_adapter_nats::{
    NatsBlobs, NatsConfig, NatsDefinitions, NatsKeys, NatsLeadership, NatsViewCopies,
};
use eventflow_contracts::{
    blob_store::BlobStoreFixture, definition_store::DefinitionStoreFixture,
    key_store::KeyStoreFixture, leadership::LeadershipFixture, view_copies::ViewCopiesFixture,
};
use eventflow_domain::{Digest, PartitionId, Tenant};
use eventflow_ports::{BlobStore, DefinitionStore, KeyStore, Leadership, ViewCopies};
use futures::TryStreamExt as _;

use super::support::Servers;

/// Servers, with an empty store when they were started. Every instance has a connection of its own.
pub(crate) struct Stores {
    pub(crate) servers: Servers,
    pub(crate) config: NatsConfig,
}

impl Stores {
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

    pub(crate) async fn context(&self) -> Context {
        jetstream::new(self.servers.connect().await)
    }

    /// Puts other bytes where the chunks of an object are, as many chunks as there were.
    async fn damage_object(&self, bucket: &str, name: &str) {
        let context = self.context().await;
        let objects = context.get_object_store(bucket).await.expect("a bucket");
        let object = objects.info(name).await.expect("an object");
        let chunks = format!("$O.{bucket}.C.{}", object.nuid);
        let stream = format!("OBJ_{bucket}");
        let stream = context.get_stream(stream).await.expect("its stream");
        stream.purge().filter(&chunks).await.expect("purged");
        for _ in 0..object.chunks {
            let publish = context.publish(chunks.clone(), "damaged on purpose".into());
            publish
                .await
                .expect("published")
                .await
                .expect("acknowledged");
        }
    }
}

/// Opens an adapter on a new connection.
macro_rules! opened {
    ($stores:expr, $adapter:ty) => {
        Arc::new(
            <$adapter>::open(&$stores.servers.connect().await, &$stores.config)
                .await
                .expect("opened"),
        )
    };
}

#[async_trait]
impl KeyStoreFixture for Stores {
    async fn open(&self) -> Arc<dyn KeyStore> {
        opened!(self, NatsKeys)
    }
}

#[async_trait]
impl DefinitionStoreFixture for Stores {
    async fn open(&self) -> Arc<dyn DefinitionStore> {
        opened!(self, NatsDefinitions)
    }
}

#[async_trait]
impl BlobStoreFixture for Stores {
    async fn open(&self) -> Arc<dyn BlobStore> {
        opened!(self, NatsBlobs)
    }

    async fn damage(&self, tenant: &Tenant, digest: &Digest) {
        let name = format!("{}/{digest}", tenant.as_str());
        self.damage_object("EVENTFLOW_BLOBS", &name).await;
    }
}

#[async_trait]
impl ViewCopiesFixture for Stores {
    async fn open(&self) -> Arc<dyn ViewCopies> {
        opened!(self, NatsViewCopies)
    }

    async fn damage(&self, partition: PartitionId) {
        let name = format!("partition-{partition}");
        self.damage_object("EVENTFLOW_VIEWS", &name).await;
    }

    async fn stored(&self, partition: PartitionId) -> usize {
        let stream = self.context().await.get_stream("OBJ_EVENTFLOW_VIEWS").await;
        let stream = stream.expect("a stream");
        let chunks = format!("$O.EVENTFLOW_VIEWS.C.{partition}.>");
        let found = stream
            .info_with_subjects(chunks)
            .await
            .expect("its subjects");
        let subjects: BTreeSet<(String, usize)> = found.try_collect().await.expect("its subjects");
        subjects.len()
    }
}

#[async_trait]
impl LeadershipFixture for Stores {
    async fn open(&self) -> Arc<dyn Leadership> {
        opened!(self, NatsLeadership)
    }
}
