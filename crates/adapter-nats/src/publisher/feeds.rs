//! How far each partition has been published: the bucket `<PREFIX>_FEEDS`.

use std::collections::HashMap;

use async_nats::{
    Client,
    jetstream::kv::{self, UpdateErrorKind},
};
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::PublishError;
use tokio::sync::Mutex;

use super::{soft, unavailable};
use crate::{NatsConfig, OpenError, bucket};

/// How often a position is compared and written again where another node writes it as well: the one that leads does so
/// for ever, the one that led before for a moment.
const WRITES_MAX: usize = 16;

/// A position, and the revision of its key.
#[derive(Debug, Clone, Copy, Default)]
struct Feed {
    position: Position,
    revision: u64,
}

#[derive(Debug)]
pub(super) struct Feeds {
    bucket: kv::Store,
    /// As they were last seen; another node may have written them since.
    known: Mutex<HashMap<PartitionId, Feed>>,
}

impl Feeds {
    pub(super) async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        Ok(Self {
            bucket: bucket::open_keys_as(client, config, "FEEDS", soft(config)).await?,
            known: Mutex::default(),
        })
    }

    pub(super) async fn position(&self, partition: PartitionId) -> Result<Position, PublishError> {
        Ok(self.look(partition).await?.position)
    }

    /// Writes a position that is higher than what is there.
    pub(super) async fn advance(
        &self,
        partition: PartitionId,
        through: Position,
    ) -> Result<(), PublishError> {
        let known = self.known.lock().await.get(&partition).copied();
        let mut feed = match known {
            Some(feed) => feed,
            None => self.look(partition).await?,
        };
        for _ in 0..WRITES_MAX {
            if feed.position >= through {
                return Ok(());
            }
            let value = through.to_string().into();
            match self
                .bucket
                .update(key(partition), value, feed.revision)
                .await
            {
                Ok(revision) => {
                    let position = through;
                    let feed = Feed { position, revision };
                    self.known.lock().await.insert(partition, feed);
                    return Ok(());
                }
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                    feed = self.look(partition).await?;
                }
                Err(error) => {
                    // It may be written: the next batch looks.
                    self.known.lock().await.remove(&partition);
                    return Err(unavailable(error));
                }
            }
        }
        Err(unavailable(format!(
            "the position of partition {partition} in bucket {} is written by others all the time",
            self.bucket.name
        )))
    }

    async fn look(&self, partition: PartitionId) -> Result<Feed, PublishError> {
        let entry = self
            .bucket
            .entry(key(partition))
            .await
            .map_err(unavailable)?;
        let feed = match entry {
            None => Feed::default(),
            Some(entry) => Feed {
                position: position(&entry).ok_or_else(|| {
                    unavailable(format!(
                        "key {} of bucket {} is no position: delete it, and everything is published again",
                        entry.key, self.bucket.name
                    ))
                })?,
                revision: entry.revision,
            },
        };
        self.known.lock().await.insert(partition, feed);
        Ok(feed)
    }
}

fn key(partition: PartitionId) -> String {
    format!("partition.{partition}")
}

/// 0 where the key was deleted.
fn position(entry: &kv::Entry) -> Option<Position> {
    if entry.operation != kv::Operation::Put {
        return Some(Position(0));
    }
    let text = std::str::from_utf8(&entry.value).ok()?;
    text.parse().ok().map(Position)
}
