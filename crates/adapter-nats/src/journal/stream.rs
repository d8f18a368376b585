//! What the stream of a partition's journal must be like.

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use eventflow_domain::PartitionId;

use crate::NatsConfig;

/// The stream of a partition as it must be: nothing that was acknowledged may ever leave it or be changed.
pub(crate) fn needed(config: &NatsConfig, partition: PartitionId) -> Config {
    Config {
        name: format!("{}_JOURNAL_{partition}", config.upper_prefix()),
        subjects: vec![format!("{}.journal.{partition}", config.prefix)],
        description: Some("EventFlow's journal: do not purge, do not publish here".to_owned()),
        storage: StorageType::File,
        persist_mode: Some(PersistenceMode::Default),
        num_replicas: config.replicas,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        max_message_size: -1,
        deny_delete: true,
        deny_purge: true,
        allow_rollup: false,
        // Direct reads are answered by any replica, also by one that lags behind.
        allow_direct: false,
        ..Config::default()
    }
}

/// The one subject of a needed stream.
pub(super) fn subject(needed: &Config) -> String {
    needed.subjects.concat()
}
