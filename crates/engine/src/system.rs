//! The `System` port: what this node says of itself.

use eventflow_domain::limits;
use eventflow_ports::inbound::{PartitionView, System, SystemView};

use crate::{
    config,
    engine::{Engine, Inner},
    leading::Membership,
    partition::State,
    seat::{Seat, Told},
};

/// A node with its metrics: the engine counts, the app decides who renders.
pub struct Node<R> {
    engine: std::sync::Arc<Engine>,
    render_metrics: R,
}

impl<R: Fn() -> String + Send + Sync> Node<R> {
    /// `render_metrics` gives every metric in Prometheus' text format.
    pub fn new(engine: std::sync::Arc<Engine>, render_metrics: R) -> Self {
        Self {
            engine,
            render_metrics,
        }
    }
}

impl<R: Fn() -> String + Send + Sync> System for Node<R> {
    fn readiness(&self) -> Result<(), Vec<String>> {
        readiness(&self.engine.inner)
    }

    fn system(&self) -> SystemView {
        let inner = &self.engine.inner;
        SystemView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: inner.backend.name.to_owned(),
            partitions: inner.seats.iter().map(|seat| shown(inner, seat)).collect(),
            limits: limits(inner.config.lease.0),
        }
    }

    fn metrics(&self) -> String {
        (self.render_metrics)()
    }
}

/// Whether this node can accept work, or every reason why not: a partition without a known leader, or one that is led
/// here and does not write.
pub(crate) fn readiness(inner: &Inner) -> Result<(), Vec<String>> {
    let membership = inner.membership.as_ref();
    let cut_off = membership.and_then(Membership::cut_off);
    let troubles = inner.seats.iter().filter_map(|seat| {
        let shown = shown(inner, seat);
        let reason = shown.reason?;
        Some(format!("partition {}: {reason}", seat.id))
    });
    let reasons: Vec<_> = cut_off.into_iter().chain(troubles).collect();
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(reasons)
    }
}

/// A partition as this node knows it.
fn shown(inner: &Inner, seat: &Seat) -> PartitionView {
    if let Some(partition) = seat.led() {
        let status = partition.status();
        let leads = status.state == State::Leading;
        return PartitionView {
            id: seat.id,
            leader: leads.then(|| inner.config.node.to_string()),
            epoch: status.epoch,
            position: status.position,
            reason: status.state.reason().map(ToOwned::to_owned),
        };
    }
    let Told {
        leader,
        standing,
        reason,
        ..
    } = seat.told();
    let is_ours = leader.as_ref() == Some(&inner.config.node);
    let missing = match (&leader, &standing) {
        (Some(_), Some(standing)) => standing.reason.clone(),
        (Some(_), None) if is_ours => Some("it is being recovered here".to_owned()),
        (Some(leader), None) => Some(format!("{leader} is about to lead it")),
        (None, _) => Some("no node leads it".to_owned()),
    };
    let standing = standing.unwrap_or_default();
    PartitionView {
        id: seat.id,
        leader: leader
            .filter(|_| missing.is_none())
            .map(|leader| leader.to_string()),
        epoch: standing.epoch,
        position: standing.position,
        reason: missing.map(|missing| match reason {
            Some(reason) => format!("{missing}; it cannot be led here: {reason}"),
            None => missing,
        }),
    }
}

fn limits(lease_ms: u64) -> Vec<(&'static str, u64)> {
    vec![
        ("executionTimeoutMs", limits::EXECUTION_TIMEOUT.0),
        ("taskTimeoutMs", limits::TASK_TIMEOUT.0),
        ("startWithinMs", limits::START_WITHIN.0),
        ("leaseMs", lease_ms),
        (
            "tasksPerExecution",
            u64::from(limits::TASKS_PER_EXECUTION_MAX),
        ),
        ("inlineValueBytes", limits::INLINE_VALUE_BYTES_MAX as u64),
        ("blobBytes", limits::BLOB_BYTES_MAX as u64),
        ("responseBytes", limits::RESPONSE_BYTES_MAX as u64),
        ("snippetBytes", limits::SNIPPET_BYTES_MAX as u64),
        ("documentBytes", eventflow_dsl::DOCUMENT_BYTES_MAX as u64),
        ("documentDepth", eventflow_dsl::DOCUMENT_DEPTH_MAX as u64),
        ("mailboxCommands", config::MAILBOX_MAX as u64),
        ("batchCommands", config::BATCH_COMMANDS_MAX as u64),
        ("batchBytes", config::BATCH_BYTES_MAX as u64),
        (
            "residentExecutionsPerPartition",
            config::RESIDENTS_MAX as u64,
        ),
        ("httpCallsPerPartition", config::HTTP_IN_FLIGHT_MAX as u64),
    ]
}
