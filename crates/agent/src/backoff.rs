//! Pauses between tries that did not work: longer each time, never in step with other agents.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The first pause: a restart of the service takes about so long.
const FIRST: Duration = Duration::from_millis(100);
/// The longest: an agent notices within two seconds that the service is back. A result that waits longer holds its slot,
/// and with it the next task.
const LONGEST: Duration = Duration::from_secs(2);

/// How long to wait next.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// A random half to whole of a pause that doubles, or what the service asked for where that is longer.
    pub(crate) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(LONGEST);
        // A fresh `RandomState` is seeded at random: enough to spread agents, without a generator of our own.
        let random = RandomState::new().hash_one(0);
        let share = 500 + u32::try_from(random % 501).expect("a remainder below 501 fits");
        (span * share / 1_000).max(asked.unwrap_or_default())
    }

    /// It worked: the next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new();
        let mut expected = FIRST;
        for _ in 0..12 {
            let pause = backoff.pause(None);
            assert!(
                (expected / 2..=expected).contains(&pause),
                "{pause:?} of {expected:?}"
            );
            expected = (expected * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.pause(None) <= FIRST);
    }

    #[test]
    fn what_the_service_asks_for_is_the_least() {
        assert_eq!(
            Backoff::new().pause(Some(Duration::from_secs(3))),
            Duration::from_secs(3)
        );
    }
}
