//! The `KeyStore` port, in `journal.db`.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_ports::{KeyError, KeyStore};
use rusqlite::{OptionalExtension as _, params};

use crate::store::Shared;

/// The keys of an open store.
#[derive(Debug, Clone)]
pub struct SqliteKeys {
    shared: Arc<Shared>,
}

impl SqliteKeys {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl KeyStore for SqliteKeys {
    async fn get_or_create(&self, name: &str) -> Result<[u8; 32], KeyError> {
        let name = name.to_owned();
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(|error| KeyError::Unavailable(error.into()))?;
        self.shared
            .writer
            .change(move |connection| {
                let stored = connection
                    .prepare_cached("SELECT key FROM keys WHERE name = ?1")?
                    .query_row(params![name], |row| row.get(0))
                    .optional()?;
                if let Some(stored) = stored {
                    return Ok(stored);
                }
                connection
                    .prepare_cached("INSERT INTO keys VALUES (?1, ?2)")?
                    .execute(params![name, fresh])?;
                Ok(fresh)
            })
            .await
            .map_err(|failure| KeyError::Unavailable(failure.into_source()))
    }
}
