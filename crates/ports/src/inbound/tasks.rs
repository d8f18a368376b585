//! Leasing attempts and bringing their results (INTERFACES section 2, agents).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{
    AgentName, Attempt, Capability, DurationMs, ExecutionId, Json, Problem, TaskReference, Tenant,
    Timestamp, WorkflowId,
};
use serde::{Deserialize, Serialize};

use super::Refusal;

/// Tasks, from an agent's side.
///
/// 1. `lease` MUST give only attempts whose schedule is durable, of the tenant and the capabilities named, each to one
///    agent at a time; it MUST answer empty after `wait`.
/// 2. A lease MUST be refused silently (the attempt is left out) where the attempt is no longer wanted.
/// 3. `results` MUST answer a completion or failure only after it is durable, in the order given.
/// 4. The same result again MUST be accepted; another result, or one of an attempt that is superseded or stopped, MUST
///    be refused with `Contradiction`.
/// 5. A token that was not given out by this store MUST be refused with `NotFound`, and so MUST another tenant's.
/// 6. A heartbeat MUST extend the lease and answer whether the attempt is cancelled, at once.
/// 7. A lease that passes without a heartbeat MUST end the attempt, and its retry policy decides what follows.
/// 8. An attempt that was leased before a restart MUST still be accepted after it.
/// 9. `begin` MUST grant an attempt to one agent at a time, until when it then holds it, and only while it is wanted and
///    its schedule is durable; to the same agent it MUST be granted again. Otherwise it MUST be refused with
///    `Contradiction`, and a token that was not given out by this store with `NotFound`.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Tasks: Send + Sync {
    /// Takes attempts to perform.
    async fn lease(
        &self,
        tenant: &Tenant,
        request: LeaseRequest,
    ) -> Result<Vec<LeasedTask>, Refusal>;
    /// Begins attempts whose tokens the agent got from a queue rather than from a lease, answered one by one in order.
    async fn begin(&self, tenant: &Tenant, begins: Vec<Begin>) -> Vec<Result<Timestamp, Refusal>>;
    /// Brings results and signs of life, answered one by one in order.
    async fn results(&self, tenant: &Tenant, results: Vec<TaskResult>) -> Vec<ResultOutcome>;
}

/// A signed name of one attempt, opaque outside of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskToken(pub Arc<str>);

/// What an agent asks for.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// Who asks.
    pub agent: AgentName,
    /// What it can do; at least one.
    pub capabilities: Vec<Capability>,
    /// At most so many.
    pub max: usize,
    /// How long to wait for the first.
    pub wait: Duration,
    /// How long it will hold each without a heartbeat; the default is 60 s.
    pub lease_for: Option<DurationMs>,
}

/// One attempt, leased.
#[derive(Debug, Clone)]
pub struct LeasedTask {
    /// Names the attempt in what follows.
    pub token: TaskToken,
    /// Its execution.
    pub execution: ExecutionId,
    /// Its workflow.
    pub workflow: WorkflowId,
    /// Its task.
    pub task: TaskReference,
    /// What it needs.
    pub capability: Capability,
    /// Which try.
    pub attempt: Attempt,
    /// What to work on.
    pub input: Json,
    /// When the lease ends.
    pub deadline: Timestamp,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
}

/// An agent is about to perform an attempt.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Which attempt.
    pub token: TaskToken,
    /// Who.
    pub agent: AgentName,
    /// How long it will hold it without a heartbeat; the default is 60 s.
    pub lease_for: Option<DurationMs>,
}

/// What an agent says of an attempt.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// Which attempt.
    pub token: TaskToken,
    /// What of it.
    pub verdict: TaskVerdict,
}

/// Done, failed or still at it.
#[derive(Debug, Clone)]
pub enum TaskVerdict {
    /// Done, with this output.
    Complete(Json),
    /// Failed.
    Fail(TaskFailure),
    /// Still at it.
    Heartbeat,
}

/// How it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    /// The agent's own error.
    pub error: Problem,
    /// Whether another try may help.
    pub retryable: bool,
    /// When the agent would have the next try, at the earliest.
    pub retry_after: Option<DurationMs>,
}

/// The answer to one result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ResultOutcome {
    /// Durable.
    Accepted,
    /// The lease as it stands now.
    Alive(Heartbeat),
    /// Not taken.
    Refused(Refusal),
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whether to stop working on it.
    pub cancelled: bool,
    /// When the lease ends now.
    pub lease_until: Timestamp,
}
