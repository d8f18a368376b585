//! What an engine can be told, and the bounds of its queues, each with its reason.

use eventflow_domain::{DurationMs, NodeName};

/// Commands that wait for one writer; a further one is answered 429. About a third of a second of work at full speed.
pub const MAILBOX_MAX: usize = 10_000;
/// Results in one message to a writer, so that the mailbox's bound is one of memory as well.
pub const RESULTS_PER_MESSAGE_MAX: usize = 64;
/// Commands in one record, so that nobody in it waits for more than these.
pub const BATCH_COMMANDS_MAX: usize = 1_024;
/// Commands decided before a writer looks at its timers and whether the journal is free: a burst is not held back until
/// all of it is decided. About two milliseconds of work; a message of several commands is not divided.
pub const TURN_COMMANDS_MAX: usize = 64;
/// Bytes of events before an append, uncompressed: with the last step's own bound a record stays below the brokers'
/// 1 MiB.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Appends under way: one being made durable, one behind it.
pub const APPENDS_IN_FLIGHT_MAX: usize = 2;
/// A second append goes out behind the first only when it carries this much; smaller ones wait and grow.
pub const PIPELINED_BYTES_MIN: usize = 32 * 1024;
/// What nobody waits for (that an attempt began) goes with the next record, or after this long.
pub const LINGER: DurationMs = DurationMs(5);
/// Executions in a writer's memory: open ones, and ended ones that the view does not hold yet. A further start is
/// answered 429.
pub const RESIDENTS_MAX: usize = 1_000_000;
/// Ended executions a writer remembers having let go, to notice a start that looked in the view too early.
pub const EVICTIONS_REMEMBERED_MAX: usize = 65_536;
/// An open execution that changed is written to the view after this long, so that a recovery replays no more.
pub const SNAPSHOT_AFTER: DurationMs = DurationMs::from_secs(5);
/// How often a writer looks for those.
pub const SNAPSHOT_EVERY: DurationMs = DurationMs::from_secs(1);
/// Executions snapshotted in one look.
pub const SNAPSHOTS_PER_LOOK_MAX: usize = 512;
/// Rows in one batch of the view.
pub const VIEW_ROWS_MAX: usize = 1_024;
/// How long a batch of the view waits for company: rows that share a batch share its pages. Nobody waits for it; an ended
/// execution is answered for from memory meanwhile.
pub const VIEW_LINGER: std::time::Duration = std::time::Duration::from_millis(100);
/// HTTP calls under way per partition; more wait for a place.
pub const HTTP_IN_FLIGHT_MAX: usize = 256;
/// One HTTP attempt, connecting and reading included, where the task allows more.
pub const HTTP_ATTEMPT_TIMEOUT: DurationMs = DurationMs::from_secs(60);
/// Records that a live stream may fall behind before it reads them from the journal instead.
pub const TAIL_MAX: usize = 1_024;
/// Plans kept compiled.
pub const PLANS_MAX: usize = 4_096;
/// Between two tries of a store that did not answer.
pub const RETRY_PAUSE: DurationMs = DurationMs(100);

/// The settings of one engine.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who writes, as histories and `/v1/system` show it. Among several nodes, another one after each start.
    pub node: NodeName,
    /// Of the store; fixed for its life.
    pub partitions: u16,
    /// A lease, where neither agent nor task says.
    pub lease: DurationMs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: NodeName::parse("eventflow").expect("a constant name"),
            partitions: 1,
            lease: eventflow_domain::limits::LEASE,
        }
    }
}
