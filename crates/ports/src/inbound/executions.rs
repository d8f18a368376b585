//! Starting, watching and reading executions.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{
    AgentName, Attempt, Digest, ExecutionId, Json, Problem, Sequence, TaskReference, Tenant,
    Timestamp, WorkflowId,
    execution::{Status, TaskStatus},
};
use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::{LifecycleEvent, ListQuery};

/// Executions, from outside.
///
/// 1. `start` MUST answer only after the start is durable.
/// 2. A start that repeats an id or idempotency key with the same content MUST answer the same execution and start
///    nothing; with other content it MUST be refused with `Contradiction`.
/// 3. A start of an unknown workflow MUST be refused with `NotFound`, of an invalid inline document with `Invalid` and
///    all of its faults.
/// 4. `view`, `history` and `list` MUST see everything that was acknowledged to anybody before the call, and nothing of
///    another tenant.
/// 5. `wait` MUST answer as soon as the execution has ended, and after `within` in any case.
/// 6. `history` MUST give every event in order of sequence, without a gap, and a hash that chains each to the one
///    before.
/// 7. `events` MUST give every public event after the given point in order, then go on live; of one execution it MUST
///    end after the terminal event.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Executions: Send + Sync {
    /// Accepts a start.
    async fn start(&self, request: StartExecution) -> Result<Started, Refusal>;
    /// The whole of one execution.
    async fn view(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<ExecutionView, Refusal>;
    /// The same, once it has ended or `within` has passed.
    async fn wait(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
        within: Duration,
    ) -> Result<ExecutionView, Refusal>;
    /// A page of executions, newest first.
    async fn list(&self, query: ListQuery) -> Result<ListPage, Refusal>;
    /// A page of an execution's journal events.
    async fn history(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
        after: Sequence,
        limit: usize,
    ) -> Result<HistoryPage, Refusal>;
    /// Public events, live.
    async fn events(&self, tenant: &Tenant, from: StreamFrom) -> Result<EventStream, Refusal>;
}

/// A request to start.
#[derive(Debug, Clone)]
pub struct StartExecution {
    /// Whose it will be.
    pub tenant: Tenant,
    /// What to run.
    pub workflow: WorkflowRef,
    /// The workflow's raw input; `null` where none is given.
    pub input: Json,
    /// The caller's own id.
    pub execution: Option<ExecutionId>,
    /// Derives the id where there is none. Never together with `execution`.
    pub idempotency_key: Option<String>,
    /// Forwarded through every event.
    pub correlation: Option<Arc<str>>,
    /// For people and filters.
    pub labels: BTreeMap<String, String>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// The id of the message that asked for it; every event of the execution names it (requirement S3).
    pub causation: Option<Arc<str>>,
}

/// Which workflow.
#[derive(Debug, Clone)]
pub enum WorkflowRef {
    /// A registered one.
    Named {
        /// `default` where nothing is said.
        namespace: String,
        /// Its name.
        name: String,
        /// The latest where none is given.
        version: Option<String>,
    },
    /// A document as JSON.
    Inline(Json),
}

/// A start that is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// Its id.
    pub execution: ExecutionId,
    /// Whether it was there already.
    pub repeated: bool,
    /// What it looks like now.
    pub view: ExecutionView,
}

/// The full view of INTERFACES section 2.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecutionView {
    /// Its id.
    pub execution: ExecutionId,
    /// Whose it is.
    pub tenant: Tenant,
    /// What it runs.
    pub workflow: WorkflowId,
    /// The definition it is pinned to.
    pub digest: Digest,
    /// Carried from the trigger.
    pub correlation: Option<Arc<str>>,
    /// As given at the start.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub status: Status,
    /// As given at the start.
    pub input: Json,
    /// Once completed.
    pub output: Option<Json>,
    /// Once faulted.
    pub error: Option<Problem>,
    /// When the start was accepted.
    pub created_at: Timestamp,
    /// When the first task was activated.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When it will end, as far as can be told (requirement W8).
    pub estimated_completion: Option<Timestamp>,
    /// Counts of tasks.
    pub progress: Progress,
    /// Every task, in document order; empty in lists.
    pub tasks: Vec<TaskView>,
    /// The sequence of its last event.
    pub sequence: Sequence,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Tasks that ended well or were skipped.
    pub completed: u32,
    /// Tasks under way.
    pub running: u32,
    /// Tasks to come, as far as the plan tells.
    pub pending: u32,
    /// All of them.
    pub total: u32,
}

/// One task of a view.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskView {
    /// Where it stands in the document.
    pub reference: TaskReference,
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands in time.
    pub status: TaskStatus,
    /// The current or last try, 0 before the first.
    pub attempt: Attempt,
    /// Who holds or held it.
    pub agent: Option<AgentName>,
    /// When it was activated.
    pub scheduled_at: Option<Timestamp>,
    /// When an agent began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Once completed.
    pub output: Option<Json>,
    /// The last error, while it retries and once it has faulted.
    pub error: Option<Problem>,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// Summaries: views without input, output and tasks.
    pub executions: Vec<ExecutionView>,
    /// Where the next page begins.
    pub next: Option<(Timestamp, ExecutionId)>,
}

/// A page of a history.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// In order.
    pub events: Vec<HistoryEvent>,
    /// The sequence to continue after.
    pub next: Option<Sequence>,
}

/// One journal event.
#[derive(Debug, Clone)]
pub struct HistoryEvent {
    /// Its place.
    pub sequence: Sequence,
    /// Its type in `snake_case`.
    pub kind: &'static str,
    /// When it happened.
    pub time: Timestamp,
    /// All of it.
    pub data: Json,
    /// SHA-256 over the hash before it and this event.
    pub hash: Digest,
}

/// Where a stream of events begins.
#[derive(Debug, Clone)]
pub enum StreamFrom {
    /// One execution, after this sequence.
    Execution(ExecutionId, Sequence),
    /// All executions of the tenant, from now on.
    Now,
}

/// Live events; an error item ends it.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<LifecycleEvent, Refusal>> + Send>>;
