//! The time of day, asked at the edge.

use std::time::Duration;

use async_trait::async_trait;
use eventflow_domain::Timestamp;

/// Tells the time and waits for it.
///
/// 1. `sleep_until` MUST NOT return before `now` reaches `at`.
/// 2. `sleep_until` of a time that has passed MUST return at once.
/// 3. Any number of sleepers MUST be woken by the same passage of time.
/// 4. `elapsed` MUST grow as time passes, and never go back, also where the time of day is set back.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// How long it has been since some moment of this process: spans are measured by it, since nobody sets it.
    fn elapsed(&self) -> Duration;
    /// Waits until then.
    async fn sleep_until(&self, at: Timestamp);
}
