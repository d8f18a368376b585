//! Retry timing: pure, without randomness, so that replay is exact.

use sha2::{Digest as _, Sha256};

use crate::{
    ids::{Attempt, ExecutionId, TaskReference},
    time::DurationMs,
};

/// The largest exponent that is computed; 2^62 ms is beyond every limit anyway.
const EXPONENT_MAX: u32 = 62;

/// What happens after a failed attempt (OWS retry policies, requirement W3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// Before the first retry.
    pub delay: DurationMs,
    /// How it grows.
    pub backoff: Backoff,
    /// It never grows beyond this.
    pub delay_max: DurationMs,
    /// What is added, so that a crowd does not come back at once.
    pub jitter: Jitter,
}

/// How the delay grows from one retry to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// It does not.
    Constant,
    /// By `delay` each time.
    Linear,
    /// Doubling.
    Exponential,
}

/// What is added to a delay. Drawn from a hash of `(execution, task, attempt)`: the same for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Nothing.
    None,
    /// Up to this many per cent of the delay.
    Percent(u8),
    /// Between these two.
    Between(DurationMs, DurationMs),
}

impl RetryPolicy {
    /// One attempt and no more.
    pub const NEVER: Self = Self {
        retries: 0,
        delay: DurationMs(0),
        backoff: Backoff::Constant,
        delay_max: DurationMs(0),
        jitter: Jitter::None,
    };

    /// Three retries, exponential from 1 s, at most 5 minutes (DESIGN section 10).
    pub const DEFAULT: Self = Self {
        retries: 3,
        delay: DurationMs(1_000),
        backoff: Backoff::Exponential,
        delay_max: DurationMs(300_000),
        jitter: Jitter::Percent(20),
    };

    /// How long to wait before the `retry`-th retry (the first is 1), `None` when there is no further one.
    pub fn delay_before(
        &self,
        retry: u32,
        execution: &ExecutionId,
        task: &TaskReference,
        attempt: Attempt,
    ) -> Option<DurationMs> {
        if retry == 0 || retry > self.retries {
            return None;
        }
        let delay = match self.backoff {
            Backoff::Constant => self.delay.0,
            Backoff::Linear => self.delay.0.saturating_mul(u64::from(retry)),
            Backoff::Exponential => self
                .delay
                .0
                .saturating_mul(1 << (retry - 1).min(EXPONENT_MAX)),
        }
        .min(self.delay_max.0);
        let jitter = match self.jitter {
            Jitter::None => 0,
            Jitter::Percent(percent) => {
                draw(delay / 100 * u64::from(percent), execution, task, attempt)
            }
            Jitter::Between(from, to) => {
                from.0
                    .saturating_add(draw(to.0.saturating_sub(from.0), execution, task, attempt))
            }
        };
        Some(DurationMs(delay.saturating_add(jitter)))
    }
}

/// A number from 0 to `up_to`, both included, that looks random and never changes.
fn draw(up_to: u64, execution: &ExecutionId, task: &TaskReference, attempt: Attempt) -> u64 {
    let digest = Sha256::digest(format!("{execution}\0{task}\0{attempt}"));
    let number = u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes"));
    up_to
        .checked_add(1)
        .map_or(number, |choices| number % choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(policy: RetryPolicy) -> Vec<Option<u64>> {
        let execution = ExecutionId::parse("order-1").unwrap();
        let task = TaskReference::at("/do/0/charge");
        (0..=4)
            .map(|retry| {
                policy
                    .delay_before(retry, &execution, &task, Attempt(retry))
                    .map(|delay| delay.0)
            })
            .collect()
    }

    #[test]
    fn exponential_doubles_up_to_its_maximum() {
        let policy = RetryPolicy {
            delay_max: DurationMs(3_000),
            jitter: Jitter::None,
            ..RetryPolicy::DEFAULT
        };
        assert_eq!(
            delays(policy),
            [None, Some(1_000), Some(2_000), Some(3_000), None]
        );
    }

    #[test]
    fn linear_adds_and_constant_stays() {
        let linear = RetryPolicy {
            backoff: Backoff::Linear,
            jitter: Jitter::None,
            ..RetryPolicy::DEFAULT
        };
        assert_eq!(
            delays(linear),
            [None, Some(1_000), Some(2_000), Some(3_000), None]
        );
        let constant = RetryPolicy {
            backoff: Backoff::Constant,
            ..linear
        };
        assert_eq!(
            delays(constant),
            [None, Some(1_000), Some(1_000), Some(1_000), None]
        );
    }

    #[test]
    fn never_means_never() {
        assert_eq!(delays(RetryPolicy::NEVER), [None; 5]);
    }

    proptest::proptest! {
        #[test]
        fn jitter_stays_in_its_range_and_never_changes(
            id in "[a-z]{1,8}", retry in 1_u32..100, percent in 0_u8..=100, delay in 0_u64..10_000_000,
        ) {
            let policy = RetryPolicy {
                retries: 100, delay: DurationMs(delay), backoff: Backoff::Exponential,
                delay_max: DurationMs(u64::MAX / 2), jitter: Jitter::Percent(percent),
            };
            let plain = RetryPolicy { jitter: Jitter::None, ..policy };
            let (id, task) = (ExecutionId::parse(&id).unwrap(), TaskReference::at("/do/0/a"));
            let with = policy.delay_before(retry, &id, &task, Attempt(retry)).unwrap();
            let without = plain.delay_before(retry, &id, &task, Attempt(retry)).unwrap();
            proptest::prop_assert!(with >= without);
            proptest::prop_assert!(with.0 - without.0 <= without.0 / 100 * u64::from(percent));
            proptest::prop_assert_eq!(policy.delay_before(retry, &id, &task, Attempt(retry)), Some(with));
        }
    }
}
