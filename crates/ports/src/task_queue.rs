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
/// 2. Tasks of one execution and capability MUST be taken in the order they were offered, as long as every take that
///    got one has answered with it. How executions take turns is the queue's own.
/// 3. `take` MUST give at most `max` tasks, at once where there is one, and otherwise wait up to `wait` for the first.
/// 4. `take` MUST answer empty after `wait` where nothing came.
/// 5. A `take` that is dropped while it waits MUST NOT lose a task.
/// 6. An offer of what is offered already (execution, task, attempt) MUST be dropped.
/// 7. No tenant MUST ever be given a task of another.
/// 8. `lost` MUST name, once each, the attempts of a partition that were offered through this instance and that no take
///    will be given any more, except those that were settled; and no other.
/// 9. An attempt that is settled MUST NOT be named by `lost`; one that was named MAY be offered again, and that offer
///    is a new one.
/// 10. After `forget` no attempt of the partition that was offered before MUST be named by `lost`.
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
    /// What was offered of a partition and has got lost on the way: it is to be offered again where it is still wanted.
    async fn lost(&self, partition: PartitionId) -> Result<Vec<OfferedAttempt>, QueueError>;
    /// An agent has begun it, or nobody wants it any more: it need not be watched.
    fn settle(&self, attempt: &OfferedAttempt);
    /// The partition has another leader now: nothing of it need be watched.
    fn forget(&self, partition: PartitionId);
}

/// Which attempt was offered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfferedAttempt {
    /// The home of its execution.
    pub partition: PartitionId,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its execution.
    pub execution: ExecutionId,
    /// Its task.
    pub task: TaskReference,
    /// Which try.
    pub attempt: Attempt,
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
    /// Names the attempt to whoever performs it, signed.
    pub token: Arc<str>,
    /// What to work on; its content is in memory.
    pub input: Value,
    /// When it became ready.
    pub ready_at: Timestamp,
    /// The W3C trace context of the execution's start.
    pub traceparent: Option<Arc<str>>,
}

impl TaskOffer {
    /// Which attempt it offers.
    pub fn offered(&self) -> OfferedAttempt {
        OfferedAttempt {
            partition: self.partition,
            tenant: self.tenant.clone(),
            execution: self.execution.clone(),
            task: self.task.clone(),
            attempt: self.attempt,
        }
    }
}

/// Why the queue did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Try again later; what was offered may be there.
    #[error("the task queue did not answer: {0}")]
    Unavailable(#[source] Source),
}
