//! A store read from outside, whether or not services run on it: nothing is made there, and nothing of it is changed.
//!
//! Its partitions are those whose streams are there. A journal's stream is read message by message, with what the server
//! keeps beside each record, so that a message of somebody else is seen as what it is.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::{
    Client,
    jetstream::{
        Context,
        kv::{self, Operation},
        message::StreamMessage,
        stream::{Config, Info, PersistenceMode, Stream},
    },
};
use bytes::Bytes;
use eventflow_domain::{Digest, Json, PartitionId, Position, Tenant, Timestamp};
use eventflow_ports::{DefinitionStore as _, ReadError, ReadLimit, Source};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Difference, NatsBlobs, NatsConfig, NatsDefinitions, OpenError, bucket,
    journal::{
        self,
        reading::{self, READ_AHEAD},
    },
    objects::Objects,
    stream as streams,
};

/// Streams of one account that are looked at; each of ours is among the first, for the server sorts them by name.
const STREAMS_MAX: usize = 100_000;

/// A store that is read from outside.
#[derive(Debug)]
pub struct NatsReader {
    context: Context,
    config: NatsConfig,
    names: BTreeSet<String>,
    definitions: Option<NatsDefinitions>,
    blobs: Option<NatsBlobs>,
    leases: Option<kv::Store>,
}

/// A message of a journal's stream, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its sequence.
    pub position: Position,
    /// Its payload: a record, if it is one of ours.
    pub record: Bytes,
    /// Where it was published.
    pub subject: String,
    /// When the server took it.
    pub at: Timestamp,
    /// All headers, each as often as it is there.
    pub headers: BTreeMap<String, Vec<String>>,
}

/// A stream of the store and what it is like.
#[derive(Debug, Clone)]
pub struct StreamFound {
    /// Its name.
    pub name: String,
    /// How many messages it has, and their bytes; nothing where it is not there.
    pub holds: Option<(u64, u64)>,
    /// All settings that are not as needed, where it is known what is.
    pub differences: Vec<Difference>,
}

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreReadError {
    /// The prefix is none.
    #[error(transparent)]
    Prefix(#[from] OpenError),
    /// Nothing is kept there.
    #[error(
        "NATS server {server} holds no store with the prefix `{prefix}`: start a service on it, or say another prefix or account"
    )]
    NoStore {
        /// Its name.
        server: String,
        /// As it was given.
        prefix: String,
    },
    /// Try again later.
    #[error("NATS JetStream did not answer when asked for {what}: {cause}")]
    Unavailable {
        /// What it was asked for.
        what: String,
        /// What happened.
        cause: Source,
    },
}

/// An error of something that was asked for.
pub(crate) fn unavailable<E: Into<Source>>(what: &str) -> impl FnOnce(E) -> StoreReadError {
    move |error| StoreReadError::Unavailable {
        what: what.to_owned(),
        cause: error.into(),
    }
}

impl NatsReader {
    /// Recognises the store with this prefix.
    pub async fn open(client: &Client, prefix: &str) -> Result<Self, StoreReadError> {
        streams::check_prefix(prefix)?;
        let mut config = NatsConfig {
            prefix: prefix.to_owned(),
            partitions: 0,
            ..NatsConfig::default()
        };
        let context = config.patient_context(client);
        let names = names(&context, &config).await?;
        config.partitions = partitions(&names, &config);
        let first = names.iter().find(|name| number(name, &config).is_some());
        let Some(first) = first else {
            return Err(StoreReadError::NoStore {
                server: client.server_info().server_name,
                prefix: prefix.to_owned(),
            });
        };
        let found = context.get_stream(first).await;
        let found = found.map_err(unavailable(first))?;
        config.replicas = found.cached_info().config.num_replicas;
        let mut reader = Self {
            context,
            config,
            names,
            definitions: None,
            blobs: None,
            leases: None,
        };
        reader.definitions = reader.keys("DEFINITIONS").await?.map(NatsDefinitions::on);
        reader.leases = reader.keys("LEASES").await?;
        reader.blobs = reader.objects("BLOBS").await?.map(NatsBlobs::on);
        Ok(reader)
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u16 {
        self.config.partitions
    }

    /// The configuration that its services have, as far as the streams tell.
    pub fn config(&self) -> &NatsConfig {
        &self.config
    }

    /// The last message of a partition, and what is wrong with its stream as a whole, if anything is.
    pub async fn head(
        &self,
        partition: PartitionId,
    ) -> Result<(Position, Option<String>), StoreReadError> {
        let needed = journal::needed(&self.config, partition);
        let Some(found) = self.info(&needed.name).await? else {
            let gone = format!(
                "its stream {} is not there: restore it from a backup, or run `eventflow journal quarantine` again \
                 where that was begun and not ended",
                needed.name
            );
            return Ok((Position(0), Some(gone)));
        };
        let closed = (found.config.subjects != needed.subjects).then(|| {
            format!(
                "nothing can be written to it: its stream {} has the subjects {:?}, not {:?}; run `eventflow journal \
                 quarantine` again where that was begun and not ended",
                needed.name, found.config.subjects, needed.subjects
            )
        });
        Ok((Position(found.state.last_sequence), closed))
    }

    /// The next messages after a position, up to the last one as it is now; those that are gone are not among them. Empty
    /// at the end.
    pub async fn messages(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<StoredMessage>, ReadError> {
        let stream = self.journal(partition).await?;
        messages(&stream, after, limit).await
    }

    /// A tenant's document by its digest.
    pub async fn document(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<Json>, Source> {
        let Some(definitions) = &self.definitions else {
            return Ok(None);
        };
        let found = definitions.by_digest(tenant, digest).await?;
        Ok(found.map(|definition| definition.document))
    }

    /// Whether a tenant has this large value.
    pub async fn has_blob(&self, tenant: &Tenant, digest: &Digest) -> Result<bool, Source> {
        match &self.blobs {
            Some(blobs) => Ok(blobs.holds(tenant, digest).await?),
            None => Ok(false),
        }
    }

    /// The node that leads a partition, or led it when it died, as the bucket of leases says.
    pub async fn leader(&self, partition: PartitionId) -> Result<Option<String>, Source> {
        let Some(leases) = &self.leases else {
            return Ok(None);
        };
        let entry = leases.entry(format!("partition.{partition}")).await?;
        let held =
            entry.filter(|entry| entry.operation == Operation::Put && !entry.value.is_empty());
        Ok(held.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
    }

    /// Every stream of the store, and those that a service would make.
    pub async fn streams(&self) -> Result<Vec<StreamFound>, StoreReadError> {
        let mut needed = needed(&self.config);
        for name in &self.names {
            needed.entry(name.clone()).or_insert(None);
        }
        let mut found = Vec::with_capacity(needed.len());
        for (name, needed) in needed {
            let info = self.info(&name).await?;
            let differences = match (&info, &needed) {
                (Some(info), Some(needed)) => streams::differences(needed, &info.config),
                _ => Vec::new(),
            };
            found.push(StreamFound {
                name,
                holds: info.map(|info| (info.state.messages, info.state.bytes)),
                differences,
            });
        }
        Ok(found)
    }

    /// A bucket of objects, where it is there.
    pub(crate) async fn objects(&self, name: &str) -> Result<Option<Objects>, StoreReadError> {
        let needed = bucket::needed_objects(&self.config, name);
        if !self.names.contains(&needed.name) {
            return Ok(None);
        }
        let stream = self.context.get_stream_no_info(&needed.name).await;
        let stream = stream.map_err(unavailable(&needed.name))?;
        let bucket = bucket::bucket(&self.config, name);
        Ok(Some(Objects::new((self.context.clone(), stream, bucket))))
    }

    async fn keys(&self, name: &str) -> Result<Option<kv::Store>, StoreReadError> {
        let needed = bucket::needed_keys(&self.config, name, PersistenceMode::Default);
        if !self.names.contains(&needed.name) {
            return Ok(None);
        }
        let bucket = bucket::bucket(&self.config, name);
        let store = self.context.get_key_value(bucket).await;
        store.map(Some).map_err(unavailable(&needed.name))
    }

    async fn journal(&self, partition: PartitionId) -> Result<Stream<()>, ReadError> {
        let name = journal::needed(&self.config, partition).name;
        let stream = self.context.get_stream_no_info(name).await;
        stream.map_err(|error| ReadError::Unavailable(error.into()))
    }

    async fn info(&self, name: &str) -> Result<Option<Info>, StoreReadError> {
        info(&self.context, name).await
    }
}

/// What a stream is like; nothing where it is not there.
pub(crate) async fn info(context: &Context, name: &str) -> Result<Option<Info>, StoreReadError> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if streams::is_not_found(&error) => Ok(None),
        Err(error) => Err(unavailable(name)(error)),
    }
}

/// The messages of a journal's stream after a position that are there, up to the last one as it is now.
pub(crate) async fn messages(
    stream: &Stream<()>,
    after: Position,
    limit: ReadLimit,
) -> Result<Vec<StoredMessage>, ReadError> {
    let most = u64::try_from(limit.records.max(1)).unwrap_or(u64::MAX);
    let last = reading::head(stream).await?.0;
    let mut from = after.0;
    let mut page = Vec::new();
    let mut bytes = 0;
    // More than once only where all of a page is gone.
    while page.is_empty() && from < last {
        let until = last.min(from.saturating_add(most));
        let mut found = stream::iter(from + 1..=until)
            .map(|position| reading::message(stream, Position(position)))
            .buffered(READ_AHEAD);
        while let Some(message) = found.try_next().await? {
            let Some(message) = message.map(StoredMessage::from) else {
                continue;
            };
            bytes += message.record.len();
            page.push(message);
            if bytes >= limit.bytes {
                break;
            }
        }
        from = until;
    }
    Ok(page)
}

impl From<StreamMessage> for StoredMessage {
    fn from(message: StreamMessage) -> Self {
        let ms = message.time.unix_timestamp_nanos() / 1_000_000;
        let text = |values: &Vec<async_nats::HeaderValue>| {
            values.iter().map(ToString::to_string).collect()
        };
        let headers = message.headers.iter();
        Self {
            position: Position(message.sequence),
            record: message.payload,
            subject: message.subject.to_string(),
            at: Timestamp(i64::try_from(ms).unwrap_or(i64::MAX)),
            headers: headers
                .map(|(name, values)| (name.to_string(), text(values)))
                .collect(),
        }
    }
}

/// The names of all streams that begin as the store's do.
pub(crate) async fn names(
    context: &Context,
    config: &NatsConfig,
) -> Result<BTreeSet<String>, StoreReadError> {
    let prefix = config.upper_prefix();
    let begins = ["", "KV_", "OBJ_"].map(|kind| format!("{kind}{prefix}_"));
    let all: Vec<String> = context
        .stream_names()
        .take(STREAMS_MAX)
        .try_collect()
        .await
        .map_err(unavailable("the names of streams"))?;
    let ours = all
        .into_iter()
        .filter(|name| begins.iter().any(|begin| name.starts_with(begin)));
    Ok(ours.collect())
}

/// The partition whose journal a stream is, or was when it began to be made again.
fn number(name: &str, config: &NatsConfig) -> Option<u16> {
    let rest = name.strip_prefix(&format!("{}_", config.upper_prefix()))?;
    let number = rest
        .strip_prefix("JOURNAL_")
        .or(rest.strip_prefix("REMADE_"));
    number?.parse().ok()
}

fn partitions(names: &BTreeSet<String>, config: &NatsConfig) -> u16 {
    let numbers = names.iter().filter_map(|name| number(name, config));
    numbers.max().map_or(0, |last| last.saturating_add(1))
}

/// What is known to be needed, by name.
fn needed(config: &NatsConfig) -> BTreeMap<String, Option<Config>> {
    let journals = (0..config.partitions).map(|id| journal::needed(config, PartitionId(id)));
    let keys = ["DEFINITIONS", "KEYS", "LEASES"]
        .map(|name| bucket::needed_keys(config, name, PersistenceMode::Default));
    let objects = ["BLOBS", "VIEWS"].map(|name| bucket::needed_objects(config, name));
    journals
        .chain(keys)
        .chain(objects)
        .map(|needed| (needed.name.clone(), Some(needed)))
        .collect()
}
