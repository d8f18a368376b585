//! The task queue: what is ready to be performed, by tenant and capability. Soft: rebuilt from state at will.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{
    Attempt, Capability, ExecutionId, PartitionId, TaskReference, Tenant, Timestamp, Value,
    WorkflowId,
};

use crate::Source;

/// Hands ready attempts to whoever takes them first.
///
/// 1. An offered task MUST be given to exactly one `take` of its tenant and of a capability that the take names.
/// 2. Tasks of one execution MUST be taken in the order they were offered; executions take turns, so that one with a
///    thousand ready tasks cannot starve the rest.
/// 3. `take` MUST give at most `max` tasks, at once where there is one, and otherwise wait up to `wait` for the first.
/// 4. `take` MUST answer empty after `wait` where nothing came.
/// 5. A `take` that is dropped while it waits MUST NOT lose a task.
/// 6. An offer of what is offered already (execution, task, attempt) MUST be dropped.
/// 7. No tenant MUST ever be given a task of another.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait TaskQueue: Send + Sync {
    /// Makes attempts available.
    async fn offer(&self, tasks: Vec<TaskOffer>) -> Result<(), QueueError>;
    /// Takes up to `max` attempts, waiting up to `wait` for the first.
    async fn take(
        &self,
        tenant: &Tenant,
        capabilities: &[Capability],
        max: usize,
        wait: Duration,
    ) -> Result<Vec<TaskOffer>, QueueError>;
}

/// One attempt, ready to be performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOffer {
    /// Whose it is.
    pub tenant: Tenant,
    /// The queue it waits in.
    pub capability: Capability,
    /// The home of its execution.
    pub partition: PartitionId,
    /// Its execution.
    pub execution: ExecutionId,
    /// Its task.
    pub task: TaskReference,
    /// Which try.
    pub attempt: Attempt,
    /// The workflow, for the agent's information.
    pub workflow: WorkflowId,
    /// What to work on; its content is in memory.
    pub input: Value,
    /// When it became ready.
    pub ready_at: Timestamp,
    /// The W3C trace context of the execution's start.
    pub traceparent: Option<Arc<str>>,
}

/// Why the queue did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Try again later; what was offered may be there.
    #[error("the task queue did not answer: {0}")]
    Unavailable(#[source] Source),
}
