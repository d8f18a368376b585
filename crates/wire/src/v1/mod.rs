//! Version 1 of every body (INTERFACES sections 1 to 3 and 7): camelCase, RFC 3339 times, ISO 8601 durations.

pub mod batch;
pub mod calls;
pub mod controls;
pub mod events;
pub mod executions;
pub mod flow;
pub mod rejected;
pub mod shape;
pub mod system;
pub mod tasks;
pub mod triggers;
pub mod workflows;

mod problem;
mod read;
mod time;
mod value;

pub use problem::{Fault, Problem, retry_after};
pub use read::{invalid, read};
pub use time::{InvalidSpan, InvalidTime, Span, Time};
pub use value::{Unsound, VALUE_DEPTH_MAX, accept, one_line};

/// The largest body of a request, bytes (DESIGN section 10). A sender of batches splits them below it.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Results in one request: a batch is then at most one full record of a partition's writer (DESIGN section 3).
pub const RESULTS_MAX: usize = 1_024;
/// Tasks given out by one lease: more than an agent can perform within the lease of the first.
pub const LEASE_TASKS_MAX: usize = 1_024;
/// The longest an answer is held back for something to happen, seconds: below the idle time-out of usual proxies.
pub const WAIT_SECONDS_MAX: u64 = 55;
