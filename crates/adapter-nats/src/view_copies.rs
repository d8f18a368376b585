//! The `ViewCopies` port on the Object Store `EVENTFLOW_VIEWS`: one object per partition, whose line is moved to a newer
//! copy once all of that is stored.
//!
//! The chunks of a copy lie at `<partition>.<through>.<random>`. The copy that was the newest before stays for who reads
//! it; whatever is older goes when the next one is put, also what a node that died left behind.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_nats::Client;
use async_trait::async_trait;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{ViewCopies, ViewCopyError};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
    time::sleep,
};

use crate::{
    NatsConfig, OpenError,
    bucket::{self, LOOK_AGAIN, TRIES_MAX},
    objects::{Line, ObjectError, Objects, Written, digest_text, through},
};

/// Newer copies that may be put while one is being read: they come minutes apart.
const READS_MAX: usize = 5;

/// The newest copy of each partition's view.
#[derive(Debug, Clone)]
pub struct NatsViewCopies {
    objects: Objects,
}

impl NatsViewCopies {
    /// Creates the bucket where it is not there, and verifies it where it is.
    pub async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        let objects = Objects::new(bucket::open_objects(client, config, "VIEWS").await?);
        Ok(Self { objects })
    }

    /// Moves the line to what was written; the copy that it pointed at before, or nothing where there is none or the
    /// newest copy is not behind.
    async fn move_line(
        &self,
        partition: PartitionId,
        reflects: Position,
        written: &Written,
    ) -> Result<Moved, ViewCopyError> {
        let name = name(partition);
        for _ in 0..TRIES_MAX {
            let newest = self.find(partition).await?;
            let before = newest.as_ref().map_or(Position(0), reflected);
            if before >= reflects {
                return Ok(Moved::Not);
            }
            let revision = newest.map_or(0, |line| line.revision);
            let point = self
                .objects
                .point(&name, written, Some(reflects.0), revision);
            if point.await.map_err(ViewCopyError::Unavailable)? {
                return Ok(Moved::From(before));
            }
            sleep(LOOK_AGAIN).await;
        }
        Err(ViewCopyError::Unavailable(
            format!("other nodes put copies of {name} {TRIES_MAX} times meanwhile").into(),
        ))
    }

    async fn find(&self, partition: PartitionId) -> Result<Option<Line>, ViewCopyError> {
        let found = self.objects.find(&name(partition)).await;
        found.map_err(ViewCopyError::Unavailable)
    }

    /// Removes every copy that is older than the one before.
    async fn sweep(&self, partition: PartitionId, before: Position) {
        match self.objects.chunks_within(&format!("{partition}.")).await {
            Ok(places) => {
                for place in places.iter().filter(|place| is_older(place, before)) {
                    self.objects.remove(place).await;
                }
            }
            // The next copy's sweep finds them as well.
            Err(error) => {
                tracing::warn!(%partition, %error, "old copies of a view were not removed");
            }
        }
    }

    /// Writes the newest copy to a file that may be there and is not finished; its position, or nothing.
    async fn read_newest(
        &self,
        partition: PartitionId,
        unfinished: &Path,
    ) -> Result<Option<Position>, ViewCopyError> {
        let mut last = 0;
        for _ in 0..READS_MAX {
            let Some(line) = self.find(partition).await? else {
                return Ok(None);
            };
            if line.revision == last {
                break;
            }
            last = line.revision;
            let mut file = File::create(unfinished)
                .await
                .map_err(ViewCopyError::File)?;
            match self.objects.read(&line.object, &mut file).await {
                Ok(digest) if line.object.digest == Some(digest_text(&digest)) => {
                    file.flush().await.map_err(ViewCopyError::File)?;
                    return Ok(Some(reflected(&line)));
                }
                // Or removed meanwhile, for newer ones: look again.
                Ok(_) | Err(ObjectError::Gone) => {}
                Err(ObjectError::Io(error)) => return Err(ViewCopyError::File(error)),
                Err(error) => return Err(ViewCopyError::Unavailable(error.into())),
            }
        }
        Err(ViewCopyError::Corrupt { partition })
    }
}

/// What became of a line.
enum Moved {
    /// It points at a copy that is not behind.
    Not,
    /// It pointed at a copy of this position.
    From(Position),
}

#[async_trait]
impl ViewCopies for NatsViewCopies {
    async fn put(
        &self,
        partition: PartitionId,
        through: Position,
        file: &Path,
    ) -> Result<(), ViewCopyError> {
        if self.newest(partition).await? >= through {
            return Ok(());
        }
        let mut file = File::open(file).await.map_err(ViewCopyError::File)?;
        let within = format!("{partition}.{through}.");
        let written = self.objects.write(&within, &mut file).await;
        let written = match written {
            Ok(written) => written,
            // Another node's sweep took it for one of the old ones, which it is by now.
            Err(ObjectError::Gone) if self.newest(partition).await? >= through => return Ok(()),
            Err(ObjectError::Io(error)) => return Err(ViewCopyError::File(error)),
            Err(error) => return Err(ViewCopyError::Unavailable(error.into())),
        };
        // What was written stays where this fails: maybe the line points at it. A later sweep knows.
        match self.move_line(partition, through, &written).await? {
            Moved::From(before) => self.sweep(partition, before).await,
            Moved::Not => self.objects.remove(&written.chunks_at).await,
        }
        Ok(())
    }

    async fn newest(&self, partition: PartitionId) -> Result<Position, ViewCopyError> {
        let found = self.find(partition).await?;
        Ok(found.as_ref().map_or(Position(0), reflected))
    }

    async fn get(
        &self,
        partition: PartitionId,
        file: &Path,
    ) -> Result<Option<Position>, ViewCopyError> {
        if fs::try_exists(file).await.map_err(ViewCopyError::File)? {
            let there = io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} exists: nothing is overwritten", file.display()),
            );
            return Err(ViewCopyError::File(there));
        }
        let mut unfinished = file.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let read = self.read_newest(partition, &unfinished).await;
        if let Ok(Some(_)) = &read {
            let renamed = fs::rename(&unfinished, file).await;
            renamed.map_err(ViewCopyError::File)?;
        } else {
            // It may not be there; where it stays, its name says what it is.
            let _ = fs::remove_file(&unfinished).await;
        }
        read
    }
}

fn name(partition: PartitionId) -> String {
    format!("partition-{partition}")
}

/// The position that a copy reflects. A line that says none is no copy of ours: any is newer.
fn reflected(line: &Line) -> Position {
    Position(through(&line.object).unwrap_or_default())
}

/// Whether chunks at `<partition>.<through>.<random>` belong to a copy that is older than this position.
fn is_older(place: &str, than: Position) -> bool {
    let through = place.split('.').nth(1).and_then(|text| text.parse().ok());
    through.is_some_and(|through: u64| through < than.0)
}
