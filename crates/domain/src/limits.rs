//! The bounds of an execution and their defaults (DESIGN section 10, requirement W7).

use crate::time::DurationMs;

/// A value up to this size stays in the event, a larger one becomes a reference to a blob. Bytes of JSON.
pub const INLINE_VALUE_BYTES_MAX: usize = 64 * 1024;
/// The largest value there can be, bytes of JSON.
pub const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Activations of one execution; a further one faults it.
pub const TASKS_PER_EXECUTION_MAX: u32 = 1_000;
/// One `step` emits at most so many events; what is left is owed as an advance, so that no execution holds the writer.
pub const EVENTS_PER_STEP_MAX: usize = 64;
/// One `step` emits at most about so many bytes of events, for the same reason.
pub const BYTES_PER_STEP_MAX: usize = 128 * 1024;
/// How long an execution may take before it times out.
pub const EXECUTION_TIMEOUT: DurationMs = DurationMs::from_secs(24 * 60 * 60);
/// How long a task may take, over all of its attempts, before it times out.
pub const TASK_TIMEOUT: DurationMs = DurationMs::from_secs(60 * 60);
/// How long an attempt waits for an agent to pick it up.
pub const START_WITHIN: DurationMs = DurationMs::from_secs(5 * 60);
/// A lease, where an agent does not say.
pub const LEASE: DurationMs = DurationMs::from_secs(60);
/// A response body kept as an output, bytes.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// A response body quoted in an error, bytes (requirement S4).
pub const SNIPPET_BYTES_MAX: usize = 2 * 1024;
