//! Removing a store that nobody keeps.

use async_nats::Client;

use crate::{
    NatsConfig, StoreReadError,
    reader::{names, unavailable},
    stream as streams,
};

/// Removes every stream and bucket of the store with this prefix, and how many there were: all that was kept in it is
/// lost. No service may run on it. A store whose prefix is this one, `_` and more goes with it.
pub async fn remove_store(client: &Client, prefix: &str) -> Result<usize, StoreReadError> {
    streams::check_prefix(prefix)?;
    let config = NatsConfig {
        prefix: prefix.to_owned(),
        ..NatsConfig::default()
    };
    let context = config.patient_context(client);
    let names = names(&context, &config).await?;
    for name in &names {
        let removed = context.delete_stream(name).await;
        removed.map_err(unavailable("the removal of a stream"))?;
    }
    Ok(names.len())
}
