//! The `KeyStore` port on the bucket `EVENTFLOW_KEYS`: whoever may read it can sign task tokens.

use async_nats::{Client, jetstream::kv};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_ports::{KeyError, KeyStore, Source};

use crate::{NatsConfig, OpenError, bucket};

/// Random keys by name, made once.
#[derive(Debug, Clone)]
pub struct NatsKeys {
    bucket: kv::Store,
}

impl NatsKeys {
    /// Creates the bucket where it is not there, and verifies it where it is.
    pub async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        let bucket = bucket::open_keys(client, config, "KEYS").await?;
        Ok(Self { bucket })
    }

    async fn get(&self, key: &str) -> Result<Option<[u8; 32]>, KeyError> {
        let found = self.bucket.get(key).await.map_err(unavailable)?;
        let read = |value: Bytes| <[u8; 32]>::try_from(&value[..]);
        found.map(read).transpose().map_err(|_| {
            unavailable(format!(
                "key {key} of bucket {} is not one of 32 bytes: restore it from a backup",
                self.bucket.name
            ))
        })
    }
}

#[async_trait]
impl KeyStore for NatsKeys {
    async fn get_or_create(&self, name: &str) -> Result<[u8; 32], KeyError> {
        let key = bucket::token(name);
        if let Some(found) = self.get(&key).await? {
            return Ok(found);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(unavailable)?;
        let created = bucket::create(&self.bucket, &key, random.to_vec().into()).await;
        if created.map_err(KeyError::Unavailable)? {
            return Ok(random);
        }
        // Another node was faster.
        let found = self.get(&key).await?;
        found.ok_or_else(|| unavailable(format!("key {key} was just removed")))
    }
}

fn unavailable(source: impl Into<Source>) -> KeyError {
    KeyError::Unavailable(source.into())
}
