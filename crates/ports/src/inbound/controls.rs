//! Steering executions that run, and asking what they wait for.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_domain::{
    AgentName, Attempt, ExecutionId, TaskReference, Tenant, Timestamp, execution::Status,
};
use serde::{Deserialize, Serialize};

use super::{ExecutionView, Refusal};

/// Executions, for whoever operates them (requirements F4, X3).
///
/// 1. `control` MUST answer only after the order is durable.
/// 2. A repeated order MUST be accepted and change nothing; an order to an ended execution MUST be refused with
///    `Contradiction`, except the one that brought it there.
/// 3. After an acknowledged pause nothing new MUST begin before a resume; what had begun may end and MUST be kept.
/// 4. After an acknowledged stop nothing new MUST begin, late results MUST be refused with `Contradiction`, and the
///    execution MUST end as cancelled.
/// 5. After a resume everything that a pause held back MUST go on, each attempt once.
/// 6. An execution that this tenant does not have MUST be refused with `NotFound`.
/// 7. `explain` MUST name everything that an open execution waits for, since when, who holds it and what comes next.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Controls: Send + Sync {
    /// Pauses, resumes or stops an execution.
    async fn control(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
        action: Action,
        reason: Option<Arc<str>>,
    ) -> Result<ExecutionView, Refusal>;
    /// What it waits for.
    async fn explain(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Explanation, Refusal>;
}

/// What an execution is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Begin nothing new until it is resumed.
    Pause,
    /// Go on.
    Resume,
    /// End as cancelled.
    Stop,
}

/// What an execution waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// Which.
    pub execution: ExecutionId,
    /// Where it stands.
    pub status: Status,
    /// The whole in one sentence.
    pub summary: String,
    /// Each thing it waits for: what holds all of it back first, then what waits longest.
    pub waits: Vec<Wait>,
    /// How many more there are than are listed.
    pub more: usize,
}

/// One thing that an execution waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wait {
    /// For whom or what.
    pub cause: Cause,
    /// The task that waits; none where it is the execution itself.
    pub task: Option<TaskReference>,
    /// Which try of it.
    pub attempt: Option<Attempt>,
    /// Since when.
    pub since: Timestamp,
    /// Who holds the attempt.
    pub held_by: Option<AgentName>,
    /// Until when, unless it sends a heartbeat.
    pub held_until: Option<Timestamp>,
    /// When something happens by itself.
    pub due: Option<Timestamp>,
    /// What it waits for, in words.
    pub detail: String,
    /// What comes next, in words.
    pub next: String,
}

/// What kind of thing an execution waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// For an agent to take an attempt.
    Agent,
    /// For the agent that has taken it.
    Result,
    /// For the answer to an HTTP call.
    Response,
    /// For the next attempt after a failure.
    Retry,
    /// For a time that a `wait` names.
    Timer,
    /// For a place among the steps that may run at once.
    Place,
    /// For somebody to resume it.
    Resume,
    /// For this service, which has something to do for it.
    Engine,
}

impl Cause {
    /// The word that people and programs see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Result => "result",
            Self::Response => "response",
            Self::Retry => "retry",
            Self::Timer => "timer",
            Self::Place => "place",
            Self::Resume => "resume",
            Self::Engine => "engine",
        }
    }
}
