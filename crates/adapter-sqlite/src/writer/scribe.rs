//! The writer's thread: takes what is queued, commits it, answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
    mpsc::Receiver,
};

use eventflow_domain::Position;
use eventflow_ports::AppendError;
use rusqlite::{Connection, params};

use super::{
    Append, Command, append_error,
    checkpointer::Checkpointer,
    failures::{Failed, Failures},
};
use crate::{
    failure::{Failure, Severity},
    health::Health,
    journal::copy_back,
    sql,
};

/// Metrics of the journal's own.
const FSYNCS: &str = "eventflow_journal_fsyncs_total";
const COMMIT: &str = "eventflow_journal_commit_seconds";

/// Commands of one transaction: the first of them is not to wait for longer than some milliseconds.
const GROUP_MAX: usize = 256;
/// Bytes of records after which a transaction takes no further one, for the same reason.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) struct Scribe {
    connection: Connection,
    /// One per partition.
    inserts: Vec<String>,
    /// The last positions as of the last commit.
    heads: Vec<u64>,
    /// The same with what the current transaction adds.
    next_heads: Vec<u64>,
    /// What others see: only what is committed.
    published: Arc<[AtomicU64]>,
    failures: Arc<[Failures]>,
    /// The number of the last append of each partition that failed here.
    last_failed: Vec<u64>,
    queued_bytes: Arc<AtomicUsize>,
    checkpointer: Checkpointer,
    health: Health,
    /// Once set, nothing is written any more.
    broken: Option<Failure>,
    /// The last group found no room, and this was said.
    is_held_up: bool,
}

/// Says what they are, for whoever scrapes them.
fn describe_metrics() {
    metrics::describe_counter!(FSYNCS, "Commits of the journal: each is one fsync");
    metrics::describe_histogram!(
        COMMIT,
        metrics::Unit::Seconds,
        "One commit of everything that all partitions had ready, its fsync included"
    );
}

impl Scribe {
    pub(super) fn new(
        mut connection: Connection,
        heads: Vec<u64>,
        published: Arc<[AtomicU64]>,
        failures: Arc<[Failures]>,
        queued_bytes: Arc<AtomicUsize>,
        checkpointer: Checkpointer,
        health: Health,
    ) -> rusqlite::Result<Self> {
        describe_metrics();
        checkpointer.watch(&mut connection)?;
        let inserts = (0..heads.len())
            .map(|partition| format!("INSERT INTO records_{partition} VALUES (?1, ?2)"))
            .collect();
        Ok(Self {
            connection,
            inserts,
            next_heads: heads.clone(),
            last_failed: vec![0; heads.len()],
            heads,
            published,
            failures,
            queued_bytes,
            checkpointer,
            health,
            broken: None,
            is_held_up: false,
        })
    }

    pub(super) fn run(mut self, queue: &Receiver<Command>) {
        while let Ok(first) = queue.recv() {
            let group = take_group(first, queue);
            self.carry_out(group);
            self.tend_wal();
        }
        if self.broken.is_none()
            && let Err(failure) = copy_back(&self.connection)
        {
            // The WAL still holds everything.
            tracing::warn!(%failure, "no checkpoint when closing the journal");
        }
    }

    fn carry_out(&mut self, group: Vec<Command>) {
        let mut conflicts = vec![false; group.len()];
        let mut group = group;
        let outcome = self.commit(&mut group, &mut conflicts);
        match &outcome {
            Ok(()) => {
                for (published, head) in self.published.iter().zip(&self.next_heads) {
                    published.store(*head, Ordering::Release);
                }
                self.heads.copy_from_slice(&self.next_heads);
            }
            Err(_) => self.next_heads.copy_from_slice(&self.heads),
        }
        for (command, conflict) in group.into_iter().zip(conflicts) {
            match command {
                Command::Change(change) => change.settle(outcome.clone()),
                Command::Append(append) => {
                    self.queued_bytes
                        .fetch_sub(append.record.len(), Ordering::Relaxed);
                    self.settle(append, conflict, &outcome);
                }
            }
        }
    }

    /// All of the group in one transaction, or nothing of it; what conflicts takes no part.
    fn commit(&mut self, group: &mut [Command], conflicts: &mut [bool]) -> Result<(), Failure> {
        if let Some(failure) = self.broken.clone().or_else(|| self.checkpointer.broken()) {
            self.broken = Some(failure.clone());
            return Err(failure);
        }
        let Err(error) = self.transact(group, conflicts) else {
            if std::mem::take(&mut self.is_held_up) {
                tracing::info!("the journal writes again");
            }
            return Ok(());
        };
        let failure = Failure::sqlite("writing to journal.db", &error);
        let rolled_back = self.roll_back();
        if failure.severity() == Severity::Broken || rolled_back.is_err() {
            return Err(self.give_up(&failure));
        }
        if !std::mem::replace(&mut self.is_held_up, true) {
            tracing::warn!(%failure, "the journal cannot write: nothing is taken until it can");
        }
        Err(failure)
    }

    /// What failed is never tried again: the operating system may have dropped what it could not write.
    fn give_up(&mut self, failure: &Failure) -> Failure {
        let broken = Failure::broken(&failure.to_string());
        self.health.fail_all(&broken);
        self.broken = Some(broken.clone());
        broken
    }

    fn transact(&mut self, group: &mut [Command], conflicts: &mut [bool]) -> rusqlite::Result<()> {
        let mut begun = false;
        for (command, conflict) in group.iter_mut().zip(conflicts) {
            if let Command::Append(append) = command {
                let missed = append.known.missed(self.last_failed[append.partition]);
                *conflict =
                    missed.is_some() || append.expected != self.next_heads[append.partition];
                if *conflict {
                    self.count_failure(append);
                    continue;
                }
            }
            if !begun {
                self.execute("BEGIN IMMEDIATE")?;
                begun = true;
            }
            match command {
                Command::Append(append) => self.insert(append)?,
                Command::Change(change) => change.perform(&self.connection)?,
            }
        }
        if begun {
            let since = std::time::Instant::now();
            self.execute("COMMIT")?;
            // With `synchronous=FULL` a commit is one fsync of the WAL.
            metrics::counter!(FSYNCS).increment(1);
            metrics::histogram!(COMMIT).record(since.elapsed());
        }
        Ok(())
    }

    fn insert(&mut self, append: &Append) -> rusqlite::Result<()> {
        let head = &mut self.next_heads[append.partition];
        *head += 1;
        self.connection
            .prepare_cached(&self.inserts[append.partition])?
            .execute(params![sql::integer(*head), &append.record[..]])?;
        Ok(())
    }

    fn roll_back(&self) -> rusqlite::Result<()> {
        // Some failures have rolled back already.
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.execute("ROLLBACK")
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    fn settle(&mut self, append: Append, conflict: bool, outcome: &Result<(), Failure>) {
        let result = match outcome {
            _ if conflict => Err(AppendError::Conflict),
            Ok(()) => Ok(Position(append.expected + 1)),
            Err(failure) => Err(append_error(failure.clone())),
        };
        if result.is_err() && !conflict {
            self.count_failure(&append);
        }
        let result = result.map_err(|error| Failed {
            error,
            number: self.last_failed[append.partition],
        });
        // The caller may be gone; what was written stays written.
        let _ = append.reply.send(result);
    }

    fn count_failure(&mut self, append: &Append) {
        let last_failed = &mut self.last_failed[append.partition];
        let missed = append.known.missed(*last_failed);
        *last_failed = missed.unwrap_or_else(|| self.failures[append.partition].next());
    }

    /// After the answers: asks for a checkpoint, or does the rest of one here.
    fn tend_wal(&mut self) {
        if self.broken.is_none()
            && let Err(failure) = self.checkpointer.tend(&self.connection)
        {
            match failure.severity() {
                Severity::Broken => {
                    self.give_up(&failure);
                }
                Severity::Passing => {
                    tracing::warn!(%failure, "the journal's checkpoint has to wait");
                }
            }
        }
    }
}

fn take_group(first: Command, queue: &Receiver<Command>) -> Vec<Command> {
    let mut bytes = size(&first);
    let mut group = vec![first];
    while group.len() < GROUP_MAX
        && bytes < GROUP_BYTES_MAX
        && let Ok(next) = queue.try_recv()
    {
        bytes += size(&next);
        group.push(next);
    }
    group
}

fn size(command: &Command) -> usize {
    match command {
        Command::Append(append) => append.record.len(),
        Command::Change(_) => 0,
    }
}
