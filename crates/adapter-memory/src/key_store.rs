//! Keys in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eventflow_ports::{KeyError, KeyStore};

use crate::lock;

/// Random keys by name, a handful. A clone is another instance on the same store.
#[derive(Clone, Default)]
pub struct MemoryKeyStore(Arc<Mutex<HashMap<String, [u8; 32]>>>);

#[async_trait]
impl KeyStore for MemoryKeyStore {
    async fn get_or_create(&self, name: &str) -> Result<[u8; 32], KeyError> {
        let mut keys = lock(&self.0);
        if let Some(key) = keys.get(name) {
            return Ok(*key);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| KeyError::Unavailable(error.into()))?;
        keys.insert(name.into(), key);
        Ok(key)
    }
}

impl std::fmt::Debug for MemoryKeyStore {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryKeyStore")
    }
}
