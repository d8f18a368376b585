//! The one execution of an engine whose time the test moves.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eventflow_adapter_memory::{Faults, ManualClock};
use eventflow_domain::{DurationMs, Json, Problem, Sequence, Timestamp, error::ErrorKind};
use eventflow_engine::Engine;
use eventflow_ports::{
    Clock,
    inbound::{
        ExecutionView, Executions, Heartbeat, LeasedTask, Refusal, ResultOutcome, TaskFailure,
        TaskResult, TaskVerdict, Tasks,
    },
};

use super::{
    World, manual_clock,
    requests::{PATIENCE, bring, complete, completed, id, lease_now, next_task, start, tenant},
};

/// What happens too early would have happened by then.
pub(crate) const QUIET: Duration = Duration::from_millis(20);
/// The one execution of each test.
pub(crate) const ONE: &str = "one";

/// An engine whose time the test moves, and the one execution in it.
pub(crate) struct Life {
    pub(crate) world: World,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: Engine,
    /// When the execution was started.
    pub(crate) began: Timestamp,
}

impl Life {
    pub(crate) async fn of(document: Json) -> Self {
        let clock = manual_clock();
        let world = World::memory(clock.clone());
        let engine = world.live(&Faults::new()).await.expect("it starts");
        Self::with(world, clock, engine, document).await
    }

    /// The same, in an engine of the test's own.
    pub(crate) async fn with(
        world: World,
        clock: Arc<ManualClock>,
        engine: Engine,
        document: Json,
    ) -> Self {
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
    pub(crate) async fn crash_for(&mut self, span: DurationMs) {
        self.engine.abort();
        self.clock.advance(span);
        self.engine = self
            .world
            .live(&Faults::new())
            .await
            .expect("it starts again");
    }

    pub(crate) fn after_ms(&self, span: u64) -> Timestamp {
        self.began.after(DurationMs(span))
    }

    /// Moves the clock to so many milliseconds after the start.
    pub(crate) fn go_to_ms(&self, span: u64) {
        self.clock.set(self.after_ms(span));
    }

    /// When events of this type happened, in milliseconds after the start.
    pub(crate) async fn times_of(&self, kind: &str) -> Vec<i64> {
        let history = self
            .engine
            .history(&tenant(), &id(ONE), Sequence(0), 10_000)
            .await;
        let events = history.expect("read").events;
        let of_kind = events.iter().filter(|event| event.kind == kind);
        of_kind.map(|event| event.time.0 - self.began.0).collect()
    }

    /// The next event of this type happens at this time, in milliseconds after the start, and not one earlier.
    pub(crate) async fn happens_at_ms(&self, kind: &str, span: u64) {
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

    pub(crate) async fn nothing_to_lease(&self) {
        let leased = self.engine.lease(&tenant(), lease_now(1)).await;
        assert!(leased.expect("answered").is_empty());
    }

    pub(crate) async fn ended(&self) -> ExecutionView {
        self.engine
            .wait(&tenant(), &id(ONE), PATIENCE)
            .await
            .expect("seen")
    }

    pub(crate) async fn fail(&self, task: &LeasedTask) {
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

    pub(crate) async fn heartbeat(&self, task: &LeasedTask) -> Heartbeat {
        let result = TaskResult {
            token: task.token.clone(),
            verdict: TaskVerdict::Heartbeat,
        };
        match bring(&self.engine, result).await {
            ResultOutcome::Alive(heartbeat) => heartbeat,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub(crate) async fn assert_contradiction(&self, task: &LeasedTask) {
        let outcome = bring(&self.engine, completed(task)).await;
        assert!(
            matches!(outcome, ResultOutcome::Refused(Refusal::Contradiction(_))),
            "{outcome:?}"
        );
    }

    /// Waits until events of this type have happened at these times.
    pub(crate) async fn shows(&self, kind: &str, expected: &[i64]) {
        let since = Instant::now();
        while self.times_of(kind).await != expected {
            assert!(since.elapsed() < PATIENCE, "{kind}: not {expected:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Performs so many tasks, one after the other.
    pub(crate) async fn steps(&self, count: usize) {
        for _ in 0..count {
            complete(&self.engine, &next_task(&self.engine).await).await;
        }
    }
}
