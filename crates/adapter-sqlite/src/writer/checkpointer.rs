//! Checkpoints: the WAL goes back into `journal.db` on a thread of its own, so that commits do not wait for it.
//!
//! SQLite restarts a WAL at its beginning once all of it has been copied back. While commits go on, a copy is always a
//! little behind; the writer then copies the small rest itself, between two commits. The bulk was copied and synced
//! before, so that takes about as long as a commit.

use std::{
    fs::File,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, hooks::Wal};

use crate::{
    OpenError,
    failure::{Failure, Severity},
    health::Health,
    journal::{JournalFile, copy_back},
    sql,
};

/// Passes of one checkpoint: the second copies what was committed during the first, much less.
const PASSES: usize = 2;
/// When the WAL is so many times larger than where a checkpoint begins, commits wait for it: the disk does not keep up.
const WAL_FACTOR_MAX: u32 = 8;
/// How long they wait: by then a working disk has copied all of a WAL of that size.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// After a checkpoint that found the disk full: each try writes until there is no room, and there may be none for long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where the current checkpoint stands.
#[derive(Debug, Clone)]
enum State {
    Idle,
    /// The checkpointer is at it.
    Running,
    /// The writer is to copy what was committed meanwhile.
    RestIsLeft,
    /// There was no room; not again before.
    Waiting(Instant),
    Broken(Failure),
}

#[derive(Debug)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

impl Progress {
    fn get(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.get() = state;
        self.changed.notify_all();
    }

    fn wait_while_running(&self) {
        // Whether it is done or not, the writer goes on and looks at the state again.
        let _ = self
            .changed
            .wait_timeout_while(self.get(), WAIT_MAX, |state| {
                matches!(state, State::Running)
            });
    }
}

/// The writer's side.
pub(super) struct Checkpointer {
    ask: SyncSender<()>,
    progress: Arc<Progress>,
    /// Pages in the WAL after the last commit.
    wal_pages: Arc<AtomicU32>,
    begin_at_pages: u32,
}

impl Checkpointer {
    pub(super) fn start(
        file: &JournalFile,
        database: Arc<File>,
        begin_at_bytes: u64,
        health: Health,
    ) -> Result<(Self, thread::JoinHandle<()>), OpenError> {
        let connection = file.connect()?;
        let page_bytes = connection
            .pragma_query_value(None, "page_size", |row| sql::number(row, 0))
            .map_err(OpenError::sqlite(file.path()))?;
        let progress = Arc::new(Progress {
            state: Mutex::new(State::Idle),
            changed: Condvar::new(),
        });
        let (ask, asked) = sync_channel(1);
        let background = Background {
            connection,
            database,
            progress: Arc::clone(&progress),
            health,
        };
        let thread = thread::Builder::new()
            .name("journal-checkpoint".into())
            .spawn(move || background.run(&asked))
            .map_err(OpenError::io(file.path()))?;
        let checkpointer = Self {
            ask,
            progress,
            wal_pages: Arc::default(),
            begin_at_pages: u32::try_from(begin_at_bytes / page_bytes)
                .unwrap_or(u32::MAX)
                .max(1),
        };
        Ok((checkpointer, thread))
    }

    /// Counts the pages that the commits of this connection leave in the WAL.
    pub(super) fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let wal_pages = Arc::clone(&self.wal_pages);
        connection.wal_hook(Some(move |_: &mut Wal, pages: i32| {
            wal_pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
    }

    /// After each commit: begins a checkpoint where one is due, finishes it where the writer has to.
    pub(super) fn tend(&self, connection: &Connection) -> Result<(), Failure> {
        let pages = self.wal_pages.load(Ordering::Relaxed);
        let due = pages >= self.begin_at_pages;
        let state = self.progress.get().clone();
        match state {
            State::Broken(failure) => Err(failure),
            State::Waiting(until) if Instant::now() < until => Ok(()),
            State::Idle | State::Waiting(_) if due => {
                self.progress.set(State::Running);
                // The queue has room: there is one checkpoint at a time.
                let _ = self.ask.try_send(());
                Ok(())
            }
            State::RestIsLeft => {
                self.progress.set(State::Idle);
                if due {
                    copy_back(connection)
                } else {
                    // Nothing was left, and this commit was the first of the restarted WAL.
                    Ok(())
                }
            }
            State::Running if pages / WAL_FACTOR_MAX >= self.begin_at_pages => {
                self.progress.wait_while_running();
                copy_back(connection)
            }
            State::Idle | State::Waiting(_) | State::Running => Ok(()),
        }
    }

    /// Why nothing may be written any more, if so.
    pub(super) fn broken(&self) -> Option<Failure> {
        match &*self.progress.get() {
            State::Broken(failure) => Some(failure.clone()),
            State::Idle | State::Running | State::RestIsLeft | State::Waiting(_) => None,
        }
    }
}

/// The thread's side.
struct Background {
    connection: Connection,
    database: Arc<File>,
    progress: Arc<Progress>,
    health: Health,
}

impl Background {
    fn run(self, asked: &Receiver<()>) {
        let mut is_waiting = false;
        while asked.recv().is_ok() {
            let state = match self.checkpoint() {
                Ok(()) => {
                    is_waiting = false;
                    State::RestIsLeft
                }
                Err(failure) if failure.severity() == Severity::Broken => {
                    self.health.fail_all(&failure);
                    State::Broken(failure)
                }
                Err(failure) => {
                    // A full disk: the WAL keeps everything, and a later commit asks again.
                    if !std::mem::replace(&mut is_waiting, true) {
                        tracing::warn!(%failure, "the journal's checkpoint has to wait");
                    }
                    State::Waiting(Instant::now() + RETRY_AFTER)
                }
            };
            self.progress.set(state);
        }
    }

    fn checkpoint(&self) -> Result<(), Failure> {
        for _ in 0..PASSES {
            copy_back(&self.connection)?;
        }
        // SQLite syncs the file with the last page of the WAL only, which is the writer's part: the less it finds.
        self.database.sync_data().map_err(|error| {
            Failure::broken(&format!("syncing journal.db after a checkpoint: {error}"))
        })
    }
}
