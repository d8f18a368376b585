//! A journal in the test's hand: appends are carried out and answered when the test says so.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_memory::MemoryJournal;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{AppendError, Appending, Journal, JournalEntry, ReadError, ReadLimit};
use tokio::sync::oneshot;

use super::{log::Log, until};

/// Passes everything on until it is told to hold.
#[derive(Clone)]
pub(crate) struct HeldJournal(Arc<Shared>);

struct Shared {
    store: MemoryJournal,
    log: Log,
    holds: AtomicBool,
    is_unreadable: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: VecDeque<Held>,
    /// Where and what every append since the last `hold` was.
    handed: Vec<(Position, Bytes)>,
    /// How often a single record was looked for since then.
    looks: usize,
}

struct Held {
    partition: PartitionId,
    expected: Position,
    record: Bytes,
    reply: oneshot::Sender<Result<Position, AppendError>>,
}

impl HeldJournal {
    /// Says "appended" in the log whenever it answers that a record is durable.
    pub(crate) fn new(log: &Log) -> Self {
        Self(Arc::new(Shared {
            store: MemoryJournal::default(),
            log: log.clone(),
            holds: AtomicBool::new(false),
            is_unreadable: AtomicBool::new(false),
            state: Mutex::default(),
        }))
    }

    /// From now on appends wait for the test.
    pub(crate) fn hold(&self) {
        let mut state = self.0.state.lock().unwrap();
        state.handed.clear();
        state.looks = 0;
        self.0.holds.store(true, Ordering::SeqCst);
    }

    /// Carries out what waits, and everything from now on.
    pub(crate) async fn let_go(&self) {
        self.0.holds.store(false, Ordering::SeqCst);
        while self.holds_any() {
            self.carry_out().await;
        }
    }

    /// Whether reads fail.
    pub(crate) fn set_unreadable(&self, is_unreadable: bool) {
        self.0.is_unreadable.store(is_unreadable, Ordering::SeqCst);
    }

    /// Waits until so many appends wait.
    pub(crate) async fn holding(&self, count: usize) {
        until("appends to wait", || {
            self.0.state.lock().unwrap().held.len() >= count
        })
        .await;
    }

    /// Carries out the oldest append and says so.
    pub(crate) async fn carry_out(&self) {
        let held = self.take();
        let outcome = self.write(&held).await;
        if outcome.is_ok() {
            self.0.log.push("appended");
        }
        let _ = held.reply.send(outcome);
    }

    /// Carries out the oldest append, but the answer is lost.
    pub(crate) async fn carry_out_unheard(&self) {
        let held = self.take();
        self.write(&held).await.expect("its place is free");
        let _ = held.reply.send(Err(unavailable()));
    }

    /// Answers the oldest append without carrying it out.
    pub(crate) fn refuse(&self, error: AppendError) {
        let _ = self.take().reply.send(Err(error));
    }

    /// Another writer's record at the place of the oldest append.
    pub(crate) async fn usurp(&self) {
        let (partition, expected) = {
            let state = self.0.state.lock().unwrap();
            let oldest = state.held.front().expect("an append waits");
            (oldest.partition, oldest.expected)
        };
        let record = Bytes::from_static(b"another writer's record");
        let usurped = self.0.store.append(partition, expected, record).await;
        usurped.expect("the place was free");
    }

    /// Every append that was handed over since the last `hold`.
    pub(crate) fn handed(&self) -> Vec<(Position, Bytes)> {
        self.0.state.lock().unwrap().handed.clone()
    }

    /// How often a writer has read back since the last `hold`.
    pub(crate) fn looks(&self) -> usize {
        self.0.state.lock().unwrap().looks
    }

    fn holds_any(&self) -> bool {
        !self.0.state.lock().unwrap().held.is_empty()
    }

    fn take(&self) -> Held {
        let mut state = self.0.state.lock().unwrap();
        state.held.pop_front().expect("an append waits")
    }

    async fn write(&self, held: &Held) -> Result<Position, AppendError> {
        let store = &self.0.store;
        store
            .append(held.partition, held.expected, held.record.clone())
            .await
    }
}

/// An answer that did not come.
pub(crate) fn unavailable() -> AppendError {
    AppendError::Unavailable("the answer was lost on purpose".into())
}

#[async_trait]
impl Journal for HeldJournal {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        let mut state = self.0.state.lock().unwrap();
        state.handed.push((expected, record.clone()));
        if !self.0.holds.load(Ordering::SeqCst) {
            self.0.log.push("appended");
            return self.0.store.append(partition, expected, record);
        }
        let (reply, answer) = oneshot::channel();
        state.held.push_back(Held {
            partition,
            expected,
            record,
            reply,
        });
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(unavailable())) })
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        if limit.records == ReadLimit::ONE.records {
            self.0.state.lock().unwrap().looks += 1;
        }
        if self.0.is_unreadable.load(Ordering::SeqCst) {
            return Err(ReadError::Unavailable("unreadable on purpose".into()));
        }
        self.0.store.read(partition, after, limit).await
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        self.0.store.head(partition).await
    }
}
