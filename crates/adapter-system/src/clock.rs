//! The `Clock` port on the system's time of day.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use eventflow_domain::Timestamp;
use eventflow_ports::Clock;

/// The longest single sleep. The time of day may be set forward, and a laptop may be suspended, while we sleep by the
/// monotonic clock: a deadline is then noticed late by at most this much. One wake-up per sleeper and half second
/// costs nothing.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is a machine that has not been set yet: it reads as the epoch.
        let millis = since_epoch.map_or(0, |span| span.as_millis());
        Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        // Goes on while the process is stopped; while the machine itself sleeps it does not.
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed()
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            // Asked again after every sleep: where the time of day was set back, it is not there yet.
            let remaining = Duration::from_millis(at.since(self.now()).0);
            if remaining.is_zero() {
                return;
            }
            tokio::time::sleep(remaining.min(SLEEP_MAX)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn now_is_the_time_of_day_in_milliseconds() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = SystemClock.now();
        let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!((before.as_millis()..=after.as_millis()).contains(&u128::try_from(now.0).unwrap()));
    }

    #[tokio::test]
    async fn a_sleep_longer_than_the_longest_single_one_ends_on_time() {
        let clock = SystemClock;
        let span = SLEEP_MAX + Duration::from_millis(120);
        let at = Timestamp(clock.now().0 + i64::try_from(span.as_millis()).unwrap());
        let begun = Instant::now();
        clock.sleep_until(at).await;
        assert!(clock.now() >= at);
        assert!(begun.elapsed() < span + SLEEP_MAX);
    }
}
