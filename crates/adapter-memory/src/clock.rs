//! A clock that is moved by hand.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eventflow_domain::{DurationMs, Timestamp};
use eventflow_ports::Clock;
use tokio::sync::watch;

use crate::lock;

/// Where the clock stands at first: 2025-01-01T00:00:00Z, so that times in tests look like times.
pub const EPOCH: Timestamp = Timestamp(1_735_689_600_000);

/// Time stands still until somebody moves it. A clone is the same clock.
///
/// A simulation lets everything run until it waits, then jumps: `clock.set(clock.next_sleeper()?)`.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
    sleepers: Arc<Mutex<BTreeMap<Timestamp, usize>>>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::at(EPOCH)
    }
}

impl ManualClock {
    /// A clock that stands there.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now: watch::Sender::new(now),
            sleepers: Arc::default(),
        }
    }

    /// Moves it on and wakes whoever has slept long enough.
    pub fn advance(&self, span: DurationMs) {
        self.now.send_modify(|now| *now = now.after(span));
    }

    /// Moves it there; a clock that is set back is what a machine's clock does at times.
    pub fn set(&self, at: Timestamp) {
        self.now.send_replace(at);
    }

    /// When the next sleeper wants to wake; `None` while nobody sleeps.
    pub fn next_sleeper(&self) -> Option<Timestamp> {
        let now = self.now();
        // Whoever has been woken and did not run yet is no sleeper.
        let sleepers = lock(&self.sleepers);
        sleepers.keys().copied().find(|at| *at > now)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut now = self.now.subscribe();
        let _sleeping = Sleeping::new(&self.sleepers, at);
        // Fails only where the clock is gone, which `self` holds.
        let _ = now.wait_for(|now| *now >= at).await;
    }
}

/// A sleeper's place in the list, also given up where the sleeper is dropped.
struct Sleeping<'a> {
    sleepers: &'a Mutex<BTreeMap<Timestamp, usize>>,
    at: Timestamp,
}

impl<'a> Sleeping<'a> {
    fn new(sleepers: &'a Mutex<BTreeMap<Timestamp, usize>>, at: Timestamp) -> Self {
        *lock(sleepers).entry(at).or_default() += 1;
        Self { sleepers, at }
    }
}

impl Drop for Sleeping<'_> {
    fn drop(&mut self) {
        let mut sleepers = lock(self.sleepers);
        if let Some(count) = sleepers.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                sleepers.remove(&self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
