//! The `BlobStore` port on the Object Store `EVENTFLOW_BLOBS`: objects `<tenant>/<digest>`.
//!
//! A node that dies while it puts a blob leaves chunks that nothing points at: the size of one blob, in nobody's way.

use async_nats::Client;
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{Digest, Tenant};
use eventflow_ports::{BlobError, BlobStore};
use tokio::time::sleep;

use crate::{
    NatsConfig, OpenError,
    bucket::{self, LOOK_AGAIN, TRIES_MAX},
    objects::{ObjectError, Objects},
};

/// What is reserved for a blob before it is read: its line may say anything.
const RESERVED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Large values, by tenant and digest.
#[derive(Debug, Clone)]
pub struct NatsBlobs {
    objects: Objects,
}

impl NatsBlobs {
    /// Creates the bucket where it is not there, and verifies it where it is.
    pub async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        let objects = Objects::new(bucket::open_objects(client, config, "BLOBS").await?);
        Ok(Self { objects })
    }

    /// On a bucket that is there, which is only read.
    pub(crate) fn on(objects: Objects) -> Self {
        Self { objects }
    }

    /// Whether a tenant has this large value.
    pub(crate) async fn holds(&self, tenant: &Tenant, digest: &Digest) -> Result<bool, BlobError> {
        self.has(&name(tenant, digest)).await
    }

    async fn has(&self, name: &str) -> Result<bool, BlobError> {
        let found = self.objects.find(name).await;
        Ok(found.map_err(BlobError::Unavailable)?.is_some())
    }
}

#[async_trait]
impl BlobStore for NatsBlobs {
    async fn put(&self, tenant: &Tenant, digest: &Digest, bytes: Bytes) -> Result<(), BlobError> {
        let name = name(tenant, digest);
        if self.has(&name).await? {
            return Ok(());
        }
        let written = self.objects.write("", &mut &bytes[..]).await;
        let written = written.map_err(|error| BlobError::Unavailable(error.into()))?;
        for _ in 0..TRIES_MAX {
            let pointed = self.objects.point(&name, &written, None, 0).await;
            if pointed.map_err(BlobError::Unavailable)? {
                return Ok(());
            }
            if self.has(&name).await? {
                // Another node was faster, with the same bytes.
                self.objects.remove(&written.chunks_at).await;
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
        Err(BlobError::Unavailable(
            format!("blob {name} is put by others all the time").into(),
        ))
    }

    async fn get(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<Bytes>, BlobError> {
        let found = self.objects.find(&name(tenant, digest)).await;
        let Some(line) = found.map_err(BlobError::Unavailable)? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(line.object.size.min(RESERVED_BYTES_MAX));
        match self.objects.read(&line.object, &mut bytes).await {
            Ok(read) if read == *digest => Ok(Some(bytes.into())),
            Ok(_) | Err(ObjectError::Gone) => Err(BlobError::Corrupt { digest: *digest }),
            Err(error) => Err(BlobError::Unavailable(error.into())),
        }
    }
}

fn name(tenant: &Tenant, digest: &Digest) -> String {
    format!("{}/{digest}", tenant.as_str())
}
