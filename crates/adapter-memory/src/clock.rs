//! A clock that is moved by hand.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use eventflow_domain::{DurationMs, Timestamp};
use eventflow_ports::Clock;
use tokio::sync::oneshot;

use crate::lock;

/// Where the clock stands at first: 2025-01-01T00:00:00Z, so that times in tests look like times.
pub const EPOCH: Timestamp = Timestamp(1_735_689_600_000);

/// Time stands still until somebody moves it. A clone is the same clock.
///
/// Sleepers wake in the order of their times, those of one time in the order in which they fell asleep: the same run
/// always goes the same way. A simulation lets everything run until it waits, then jumps:
/// `clock.set(clock.next_sleeper()?)`.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Timestamp,
    /// By how much it was moved on, all in all.
    elapsed: DurationMs,
    /// Whoever sleeps, by when it wants to wake and by its number; all of them later than now.
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
    last: u64,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::at(EPOCH)
    }
}

impl ManualClock {
    /// A clock that stands there.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State {
            now,
            elapsed: DurationMs(0),
            sleepers: BTreeMap::new(),
            last: 0,
        })))
    }

    /// Moves it on and wakes whoever has slept long enough.
    pub fn advance(&self, span: DurationMs) {
        self.set(self.now().after(span));
    }

    /// Moves it there; a clock that is set back is what a machine's clock does at times.
    pub fn set(&self, at: Timestamp) {
        let due = {
            let mut state = lock(&self.0);
            state.elapsed.0 += at.since(state.now).0;
            state.now = at;
            let later = state.sleepers.split_off(&(Timestamp(at.0 + 1), 0));
            std::mem::replace(&mut state.sleepers, later)
        };
        for sleeper in due.into_values() {
            // It may have gone in this very moment.
            let _ = sleeper.send(());
        }
    }

    /// When the next sleeper wants to wake; `None` while nobody sleeps.
    pub fn next_sleeper(&self) -> Option<Timestamp> {
        lock(&self.0).sleepers.keys().next().map(|(at, _)| *at)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        lock(&self.0).now
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(lock(&self.0).elapsed.0)
    }

    async fn sleep_until(&self, at: Timestamp) {
        let (wake, woken) = oneshot::channel();
        let place = {
            let mut state = lock(&self.0);
            if at <= state.now {
                return;
            }
            state.last += 1;
            let place = (at, state.last);
            state.sleepers.insert(place, wake);
            place
        };
        let _sleeping = Sleeping { clock: self, place };
        let _ = woken.await;
    }
}

/// A sleeper's place in the list, also given up where the sleeper is dropped.
struct Sleeping<'a> {
    clock: &'a ManualClock,
    place: (Timestamp, u64),
}

impl Drop for Sleeping<'_> {
    fn drop(&mut self) {
        lock(&self.clock.0).sleepers.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_takes_nothing_from_what_has_elapsed() {
        let clock = ManualClock::default();
        clock.advance(DurationMs(30));
        clock.set(EPOCH);
        assert_eq!(clock.elapsed(), Duration::from_millis(30));
        clock.advance(DurationMs(5));
        assert_eq!(clock.elapsed(), Duration::from_millis(35));
    }

    #[tokio::test]
    async fn a_simulation_jumps_from_sleeper_to_sleeper() {
        let clock = ManualClock::default();
        assert_eq!(clock.next_sleeper(), None);
        let sleeping = [50, 20, 20].map(|span| {
            let clock = clock.clone();
            tokio::spawn(async move { clock.sleep_until(EPOCH.after(DurationMs(span))).await })
        });
        tokio::task::yield_now().await;

        assert_eq!(clock.next_sleeper(), Some(Timestamp(EPOCH.0 + 20)));
        clock.advance(DurationMs(19));
        assert_eq!(clock.next_sleeper(), Some(Timestamp(EPOCH.0 + 20)));
        clock.advance(DurationMs(1));
        // The two that are woken have not run yet.
        assert_eq!(clock.next_sleeper(), Some(Timestamp(EPOCH.0 + 50)));
        sleeping[0].abort();
        for sleeper in sleeping {
            let _ = sleeper.await;
        }
        assert_eq!(clock.next_sleeper(), None, "one gave up");
        assert_eq!(clock.now(), Timestamp(EPOCH.0 + 20));
    }
}
