//! What an engine counts and measures: every metric has its name, its unit and its words here, once.
//!
//! A writer keeps the handles of its own ([`PartitionMeters`]), so that counting costs no look-up by name.

use std::time::Instant;

use eventflow_domain::{DurationMs, PartitionId};
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

const EVENTS_FOLDED: &str = "eventflow_events_folded_total";
const RECORDS: &str = "eventflow_records_total";
const RECORD_BYTES: &str = "eventflow_record_bytes_total";
const ROWS_READ: &str = "eventflow_rows_read_total";
const VIEW_ROWS: &str = "eventflow_view_rows_total";
const EXECUTIONS_ENDED: &str = "eventflow_executions_ended_total";
const ATTEMPTS_FAILED: &str = "eventflow_attempts_failed_total";
const LEASES_EXPIRED: &str = "eventflow_leases_expired_total";
const COMMANDS_PER_BATCH: &str = "eventflow_batch_commands";
const BYTES_PER_BATCH: &str = "eventflow_batch_bytes";
const APPEND: &str = "eventflow_append_seconds";
const ROUTING: &str = "eventflow_routing_seconds";
const TIMER_LATENESS: &str = "eventflow_timer_lateness_seconds";
const MAILBOX: &str = "eventflow_mailbox_commands";
const EXECUTIONS: &str = "eventflow_executions_in_memory";
const LEASES: &str = "eventflow_leases";
const TIMERS: &str = "eventflow_timers";
const UNOFFERED: &str = "eventflow_tasks_unoffered";
const POSITION: &str = "eventflow_journal_position";
const VIEW_COPY_LAG: &str = "eventflow_view_copy_lag_records";
const LEADING: &str = "eventflow_partition_leading";

/// Says of every metric what it is, for whoever scrapes it.
pub(crate) fn describe() {
    use Unit::{Bytes, Count, Seconds};
    for (name, unit, words) in [
        (
            EVENTS_FOLDED,
            Count,
            "Events folded into executions, at recovery too",
        ),
        (
            RECORDS,
            Count,
            "Records handed to the journal: one per batch",
        ),
        (RECORD_BYTES, Bytes, "Compressed bytes of those records"),
        (ROWS_READ, Count, "Rows read from the view"),
        (VIEW_ROWS, Count, "Rows written to the view"),
        (EXECUTIONS_ENDED, Count, "Executions that ended, by how"),
        (
            ATTEMPTS_FAILED,
            Count,
            "Attempts that failed, time-outs and expired leases included",
        ),
        (
            LEASES_EXPIRED,
            Count,
            "Leases that passed without a sign of life",
        ),
    ] {
        describe_counter!(name, unit, words);
    }
    for (name, unit, words) in [
        (COMMANDS_PER_BATCH, Count, "Commands that shared a record"),
        (
            BYTES_PER_BATCH,
            Bytes,
            "Bytes of events in a record, before compression",
        ),
        (
            APPEND,
            Seconds,
            "From handing a record to the journal to its being durable",
        ),
        (
            ROUTING,
            Seconds,
            "From an attempt's being ready to an agent's having it",
        ),
        (
            TIMER_LATENESS,
            Seconds,
            "How long after its time a timer was acted on",
        ),
    ] {
        describe_histogram!(name, unit, words);
    }
    for (name, words) in [
        (MAILBOX, "Commands that wait for the writer"),
        (
            EXECUTIONS,
            "Executions in the writer's memory: open ones, and ended ones not yet in the view",
        ),
        (LEASES, "Attempts held by agents"),
        (TIMERS, "Executions with a deadline ahead"),
        (
            UNOFFERED,
            "Ready attempts that the task queue has not taken yet",
        ),
        (POSITION, "The last durable record"),
        (
            VIEW_COPY_LAG,
            "Records that a successor would replay on top of the newest copy of the view",
        ),
        (
            LEADING,
            "1 where this process writes to the partition, 0 where it stopped or waits for its journal",
        ),
    ] {
        describe_gauge!(name, Count, words);
    }
}

/// Counts an execution that ended so.
pub(crate) fn execution_ended(how: &'static str) {
    counter!(EXECUTIONS_ENDED, "status" => how).increment(1);
}

/// Counts rows read from the view.
pub(crate) fn rows_read(rows: usize) {
    counter!(ROWS_READ).increment(rows as u64);
}

/// Counts rows written to the view.
pub(crate) fn view_rows(rows: usize) {
    counter!(VIEW_ROWS).increment(rows as u64);
}

/// Counts events folded at a recovery.
pub(crate) fn events_folded(events: usize) {
    counter!(EVENTS_FOLDED).increment(events as u64);
}

/// Tells how far the newest copy of a view is behind.
pub(crate) fn view_copy_lag(partition: PartitionId, records: u64) {
    let records = usize::try_from(records).unwrap_or(usize::MAX);
    gauge!(VIEW_COPY_LAG, "partition" => partition.to_string()).set(level(records));
}

/// The handles of one partition's writer.
pub(crate) struct PartitionMeters {
    pub(crate) events_folded: Counter,
    pub(crate) records: Counter,
    pub(crate) record_bytes: Counter,
    pub(crate) attempts_failed: Counter,
    pub(crate) leases_expired: Counter,
    pub(crate) batch_commands: Histogram,
    pub(crate) batch_bytes: Histogram,
    append: Histogram,
    routing: Histogram,
    timer_lateness: Histogram,
    pub(crate) mailbox: Gauge,
    pub(crate) executions: Gauge,
    pub(crate) leases: Gauge,
    pub(crate) timers: Gauge,
    pub(crate) unoffered: Gauge,
    pub(crate) position: Gauge,
    pub(crate) leading: Gauge,
}

impl PartitionMeters {
    pub(crate) fn new(partition: PartitionId) -> Self {
        let gauge = |name: &'static str| gauge!(name, "partition" => partition.to_string());
        Self {
            events_folded: counter!(EVENTS_FOLDED),
            records: counter!(RECORDS),
            record_bytes: counter!(RECORD_BYTES),
            attempts_failed: counter!(ATTEMPTS_FAILED),
            leases_expired: counter!(LEASES_EXPIRED),
            batch_commands: histogram!(COMMANDS_PER_BATCH),
            batch_bytes: histogram!(BYTES_PER_BATCH),
            append: histogram!(APPEND),
            routing: histogram!(ROUTING),
            timer_lateness: histogram!(TIMER_LATENESS),
            mailbox: gauge(MAILBOX),
            executions: gauge(EXECUTIONS),
            leases: gauge(LEASES),
            timers: gauge(TIMERS),
            unoffered: gauge(UNOFFERED),
            position: gauge(POSITION),
            leading: gauge(LEADING),
        }
    }

    /// The partition is not led here any more.
    pub(crate) fn leads_no_more(&self) {
        self.leading.set(0.0);
    }

    pub(crate) fn appended(&self, since: Instant) {
        self.append.record(since.elapsed());
    }

    pub(crate) fn routed(&self, after: DurationMs) {
        self.routing.record(seconds(after));
    }

    pub(crate) fn timer_fired(&self, late: DurationMs) {
        self.timer_lateness.record(seconds(late));
    }
}

/// For metrics, which are in seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "a span of more than 285,000 years"
)]
fn seconds(span: DurationMs) -> f64 {
    span.0 as f64 / 1000.0
}

/// For gauges, which are floating point.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) fn level(count: usize) -> f64 {
    count as f64
}
