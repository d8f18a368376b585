//! Keys that belong to the store: what signs task tokens survives restarts (INTERFACES section 7).

use async_trait::async_trait;

use crate::Source;

/// Keeps named keys of 32 random bytes.
///
/// 1. The first `get_or_create` of a name MUST make a random key; every later one, of any instance on the same store,
///    MUST answer the same.
/// 2. Different names MUST have different keys.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait KeyStore: Send + Sync {
    /// The key of this name.
    async fn get_or_create(&self, name: &str) -> Result<[u8; 32], KeyError>;
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Try again later.
    #[error("the key store did not answer: {0}")]
    Unavailable(#[source] Source),
}
