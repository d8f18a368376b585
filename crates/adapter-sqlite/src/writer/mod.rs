//! The one writer of `journal.db`: what all partitions have ready goes into one transaction (group commit).
//!
//! No lingering: whatever is queued is committed at once, and what arrives during that commit forms the next group.

mod checkpointer;
mod failures;
mod scribe;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{AppendError, Appending};
use rusqlite::Connection;
use tokio::sync::oneshot;

use self::{
    checkpointer::Checkpointer,
    failures::{Failed, Failures, Known},
    scribe::Scribe,
};
use crate::{
    OpenError, RECORD_BYTES_MAX,
    failure::{Failure, Severity},
    health::Health,
    journal::JournalFile,
};

/// Commands that wait for the writer. A partition has a few appends in flight, so this is room for all partitions.
const QUEUE_MAX: usize = 1024;
/// Bytes of the records that wait, or are being committed.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the writer is asked to do.
enum Command {
    Append(Append),
    Change(Box<dyn Change>),
}

struct Append {
    partition: usize,
    expected: u64,
    record: Bytes,
    known: Known,
    reply: oneshot::Sender<Result<Position, Failed>>,
}

/// A change beside the records: definitions and keys.
trait Change: Send {
    /// Runs inside of the transaction.
    fn perform(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Runs after it, with its outcome.
    fn settle(self: Box<Self>, outcome: Result<(), Failure>);
}

/// A handle on the writer's thread; dropping it writes what is queued, and waits.
#[derive(Debug)]
pub(crate) struct Writer {
    /// `None` only while it is dropped.
    commands: Option<SyncSender<Command>>,
    heads: Arc<[AtomicU64]>,
    /// One per partition.
    failures: Arc<[Failures]>,
    queued_bytes: Arc<AtomicUsize>,
    health: Health,
    threads: Vec<thread::JoinHandle<()>>,
    /// Closed after the connections: closing a file releases the process's locks on it, SQLite's included.
    _database: Arc<File>,
}

impl Writer {
    /// `last` is the last position of each partition.
    pub(crate) fn start(
        file: &JournalFile,
        last: Vec<u64>,
        checkpoint_at_bytes: u64,
        health: Health,
    ) -> Result<Self, OpenError> {
        let connection = file.connect()?;
        let heads: Arc<[AtomicU64]> = last.iter().copied().map(AtomicU64::new).collect();
        let failures: Arc<[Failures]> = last.iter().map(|_| Failures::default()).collect();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let database = Arc::new(File::open(file.path()).map_err(OpenError::io(file.path()))?);

        let (checkpointer, checkpoints) = Checkpointer::start(
            file,
            Arc::clone(&database),
            checkpoint_at_bytes,
            health.clone(),
        )?;
        let (commands, queue) = sync_channel(QUEUE_MAX);
        let scribe = Scribe::new(
            connection,
            last,
            Arc::clone(&heads),
            Arc::clone(&failures),
            Arc::clone(&queued_bytes),
            checkpointer,
            health.clone(),
        )
        .map_err(OpenError::sqlite(file.path()))?;
        let writer = thread::Builder::new()
            .name("journal-writer".into())
            .spawn(move || scribe.run(&queue))
            .map_err(OpenError::io(file.path()))?;
        Ok(Self {
            commands: Some(commands),
            heads,
            failures,
            queued_bytes,
            health,
            threads: vec![writer, checkpoints],
            _database: database,
        })
    }

    /// Queues an append, in the order of the calls.
    pub(crate) fn append(
        &self,
        partition: PartitionId,
        expected: Position,
        record: Bytes,
    ) -> Appending {
        let index = self.index(partition).and_then(|index| {
            let failed = self.health.of(partition);
            failed.map_or(Ok(index), Err)
        });
        let partition = match index {
            Ok(index) => index,
            Err(failure) => return Box::pin(ready(Err(append_error(failure)))),
        };
        let (reply, answer) = oneshot::channel();
        let failures = Arc::clone(&self.failures);
        let append = Append {
            partition,
            expected: expected.0,
            record,
            known: failures[partition].known(),
            reply,
        };
        let queued = self.queue_append(append).map_err(|error| Failed {
            error,
            number: failures[partition].next(),
        });
        Box::pin(async move {
            let outcome = match queued {
                Ok(()) => answer.await.unwrap_or_else(|_| {
                    let error = append_error(Failure::broken(STOPPED));
                    Err(Failed { error, number: 0 })
                }),
                Err(failed) => Err(failed),
            };
            outcome.map_err(|failed| {
                failures[partition].tell(failed.number);
                failed.error
            })
        })
    }

    fn queue_append(&self, append: Append) -> Result<(), AppendError> {
        let bytes = append.record.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(AppendError::TooLarge {
                limit: RECORD_BYTES_MAX,
            });
        }
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(append_error(Failure::passing(FULL)));
        }
        self.queue(Command::Append(append)).map_err(|failure| {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            append_error(failure)
        })
    }

    /// Makes a change in the next transaction, and answers when it is durable.
    pub(crate) async fn change<R: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, Failure> {
        let (reply, answer) = oneshot::channel();
        self.queue(Command::Change(Box::new(Once {
            change: Some(change),
            result: None,
            reply,
        })))?;
        answer
            .await
            .unwrap_or_else(|_| Err(Failure::broken(STOPPED)))
    }

    /// The last acknowledged position of each partition, as it moves.
    pub(crate) fn heads(&self) -> Arc<[AtomicU64]> {
        Arc::clone(&self.heads)
    }

    /// The last acknowledged position.
    pub(crate) fn head(&self, partition: PartitionId) -> Result<Position, Failure> {
        let index = self.index(partition)?;
        Ok(Position(self.heads[index].load(Ordering::Acquire)))
    }

    fn index(&self, partition: PartitionId) -> Result<usize, Failure> {
        let index = usize::from(partition.0);
        if index < self.heads.len() {
            return Ok(index);
        }
        Err(Failure::broken(&format!(
            "there is no partition {partition}: the store has {}",
            self.heads.len()
        )))
    }

    fn queue(&self, command: Command) -> Result<(), Failure> {
        let Some(commands) = &self.commands else {
            return Err(Failure::broken(STOPPED));
        };
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Failure::passing(FULL),
            TrySendError::Disconnected(_) => Failure::broken(STOPPED),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.commands = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the journal has panicked");
            }
        }
    }
}

const STOPPED: &str = "the journal's writer has stopped";
const FULL: &str = "the journal's queue is full: the disk does not keep up";

pub(crate) fn append_error(failure: Failure) -> AppendError {
    match failure.severity() {
        Severity::Passing => AppendError::Unavailable(failure.into_source()),
        Severity::Broken => AppendError::Fatal(failure.into_source()),
    }
}

/// A change from a closure.
struct Once<F, R> {
    change: Option<F>,
    result: Option<R>,
    reply: oneshot::Sender<Result<R, Failure>>,
}

impl<F, R> Change for Once<F, R>
where
    F: FnOnce(&Connection) -> rusqlite::Result<R> + Send,
    R: Send,
{
    fn perform(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(change) = self.change.take() {
            self.result = Some(change(connection)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), Failure>) {
        let Self { result, reply, .. } = *self;
        let result = outcome
            .and_then(|()| result.ok_or_else(|| Failure::broken("a change was not performed")));
        // The caller may be gone; what was done stays done.
        let _ = reply.send(result);
    }
}
