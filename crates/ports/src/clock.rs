//! The time of day, asked at the edge.

use async_trait::async_trait;
use eventflow_domain::Timestamp;

/// Tells the time and waits for it.
///
/// 1. `sleep_until` MUST NOT return before `now` reaches `at`.
/// 2. `sleep_until` of a time that has passed MUST return at once.
/// 3. Any number of sleepers MUST be woken by the same passage of time.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Waits until then.
    async fn sleep_until(&self, at: Timestamp);
}
