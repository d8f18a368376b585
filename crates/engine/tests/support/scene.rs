//! An engine in a test's hand: its journal is held, and every other port tells the log what it is asked.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use eventflow_adapter_memory::{Faults, ManualClock};
use eventflow_domain::{DurationMs, Position};
use eventflow_engine::{Backend, Config, Engine, Node};
use eventflow_ports::{
    HttpResponse, MockEventPublisher, MockHttpClient, MockTaskQueue,
    inbound::{Executions, Refusal, StartExecution, Started, System},
};
use tokio::task::JoinHandle;

use super::{
    World,
    held::HeldJournal,
    log::Log,
    manual_clock,
    requests::{id, one_task, start, tenant},
};

/// What happens too early would have happened by then.
pub(crate) const QUIET: Duration = Duration::from_millis(50);
/// A step of the clock that wakes whoever pauses before it tries again.
pub(crate) const PAUSE: DurationMs = DurationMs(100);

/// An engine whose ports tell the log what they are asked.
pub(crate) struct Scene {
    pub(crate) log: Log,
    pub(crate) journal: HeldJournal,
    pub(crate) clock: Arc<ManualClock>,
    /// Counts the calls of all other ports; it makes none fail.
    pub(crate) calls: Faults,
    pub(crate) engine: Arc<Engine>,
}

impl Scene {
    /// Everything works so far; from now on the journal holds what is appended.
    pub(crate) async fn set() -> Self {
        Self::set_with(|_, _| {}).await
    }

    pub(crate) async fn set_with(change: impl FnOnce(&mut Backend, &Log)) -> Self {
        let (log, clock) = (Log::default(), manual_clock());
        let journal = HeldJournal::new(&log);
        let calls = Faults::new();
        let mut backend = World::memory(clock.clone()).backend(&calls).await;
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
            calls,
            engine: Arc::new(engine),
        }
    }

    /// Asks for something meanwhile; the log shows when it is answered.
    pub(crate) fn meanwhile<T: Send + 'static>(
        &self,
        answered: &'static str,
        asking: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let log = self.log.clone();
        tokio::spawn(async move {
            let answer = asking.await;
            log.push(answered);
            answer
        })
    }

    pub(crate) fn start(&self, request: StartExecution) -> JoinHandle<Result<Started, Refusal>> {
        let engine = self.engine.clone();
        self.meanwhile("start answered", async move { engine.start(request).await })
    }

    /// Everything that may happen has happened.
    pub(crate) async fn quiet(&self) -> Vec<&'static str> {
        tokio::time::sleep(QUIET).await;
        self.log.all()
    }

    pub(crate) fn readiness(&self) -> Result<(), Vec<String>> {
        Node::new(self.engine.clone(), String::new).readiness()
    }

    /// Nobody was answered, nothing was done, and nothing will be.
    pub(crate) async fn assert_stopped(
        &self,
        started: JoinHandle<Result<Started, Refusal>>,
        reason: &str,
    ) {
        assert_unavailable(&started.await.expect("it ends"));
        let handed = self.journal.handed().len();
        assert_unavailable(&self.engine.start(start("another", one_task())).await);
        assert_unavailable(&self.engine.view(&tenant(), &id("one")).await);
        let reasons = self.readiness().expect_err("it is stopped");
        assert!(reasons[0].contains(reason), "{reasons:?}");
        assert_eq!(self.quiet().await, ["start answered"]);
        assert_eq!(
            self.journal.handed().len(),
            handed,
            "nothing more is appended"
        );
    }
}

fn queue(log: &Log) -> MockTaskQueue {
    let (mut queue, log) = (MockTaskQueue::new(), log.clone());
    let offered = Arc::new(Mutex::new(Vec::new()));
    let taken = offered.clone();
    queue.expect_offer().returning(move |tasks| {
        log.push("offered");
        offered.lock().unwrap().extend(tasks);
        at_once(Ok(()))
    });
    queue
        .expect_take()
        .returning(move |_, _, _, _| at_once(Ok(std::mem::take(&mut *taken.lock().unwrap()))));
    queue
}

fn http(log: &Log) -> MockHttpClient {
    let (mut http, log) = (MockHttpClient::new(), log.clone());
    http.expect_execute().returning(move |_| {
        log.push("called");
        at_once(Ok(HttpResponse {
            status: 200,
            headers: Vec::new(),
            body: Bytes::from_static(b"{}"),
            truncated: false,
            latency: Duration::ZERO,
        }))
    });
    http
}

fn publisher(log: &Log) -> MockEventPublisher {
    let (mut publisher, log) = (MockEventPublisher::new(), log.clone());
    publisher
        .expect_position()
        .returning(|_| at_once(Ok(Position(0))));
    publisher.expect_publish().returning(move |_, _, events| {
        if !events.is_empty() {
            log.push("published");
        }
        at_once(Ok(()))
    });
    publisher
}

/// What a mock answers.
pub(crate) fn at_once<T: Send + 'static>(answer: T) -> Pin<Box<dyn Future<Output = T> + Send>> {
    Box::pin(std::future::ready(answer))
}

/// Nobody was told anything but to come back.
pub(crate) fn assert_unavailable<T: std::fmt::Debug>(answer: &Result<T, Refusal>) {
    assert!(
        matches!(answer, Err(Refusal::Unavailable { .. })),
        "{answer:?}"
    );
}
