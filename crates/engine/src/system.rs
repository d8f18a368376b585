//! The `System` port: what this node says of itself.

use eventflow_domain::limits;
use eventflow_ports::inbound::{PartitionView, System, SystemView};

use crate::{
    config,
    engine::Engine,
    partition::{State, Status},
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
        let reasons: Vec<_> = self
            .engine
            .inner
            .partitions
            .iter()
            .filter_map(|partition| {
                let status = partition.status();
                let reason = status.state.reason()?;
                Some(format!("partition {}: {reason}", partition.id))
            })
            .collect();
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(reasons)
        }
    }

    fn system(&self) -> SystemView {
        let inner = &self.engine.inner;
        let view = |status: &Status, id| PartitionView {
            id,
            leader: (status.state == State::Leading).then(|| inner.config.node.clone()),
            epoch: status.epoch,
            position: status.position,
            reason: status.state.reason().map(ToOwned::to_owned),
        };
        SystemView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: inner.backend.name.to_owned(),
            partitions: inner
                .partitions
                .iter()
                .map(|partition| view(&partition.status(), partition.id))
                .collect(),
            limits: limits(inner.config.lease.0),
        }
    }

    fn metrics(&self) -> String {
        (self.render_metrics)()
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
