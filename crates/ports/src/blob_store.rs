//! Large values by reference (requirement W5).

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{Digest, Tenant};

use crate::Source;

/// Content-addressed blobs of a tenant.
///
/// 1. An acknowledged `put` MUST be durable: `get` finds the same bytes, also from a new instance on the same store.
/// 2. `put` of what is there MUST be harmless.
/// 3. `get` MUST answer `None` for what was never put, and for another tenant's blob.
/// 4. `get` MUST verify the digest and answer `Corrupt` rather than wrong bytes.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait BlobStore: Send + Sync {
    /// Stores bytes under their own digest.
    async fn put(&self, tenant: &Tenant, digest: &Digest, bytes: Bytes) -> Result<(), BlobError>;
    /// The bytes of a digest.
    async fn get(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<Bytes>, BlobError>;
}

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Try again later.
    #[error("the blob store did not answer: {0}")]
    Unavailable(#[source] Source),
    /// The stored bytes are not what their name says.
    #[error("blob {digest} is corrupt: restore it from a backup")]
    Corrupt {
        /// Which one.
        digest: Digest,
    },
}
