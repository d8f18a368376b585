//! The append comes first: nothing leaves a partition before its cause is durable, and nothing at all once the writer
//! is fenced or its journal broken.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use eventflow_adapter_memory::{Faults, ManualClock};
use eventflow_domain::{DurationMs, Json, Position, Sequence, Tenant, execution::Status};
use eventflow_engine::{Backend, Config, Engine, Node};
use eventflow_ports::{
    AppendError, BlobError, HttpResponse, ListQuery, MockBlobStore, MockEventPublisher,
    MockHttpClient, MockTaskQueue, TaskOffer,
    inbound::{Executions, Refusal, ResultOutcome, Started, System},
};
use serde_json::json;
use support::{
    World,
    held::{HeldJournal, unavailable},
    log::Log,
    manual_clock,
    requests::{bring, completed, id, lease_now, next_task, one_task, set_only, start, tenant},
    until,
};
use tokio::task::{JoinHandle, JoinSet};

/// What happens too early would have happened by then.
const QUIET: Duration = Duration::from_millis(50);
/// A step of the clock that wakes whoever pauses before it tries again.
const PAUSE: DurationMs = DurationMs(100);

/// An engine whose ports tell the log what they are asked.
struct Scene {
    log: Log,
    journal: HeldJournal,
    clock: Arc<ManualClock>,
    engine: Arc<Engine>,
}

impl Scene {
    /// Everything works so far; from now on the journal holds what is appended.
    async fn set() -> Self {
        Self::set_with(|_, _| {}).await
    }

    async fn set_with(change: impl FnOnce(&mut Backend, &Log)) -> Self {
        let (log, clock) = (Log::default(), manual_clock());
        let journal = HeldJournal::new(&log);
        let mut backend = World::memory(clock.clone()).backend(&Faults::new()).await;
        backend.journal = Arc::new(journal.clone());
        backend.queue = Arc::new(queue(&log));
        backend.http = Arc::new(http(&log));
        backend.publisher = Some(Arc::new(publisher(&log)));
        change(&mut backend, &log);
        let engine = Engine::start(backend, Config::default())
            .await
            .expect("it starts");
        log.take();
        journal.hold();
        Self {
            log,
            journal,
            clock,
            engine: Arc::new(engine),
        }
    }

    /// Does something with the engine meanwhile; the log shows when it is answered.
    fn meanwhile<T: Send + 'static>(
        &self,
        answered: &'static str,
        ask: impl AsyncFnOnce(&Engine) -> T + Send + 'static,
    ) -> JoinHandle<T>
    where
        for<'a> <fn(&'a Engine) as FnOnce<(&'a Engine,)>>::Output: Send,
    {
        let (engine, log) = (self.engine.clone(), self.log.clone());
        tokio::spawn(async move {
            let answer = ask(&engine).await;
            log.push(answered);
            answer
        })
    }
}
