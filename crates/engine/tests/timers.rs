//! Timers are never early, survive a restart, and a restart replays no more than it must.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_memory::{Faults, ManualClock};
use eventflow_domain::{
    DurationMs, Json, PartitionId, Position, Problem, Sequence, Timestamp, error::ErrorKind,
    execution::Status,
};
use eventflow_engine::{Config, Engine};
use eventflow_ports::{
    Appending, Clock, Journal, JournalEntry, ReadError, ReadLimit, View,
    inbound::{
        ExecutionView, Executions, Heartbeat, LeasedTask, Refusal, ResultOutcome, TaskFailure,
        TaskResult, TaskVerdict, Tasks,
    },
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde_json::json;
use support::{
    Stores, World, manual_clock,
    requests::{
        PATIENCE, agent_task, bring, complete, completed, id, lease, lease_now, next_task, one_task,
        start, tenant, workflow,
    },
};

/// What happens too early would have happened by then.
const QUIET: Duration = Duration::from_millis(20);
/// The one execution of each test.
const ONE: &str = "one";

/// An engine whose time the test moves, and the one execution in it.
struct Life {
    world: World,
    clock: Arc<ManualClock>,
    engine: Engine,
    /// When the execution was started.
    began: Timestamp,
}

impl Life {
    async fn of(document: Json) -> Self {
        let clock = manual_clock();
        let world = World::memory(clock.clone());
        let engine = world.live(&Faults::new()).await.expect("it starts");
        let began = clock.now();
        engine.start(start(ONE, document)).await.expect("started");
        Self {
            world,
            clock,
            engine,
            began,
        }
    }

    /// Crashes, and comes back after so long.
    async fn crash_for(&mut self, span: DurationMs) {
        self.engine.abort();
        self.clock.advance(span);
        self.engine = self.world.live(&Faults::new()).await.expect("it starts again");
    }

    fn after_ms(&self, span: u64) -> Timestamp {
        self.began.after(DurationMs(span))
    }

    /// Moves the clock to so many milliseconds after the start.
    fn go_to_ms(&self, span: u64) {
        self.clock.set(self.after_ms(span));
    }

    /// When events of this type happened, in milliseconds after the start.
    async fn times_of(&self, kind: &str) -> Vec<i64> {
        let history = self.engine.history(&tenant(), &id(ONE), Sequence(0), 10_000).await;
        let events = history.expect("read").events;
        let of_kind = events.iter().filter(|event| event.kind == kind);
        of_kind.map(|event| event.time.0 - self.began.0).collect()
    }

    /// The next event of this type happens at this time, in milliseconds after the start, and not one earlier.
    async fn happens_at_ms(&self, kind: &str, span: u64) {
        let before = self.times_of(kind).await;
        self.go_to_ms(span - 1);
        tokio::time::sleep(QUIET).await;
        assert_eq!(self.times_of(kind).await, before, "{kind} is early");
        self.go_to_ms(span);
        let mut expected = before;
        expected.push(i64::try_from(span).expect("a test's time"));
        let since = Instant::now();
        while self.times_of(kind).await != expected {
            assert!(
                since.elapsed() < PATIENCE,
                "{kind}: {:?} instead of {expected:?}",
                self.times_of(kind).await
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn nothing_to_lease(&self) {
        let leased = self.engine.lease(&tenant(), lease_now(1)).await;
        assert!(leased.expect("answered").is_empty());
    }

    async fn ended(&self) -> ExecutionView {
        self.engine.wait(&tenant(), &id(ONE), PATIENCE).await.expect("seen")
    }

    async fn fail(&self, task: &LeasedTask) {
        let error = Problem::new(ErrorKind::Runtime, "Failed", "on purpose");
        let failure = TaskFailure {
            error,
            retryable: true,
            retry_after: None,
        };
        let result = TaskResult {
            token: task.token.clone(),
            verdict: TaskVerdict::Fail(failure),
        };
        let outcome = bring(&self.engine, result).await;
        assert!(matches!(outcome, ResultOutcome::Accepted), "{outcome:?}");
    }

    async fn heartbeat(&self, task: &LeasedTask) -> Heartbeat {
        let result = TaskResult {
            token: task.token.clone(),
            verdict: TaskVerdict::Heartbeat,
        };
        match bring(&self.engine, result).await {
            ResultOutcome::Alive(heartbeat) => heartbeat,
            outcome => panic!("{outcome:?}"),
        }
    }

    async fn assert_contradiction(&self, task: &LeasedTask) {
        let outcome = bring(&self.engine, completed(task)).await;
        assert!(
            matches!(outcome, ResultOutcome::Refused(Refusal::Contradiction(_))),
            "{outcome:?}"
        );
    }
}

/// So many retries, the first after two seconds.
fn retries(count: u32, backoff: &str) -> serde_json::Value {
    json!({
        "delay": {"seconds": 2},
        "backoff": {backoff: {}},
        "limit": {"attempt": {"count": count}},
    })
}

fn retried_task(count: u32, backoff: &str) -> Json {
    let task = agent_task(&json!({"startWithin": "PT10S", "retry": retries(count, backoff)}));
    workflow("retried", [("only".to_owned(), task)])
}

#[tokio::test]
async fn a_task_that_nobody_picks_up_is_retried_and_then_escalates() {
    let life = Life::of(retried_task(1, "constant")).await;
    life.happens_at_ms("retry_scheduled", 10_000).await;
    life.nothing_to_lease_but_stale().await;
    life.happens_at_ms("timer_fired", 12_000).await;
    life.happens_at_ms("task_faulted", 22_000).await;
    let view = life.ended().await;
    assert_eq!(view.status, Status::Faulted);
    let error = view.error.expect("faulted");
    assert!(error.kind.ends_with("/timeout"), "{error:?}");
    assert_eq!(error.instance.as_deref(), Some("/do/0/only"));
    life.nothing_to_lease_but_stale().await;
}
