//! What the view holds need not be replayed, and memory lets go of nothing else.

mod support;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_memory::{Faults, MemoryView};
use eventflow_domain::{DurationMs, ExecutionId, PartitionId, Position, Tenant, execution::Status};
use eventflow_engine::{Config, Engine};
use eventflow_ports::{
    Appending, Journal, JournalEntry, ListQuery, ReadError, ReadLimit, View, ViewBatch, ViewError,
    ViewPosition, ViewRow, inbound::Executions,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde_json::json;
use support::{
    Stores, World,
    life::{Life, ONE},
    manual_clock,
    requests::{PATIENCE, agent_task, id, one_task, start, tenant, workflow},
    until,
};
use tokio::sync::Semaphore;

/// A journal that counts the records that are read from it.
struct Counting {
    journal: Arc<dyn Journal>,
    read: AtomicUsize,
}

#[async_trait]
impl Journal for Counting {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        self.journal.append(partition, expected, record)
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let entries = self.journal.read(partition, after, limit).await?;
        self.read.fetch_add(entries.len(), Ordering::SeqCst);
        Ok(entries)
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        self.journal.head(partition).await
    }
}

/// What a restart has to do.
#[derive(Debug, PartialEq, Eq)]
struct Restart {
    records: usize,
    rows: u64,
    events: u64,
}

impl Life {
    /// Crashes and counts what coming back takes.
    async fn counted_restart(&mut self) -> Restart {
        self.engine.abort();
        let mut backend = self.world.backend(&Faults::new()).await;
        let counting = Arc::new(Counting {
            journal: backend.journal,
            read: AtomicUsize::new(0),
        });
        backend.journal = counting.clone();
        // It would read the journal as well.
        backend.publisher = None;
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let counted = metrics::set_default_local_recorder(&recorder);
        self.engine = Engine::start(backend, Config::default())
            .await
            .expect("it starts again");
        drop(counted);
        let counters = snapshotter.snapshot().into_vec();
        let count = |name: &str| {
            let of_name = counters.iter().find(|(key, ..)| key.key().name() == name);
            match of_name {
                Some((_, _, _, DebugValue::Counter(count))) => *count,
                _ => 0,
            }
        };
        Restart {
            records: counting.read.load(Ordering::SeqCst),
            rows: count("eventflow_rows_read_total"),
            events: count("eventflow_events_folded_total"),
        }
    }

    /// Waits until the view holds a snapshot that was taken after so many events.
    async fn snapshotted(&self, sequence: u64) {
        let Stores::Memory(stores) = &self.world.stores else {
            panic!("these tests are on memory")
        };
        let since = Instant::now();
        loop {
            let rows = stores.view.open(PartitionId(0)).await.expect("read");
            let summary = rows.first().map(|row| row.summary.to_value());
            if summary.is_some_and(|summary| summary["sequence"] == sequence) {
                return;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "no snapshot at {sequence}: {rows:?}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_restart_replays_only_what_no_snapshot_covers() {
    const STEPS: usize = 40;
    let tasks = (0..STEPS).map(|task| (format!("t{task}"), agent_task(&json!({}))));
    let mut life = Life::of(workflow("long", tasks)).await;
    // Requested, started, scheduled; then each step begins, completes and schedules, in one record.
    life.steps(20).await;
    let replay_all = life.counted_restart().await;
    println!("without a snapshot: {replay_all:?}");
    assert_eq!(replay_all.rows, 0);
    assert_eq!(replay_all.events, 2 + 3 * 20);

    // Five seconds after it changed it is in the view, and what is in the view is not folded again.
    life.clock.advance(DurationMs(5_000));
    life.snapshotted(3 + 3 * 20).await;
    life.steps(3).await;
    let tail = life.counted_restart().await;
    println!("after a snapshot: {tail:?}");
    // The record before the tail as well, for its hash.
    let expected = Restart {
        records: 1 + 3,
        rows: 1,
        events: 3 * 3,
    };
    assert_eq!(tail, expected);
    life.steps(STEPS - 23).await;
    assert_eq!(life.ended().await.status, Status::Completed);
}

/// A view that applies as many batches as it is let.
struct Hesitant {
    view: MemoryView,
    batches: Semaphore,
    asked: AtomicUsize,
}

#[async_trait]
impl View for Hesitant {
    async fn apply(&self, partition: PartitionId, batch: ViewBatch) -> Result<(), ViewError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let permit = self.batches.acquire().await.expect("never closed");
        permit.forget();
        self.view.apply(partition, batch).await
    }

    async fn position(&self, partition: PartitionId) -> Result<ViewPosition, ViewError> {
        self.view.position(partition).await
    }

    async fn get(
        &self,
        partition: PartitionId,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Option<ViewRow>, ViewError> {
        self.view.get(partition, tenant, execution).await
    }

    async fn open(&self, partition: PartitionId) -> Result<Vec<ViewRow>, ViewError> {
        self.view.open(partition).await
    }

    async fn list(
        &self,
        partition: PartitionId,
        query: ListQuery,
    ) -> Result<Vec<ViewRow>, ViewError> {
        self.view.list(partition, query).await
    }

    async fn copy(
        &self,
        partition: PartitionId,
        to: &Path,
    ) -> Result<Option<ViewPosition>, ViewError> {
        self.view.copy(partition, to).await
    }

    async fn replace(&self, partition: PartitionId, from: &Path) -> Result<(), ViewError> {
        self.view.replace(partition, from).await
    }
}

#[tokio::test]
async fn an_execution_stays_until_the_view_holds_its_end() {
    let clock = manual_clock();
    let world = World::memory(clock.clone());
    let view = Arc::new(Hesitant {
        view: MemoryView::default(),
        batches: Semaphore::new(0),
        asked: AtomicUsize::new(0),
    });
    let mut backend = world.backend(&Faults::new()).await;
    backend.view = view.clone();
    let engine = Engine::start(backend, Config::default())
        .await
        .expect("it starts");
    let life = Life::with(world, clock, engine, one_task()).await;

    // A snapshot of it is on its way to the view when it ends.
    life.clock.advance(DurationMs(5_000));
    until("the snapshot", || view.asked.load(Ordering::SeqCst) == 1).await;
    life.steps(1).await;
    view.batches.add_permits(1);
    until("the end", || view.asked.load(Ordering::SeqCst) == 2).await;
    let row = view
        .get(PartitionId(0), &tenant(), &id(ONE))
        .await
        .expect("read");
    assert_eq!(row.expect("a snapshot").status, Status::Running);

    // The view has the snapshot only: memory answers, and a repeat of the start is one.
    let seen = life
        .engine
        .view(&tenant(), &id(ONE))
        .await
        .expect("in memory");
    assert_eq!(seen.status, Status::Completed);
    let repeat = life
        .engine
        .start(start(ONE, one_task()))
        .await
        .expect("repeated");
    assert!(repeat.repeated);

    view.batches.add_permits(10);
    life.engine.shutdown().await;
    let row = view
        .get(PartitionId(0), &tenant(), &id(ONE))
        .await
        .expect("read");
    assert_eq!(row.expect("its end").status, Status::Completed);
}
