//! The `Leadership` port on the bucket `EVENTFLOW_LEASES`: a mark is the revision of a key.
//!
//! | key | value |
//! |---|---|
//! | `node.<name>` | nothing: its revision is what changes |
//! | `partition.<p>` | the name of its leader, or nothing; the key itself is never removed, so no mark comes twice |

mod watching;

use std::sync::Arc;

use async_nats::{
    Client, HeaderMap,
    header::NATS_MESSAGE_TTL,
    jetstream::{
        Context,
        kv::{self, Operation},
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{NodeName, PartitionId};
use eventflow_ports::{Held, Leadership, LeadershipError, Mark, Roll, Source};
use futures::{StreamExt as _, TryStreamExt as _, stream::iter};

use self::watching::Watching;
use crate::{NatsConfig, OpenError, bucket, stream};

/// A node that was not heard of for so long goes from the roll by itself: a node has another name after each start. Far
/// longer than anybody waits for a node, in seconds.
const NODE_STAYS_S: u64 = 3600;
/// Keys that are asked for at a time: enough to hide the way to the server and back.
const READ_AHEAD: usize = 16;

/// The roll of nodes and of what each one leads. A clone looks at the same roll with the same eyes.
#[derive(Debug, Clone)]
pub struct NatsLeadership {
    context: Context,
    bucket: kv::Store,
    watching: Arc<Watching>,
}

/// What a key of the bucket says.
enum Entry {
    Node(NodeName, Mark),
    Partition(Held),
}

impl NatsLeadership {
    /// Creates the bucket where it is not there, verifies it where it is, and watches it from then on.
    pub async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        let bucket = bucket::open_keys(client, config, "LEASES").await?;
        let watching = Arc::new(Watching::start(bucket.clone()));
        Ok(Self {
            context: config.context(client),
            bucket,
            watching,
        })
    }

    /// Writes a key where its revision is still `seen`; its new one.
    async fn update(
        &self,
        partition: PartitionId,
        value: Bytes,
        seen: Mark,
    ) -> Result<Mark, LeadershipError> {
        let updated = self.bucket.update(key(partition), value, seen.0).await;
        updated.map(Mark).map_err(|error| {
            if stream::is_stale(&error) {
                LeadershipError::Conflict
            } else {
                unavailable(error)
            }
        })
    }

    async fn entry(&self, key: &str) -> Result<Option<Entry>, LeadershipError> {
        let found = self.bucket.entry(key).await.map_err(unavailable)?;
        // A node may have left since it was listed.
        let there = found.filter(|entry| entry.operation == Operation::Put);
        let read = there.map(|entry| read(key, &entry.value, Mark(entry.revision)));
        read.transpose().map_err(|detail| {
            let bucket = &self.bucket.name;
            unavailable(format!(
                "key {key} of bucket {bucket} is not one of EventFlow's ({detail}): remove it"
            ))
        })
    }
}

#[async_trait]
impl Leadership for NatsLeadership {
    async fn announce(&self, node: &NodeName) -> Result<(), LeadershipError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_TTL, NODE_STAYS_S.to_string());
        let subject = format!("{}node.{}", self.bucket.prefix, node.as_str());
        let publish = self
            .context
            .publish_with_headers(subject, headers, Bytes::new());
        let acknowledged = publish.await.map_err(unavailable)?.await;
        acknowledged.map(|_| ()).map_err(unavailable)
    }

    async fn leave(&self, node: &NodeName) -> Result<(), LeadershipError> {
        let key = format!("node.{}", node.as_str());
        let stays = std::time::Duration::from_secs(NODE_STAYS_S);
        let left = self.bucket.purge_with_ttl(key, stays).await;
        left.map_err(unavailable)
    }

    async fn roll(&self) -> Result<Roll, LeadershipError> {
        let prefix = &self.bucket.prefix;
        let subjects = bucket::subjects(&self.bucket.stream, &format!("{prefix}>")).await;
        let subjects = subjects.map_err(LeadershipError::Unavailable)?;
        let keys = subjects
            .into_iter()
            .map(|subject| subject.replacen(prefix, "", 1));
        let mut entries = iter(keys)
            .map(|key| async move { self.entry(&key).await })
            .buffered(READ_AHEAD);
        let mut roll = Roll::default();
        while let Some(entry) = entries.try_next().await? {
            match entry {
                Some(Entry::Node(node, mark)) => roll.nodes.push((node, mark)),
                Some(Entry::Partition(held)) => roll.partitions.push(held),
                None => {}
            }
        }
        roll.partitions.sort_by_key(|held| held.partition);
        Ok(roll)
    }

    async fn take(
        &self,
        partition: PartitionId,
        node: &NodeName,
        seen: Mark,
    ) -> Result<Mark, LeadershipError> {
        let leader = Bytes::copy_from_slice(node.as_str().as_bytes());
        self.update(partition, leader, seen).await
    }

    async fn release(&self, partition: PartitionId, held: Mark) -> Result<(), LeadershipError> {
        // What was never taken is not released.
        if held == Mark::NONE {
            return Err(LeadershipError::Conflict);
        }
        self.update(partition, Bytes::new(), held).await?;
        Ok(())
    }

    async fn changed(&self) {
        self.watching.changed().await;
    }
}

fn key(partition: PartitionId) -> String {
    format!("partition.{partition}")
}

fn read(key: &str, value: &[u8], mark: Mark) -> Result<Entry, String> {
    let name = |text: &str| NodeName::parse(text).map_err(|error| error.to_string());
    match key.split_once('.') {
        Some(("node", node)) => Ok(Entry::Node(name(node)?, mark)),
        Some(("partition", partition)) => {
            let number = partition.parse().map_err(|_| "no number".to_owned())?;
            let leader = std::str::from_utf8(value).map_err(|error| error.to_string())?;
            Ok(Entry::Partition(Held {
                partition: PartitionId(number),
                leader: (!leader.is_empty()).then(|| name(leader)).transpose()?,
                mark,
            }))
        }
        _ => Err("an unknown name".to_owned()),
    }
}

fn unavailable(source: impl Into<Source>) -> LeadershipError {
    LeadershipError::Unavailable(source.into())
}
