//! The clauses of `Clock`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{DurationMs, Timestamp};
use eventflow_ports::Clock;
use tokio::time::timeout;

/// Real time after which a sleeper that should have been woken counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// One clock.
#[async_trait]
pub trait ClockFixture: Send + Sync {
    /// The clock.
    async fn open(&self) -> Arc<dyn Clock>;
    /// Lets time pass: waits where it passes by itself, moves the clock where it is moved by hand.
    async fn pass(&self, span: DurationMs) {
        tokio::time::sleep(Duration::from_millis(span.0)).await;
    }
}

/// One test per clause of `Clock`, for the fixture that the closure makes.
#[macro_export]
macro_rules! clock_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            clock,
            [
                clause_01_sleep_until_never_returns_early,
                clause_02_sleep_until_the_past_returns_at_once,
                clause_03_all_sleepers_are_woken_by_the_same_passage,
                clause_04_what_has_elapsed_never_goes_back,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_sleep_until_never_returns_early(fixture: &impl ClockFixture) {
    let clock = fixture.open().await;
    for span in [1, 2, 10, 50] {
        let at = clock.now().after(DurationMs(span));
        let sleeper = sleeper(&clock, at);
        // In two steps: the first one must not wake it, the second one and a little more must.
        fixture.pass(DurationMs(span / 2)).await;
        fixture.pass(DurationMs(span - span / 2 + 1)).await;
        let woken_at = woken(sleeper).await;
        assert!(woken_at >= at, "woken at {woken_at:?} before {at:?}");
    }

    let far = clock.now().after(DurationMs(60_000));
    let sleeper = sleeper(&clock, far);
    fixture.pass(DurationMs(30)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!sleeper.is_finished(), "woken a minute early");
    sleeper.abort();
}

/// Clause 2.
pub async fn clause_02_sleep_until_the_past_returns_at_once(fixture: &impl ClockFixture) {
    let clock = fixture.open().await;
    fixture.pass(DurationMs(5)).await;
    let now = clock.now();
    for past in [
        now,
        Timestamp(now.0 - 1),
        Timestamp(0),
        Timestamp(-1),
        Timestamp(i64::MIN),
    ] {
        timeout(PATIENCE, clock.sleep_until(past))
            .await
            .expect("a time that has passed is not waited for");
    }
}

/// Clause 3.
pub async fn clause_03_all_sleepers_are_woken_by_the_same_passage(fixture: &impl ClockFixture) {
    let clock = fixture.open().await;
    let now = clock.now();
    let sleepers: Vec<_> = (0..100)
        .map(|index| sleeper(&clock, now.after(DurationMs(10 + index % 7))))
        .collect();
    // One that gave up must not keep the others from waking.
    let gave_up = sleeper(&clock, now.after(DurationMs(10)));
    tokio::task::yield_now().await;
    gave_up.abort();
    fixture.pass(DurationMs(30)).await;
    for sleeper in sleepers {
        woken(sleeper).await;
    }
}

/// Clause 4.
pub async fn clause_04_what_has_elapsed_never_goes_back(fixture: &impl ClockFixture) {
    let clock = fixture.open().await;
    for span in [1, 5, 40] {
        let before = clock.elapsed();
        assert!(clock.elapsed() >= before);
        fixture.pass(DurationMs(span)).await;
        let passed = clock.elapsed().saturating_sub(before);
        assert!(
            passed >= Duration::from_millis(span),
            "only {passed:?} in {span} ms"
        );
    }
}

fn sleeper(clock: &Arc<dyn Clock>, at: Timestamp) -> tokio::task::JoinHandle<Timestamp> {
    let clock = clock.clone();
    tokio::spawn(async move {
        clock.sleep_until(at).await;
        clock.now()
    })
}

async fn woken(sleeper: tokio::task::JoinHandle<Timestamp>) -> Timestamp {
    timeout(PATIENCE, sleeper)
        .await
        .expect("the sleeper is woken")
        .expect("the sleeper does not panic")
}
