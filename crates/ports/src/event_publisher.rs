//! Lifecycle events for the world outside (requirements E3, E4).

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_domain::{
    ExecutionId, Json, PartitionId, Position, Sequence, Tenant, Timestamp, WorkflowId,
};

use crate::Source;

/// Publishes facts: at least once, in order per execution.
///
/// 1. An acknowledged batch MUST have been published whole, in its order.
/// 2. `position` MUST answer the highest position of an acknowledged batch of this partition, 0 before the first, also
///    from a new instance on the same store, so that a feed goes on where it stopped.
/// 3. A batch that was published already MUST be accepted again (events carry their own id; receivers drop repeats).
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait EventPublisher: Send + Sync {
    /// Publishes the events of the records up to `through`.
    async fn publish(
        &self,
        partition: PartitionId,
        through: Position,
        events: Vec<LifecycleEvent>,
    ) -> Result<(), PublishError>;
    /// How far this partition has been published.
    async fn position(&self, partition: PartitionId) -> Result<Position, PublishError>;
}

/// One public event of an execution: INTERFACES section 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// UUID v7 of its time and SHA-256 of `(execution, sequence)`: the same event has the same id for ever.
    pub id: Arc<str>,
    /// `workflow_execution_started`, `task_completed`, …
    pub kind: &'static str,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its execution.
    pub execution: ExecutionId,
    /// The execution's workflow.
    pub workflow: WorkflowId,
    /// Its place among the execution's events; may skip numbers, never repeats or goes back.
    pub sequence: Sequence,
    /// When it happened.
    pub time: Timestamp,
    /// Carried from the trigger.
    pub correlation: Option<Arc<str>>,
    /// The id of the message that started its execution, where it was one.
    pub causation: Option<Arc<str>>,
    /// The W3C trace context of the execution's start.
    pub traceparent: Option<Arc<str>>,
    /// What its type needs: `task`, `attempt`, `agent`, `output`, `error`, `durationMs`.
    pub data: Json,
}

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Maybe published: publish again later.
    #[error("the event publisher did not answer: {0}")]
    Unavailable(#[source] Source),
}
