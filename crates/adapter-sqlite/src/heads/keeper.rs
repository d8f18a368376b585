//! Keeps `journal.heads`: a thread that looks each second, so that no commit waits for it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use eventflow_domain::{PartitionId, Position};
use rusqlite::Connection;

use super::{Head, Heads, check::digest, file};
use crate::{
    OpenError,
    failure::{Failure, Severity},
    health::Health,
};

/// How old what the file says may be: what is lost of a later time cannot be told from what was never written.
const EVERY: Duration = Duration::from_secs(1);

/// A handle on the thread; dropping it writes the last heads, and waits.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// `None` only while it is dropped.
    stop: Option<SyncSender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Kept {
    directory: PathBuf,
    connection: Connection,
    /// Of every partition, as far as it is synced.
    durable: Arc<[AtomicU64]>,
    written: Heads,
    /// What `written` was compared with: a head that has not moved since says nothing new.
    seen: Vec<u64>,
    health: Health,
    /// The last try has failed, and this was said.
    is_behind: bool,
}

impl Keeper {
    /// `written` is what the file says now; it is not changed where a partition has failed.
    pub(crate) fn start(
        directory: PathBuf,
        connection: Connection,
        durable: Arc<[AtomicU64]>,
        written: Heads,
        health: Health,
    ) -> Result<Self, OpenError> {
        let path = directory.clone();
        let (stop, stopped) = sync_channel(1);
        let kept = Kept {
            directory,
            connection,
            seen: positions(&durable),
            durable,
            written,
            health,
            is_behind: false,
        };
        let thread = thread::Builder::new()
            .name("journal-heads".into())
            .spawn(move || kept.run(&stopped))
            .map_err(OpenError::io(&path))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that keeps the journal's heads has panicked");
        }
    }
}

impl Kept {
    fn run(mut self, stopped: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
            self.keep();
        }
        self.keep();
    }

    fn keep(&mut self) {
        match self.write() {
            Ok(()) => self.is_behind = false,
            Err(failure) if failure.severity() == Severity::Broken => {
                self.health.fail_all(&failure);
            }
            Err(failure) => {
                if !std::mem::replace(&mut self.is_behind, true) {
                    tracing::warn!(%failure, "the journal's heads cannot be written, trying again each second");
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        let positions = positions(&self.durable);
        if positions == self.seen {
            return Ok(());
        }
        let mut heads = self.written.clone();
        for (index, head) in (0..).zip(&mut heads) {
            let (partition, position) = (PartitionId(index), positions[usize::from(index)]);
            if position != self.seen[usize::from(index)] && self.health.of(partition).is_none() {
                *head = Some(self.head(partition, Position(position))?);
            }
        }
        file::write(&self.directory, &heads)
            .map_err(|error| Failure::io("writing journal.heads", &error))?;
        (self.written, self.seen) = (heads, positions);
        Ok(())
    }

    fn head(&self, partition: PartitionId, position: Position) -> Result<Head, Failure> {
        let record = digest(&self.connection, partition, position)
            .map_err(|error| Failure::sqlite("reading back from journal.db", &error))?;
        let record = record.ok_or_else(|| {
            Failure::broken(&format!(
                "record {position} of partition {partition} has gone from journal.db"
            ))
        })?;
        Ok(Head { position, record })
    }
}

fn positions(durable: &[AtomicU64]) -> Vec<u64> {
    let load = |position: &AtomicU64| position.load(Ordering::Acquire);
    durable.iter().map(load).collect()
}
