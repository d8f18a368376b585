//! Blobs in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{Digest, Tenant};
use eventflow_ports::{BlobError, BlobStore};

use crate::lock;

/// All blobs of all tenants, bytes: what is full answers `Unavailable` instead of taking the machine's memory.
pub const BLOBS_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// Blobs in memory. A clone is another instance on the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobStore(Arc<Mutex<Blobs>>);

#[derive(Debug, Default)]
struct Blobs {
    by_digest: HashMap<(Tenant, Digest), Bytes>,
    bytes: usize,
}

impl MemoryBlobStore {
    /// Changes what is stored under a digest, as a broken disk does: for tests of who must notice.
    pub fn damage(&self, tenant: &Tenant, digest: &Digest) {
        let damaged = Bytes::from_static(b"damaged on purpose");
        lock(&self.0)
            .by_digest
            .insert((tenant.clone(), *digest), damaged);
    }
}

#[async_trait]
impl BlobStore for MemoryBlobStore {
    async fn put(&self, tenant: &Tenant, digest: &Digest, bytes: Bytes) -> Result<(), BlobError> {
        let mut blobs = lock(&self.0);
        let key = (tenant.clone(), *digest);
        if blobs.by_digest.contains_key(&key) {
            return Ok(());
        }
        let total = blobs.bytes + bytes.len();
        if total > BLOBS_BYTES_MAX {
            return Err(BlobError::Unavailable(
                format!(
                    "the blobs in memory hold their {BLOBS_BYTES_MAX} bytes: use a store on disk"
                )
                .into(),
            ));
        }
        blobs.bytes = total;
        blobs.by_digest.insert(key, bytes);
        Ok(())
    }

    async fn get(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<Bytes>, BlobError> {
        let found = lock(&self.0)
            .by_digest
            .get(&(tenant.clone(), *digest))
            .cloned();
        match found {
            Some(bytes) if Digest::of(&bytes) != *digest => {
                Err(BlobError::Corrupt { digest: *digest })
            }
            found => Ok(found),
        }
    }
}
