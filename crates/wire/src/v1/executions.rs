//! Executions: starting them, and what is told of them.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use eventflow_domain::{
    AgentName, Attempt, Digest, ExecutionId, Json, Sequence, Tenant, WorkflowId,
    execution::{Status, TaskStatus},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Problem, Time};

/// `POST /v1/executions`: exactly one of `workflow` and `definition`. A key that is not listed here is refused: misspelt,
/// it would change what is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartBody {
    /// A registered workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowChoice>,
    /// A document of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub definition: Option<Json>,
    /// The workflow's raw input; `null` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub input: Option<Json>,
    /// The caller's own id, unique within the tenant; not together with the header `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$", example = "order-17")]
    pub execution_id: Option<ExecutionId>,
    /// Forwarded through every event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub correlation_id: Option<Arc<str>>,
    /// For people and filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Which registered workflow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkflowChoice {
    /// `default` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "default")]
    pub namespace: Option<String>,
    /// Its name.
    #[schema(example = "order")]
    pub name: String,
    /// The latest where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "1.0.0")]
    pub version: Option<String>,
}

impl WorkflowChoice {
    /// The namespace of everything that names none.
    pub const NAMESPACE: &str = "default";
}

/// A workflow by name, as events and tasks carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkflowName {
    /// Groups definitions.
    #[schema(value_type = String, example = "default")]
    pub namespace: Arc<str>,
    /// Unique within its namespace.
    #[schema(value_type = String, example = "order")]
    pub name: Arc<str>,
    /// A semantic version.
    #[schema(value_type = String, example = "1.0.0")]
    pub version: Arc<str>,
}

impl From<WorkflowId> for WorkflowName {
    fn from(workflow: WorkflowId) -> Self {
        Self {
            namespace: workflow.namespace,
            name: workflow.name,
            version: workflow.version,
        }
    }
}

/// A workflow by name and content: what an execution is pinned to.
pub use super::workflows::Workflow as WorkflowPin;

/// The full view of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionView {
    /// Its id.
    #[schema(value_type = String, example = "order-17")]
    pub execution_id: ExecutionId,
    /// What it runs, and the definition it is pinned to.
    pub workflow: WorkflowPin,
    /// Whose it is.
    #[schema(value_type = String, example = "default")]
    pub tenant: Tenant,
    /// Carried from the trigger through every event.
    #[schema(value_type = Option<String>)]
    pub correlation_id: Option<Arc<str>>,
    /// As given at the start.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    #[schema(value_type = StatusWord)]
    pub status: Status,
    /// As given at the start.
    #[schema(value_type = serde_json::Value)]
    pub input: Json,
    /// Once completed.
    #[schema(value_type = serde_json::Value)]
    pub output: Option<Json>,
    /// Once faulted.
    pub error: Option<Problem>,
    /// When the start was accepted.
    pub created_at: Time,
    /// When the first task was activated.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// When it will end, as far as can be told.
    pub estimated_completion: Option<Time>,
    /// How far it has come.
    pub progress: Progress,
    /// Every task, in document order.
    #[serde(default)]
    pub tasks: Vec<TaskView>,
}

/// An execution in a list: the full view without input, output and tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its id.
    #[schema(value_type = String, example = "order-17")]
    pub execution_id: ExecutionId,
    /// What it runs, and the definition it is pinned to.
    pub workflow: WorkflowPin,
    /// Whose it is.
    #[schema(value_type = String, example = "default")]
    pub tenant: Tenant,
    /// Carried from the trigger through every event.
    #[schema(value_type = Option<String>)]
    pub correlation_id: Option<Arc<str>>,
    /// As given at the start.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    #[schema(value_type = StatusWord)]
    pub status: Status,
    /// Once faulted.
    pub error: Option<Problem>,
    /// When the start was accepted.
    pub created_at: Time,
    /// When the first task was activated.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// When it will end, as far as can be told.
    pub estimated_completion: Option<Time>,
    /// How far it has come.
    pub progress: Progress,
}

/// Counts of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Ended well or skipped.
    pub completed: u32,
    /// Under way.
    pub running: u32,
    /// To come, as far as the plan tells.
    pub pending: u32,
    /// All of them.
    pub total: u32,
}

/// One task of a full view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// Where it stands in the document: a JSON Pointer.
    #[schema(value_type = String, example = "/do/0/charge")]
    pub reference: Arc<str>,
    /// Its name.
    #[schema(value_type = String, example = "charge")]
    pub name: Arc<str>,
    /// The indices of the loops around it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub iteration: Vec<u32>,
    /// Where it stands in time.
    #[schema(value_type = TaskStatusWord)]
    pub status: TaskStatus,
    /// The current or last try, 0 before the first.
    #[schema(value_type = u32)]
    pub attempt: Attempt,
    /// Who holds or held it.
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentName>,
    /// When it was activated.
    pub scheduled_at: Option<Time>,
    /// When an agent began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub output: Option<Json>,
    /// The last error, while it retries and once it has faulted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// `GET /v1/executions`: a page, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListAnswer {
    /// Summaries.
    pub executions: Vec<Summary>,
    /// The `cursor` of the next page; `null` on the last.
    pub next: Option<String>,
}

/// `GET /v1/executions/{id}/history`: a page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryAnswer {
    /// In order of sequence.
    pub events: Vec<HistoryEvent>,
    /// The `after` of the next page; `null` on the last.
    #[schema(value_type = Option<u64>)]
    pub next: Option<Sequence>,
}

/// One journal event of an execution; one line of the ndjson export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEvent {
    /// Its place; the first is 1, without gaps.
    #[schema(value_type = u64, example = 1)]
    pub sequence: Sequence,
    /// Its type in `snake_case`.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "task_completed")]
    pub kind: Cow<'static, str>,
    /// When it happened.
    pub time: Time,
    /// All of it.
    #[schema(value_type = serde_json::Value)]
    pub data: Json,
    /// SHA-256 over the hash before it and this event, in hex.
    #[schema(value_type = String)]
    pub hash: Digest,
}

/// Where an execution stands.
#[derive(ToSchema)]
#[schema(as = Status, rename_all = "lowercase")]
#[expect(dead_code, reason = "a schema is made of it, never a value")]
pub(super) enum StatusWord {
    Pending,
    Running,
    Waiting,
    Suspending,
    Suspended,
    Cancelled,
    Faulted,
    Completed,
}

/// Where a task stands.
#[derive(ToSchema)]
#[schema(as = TaskStatus, rename_all = "lowercase")]
#[expect(dead_code, reason = "a schema is made of it, never a value")]
enum TaskStatusWord {
    Pending,
    Running,
    Waiting,
    Suspended,
    Cancelled,
    Faulted,
    Completed,
    Skipped,
}
