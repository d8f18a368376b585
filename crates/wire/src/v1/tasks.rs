//! What agents send and get: leases, results and signs of life. The same bodies over HTTP and NATS.
//!
//! Unknown fields are ignored, so that an agent of a later version still works with this service.

use std::sync::Arc;

use eventflow_domain::{
    AgentName, Attempt, Capability, ExecutionId, Json, TaskReference, Tenant,
    error::{self, ErrorKind},
};
use eventflow_ports::TaskOffer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Problem, Span, Time, executions::WorkflowName};

/// `POST /v1/tasks/lease`: what an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseBody {
    /// Who asks.
    #[schema(value_type = String, example = "worker-1")]
    pub agent: AgentName,
    /// What it can do; at least one.
    #[schema(value_type = Vec<String>, example = json!(["charge"]), min_items = 1)]
    pub capabilities: Vec<Capability>,
    /// At most so many tasks; 1 where nothing is said.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1024, example = 10)]
    pub max: usize,
    /// How long to wait for the first; not at all where nothing is said, at most 55 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// How long the agent holds each task without a heartbeat; 60 seconds where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_for: Option<Span>,
}

fn one() -> usize {
    1
}

/// The tasks that were leased; empty after `wait`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct LeaseAnswer {
    /// Each is held by this agent until its deadline.
    pub tasks: Vec<LeasedTask>,
}

/// One attempt, leased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeasedTask {
    /// Names the attempt in what follows.
    #[schema(value_type = String)]
    pub token: Arc<str>,
    /// Its execution.
    #[schema(value_type = String)]
    pub execution_id: ExecutionId,
    /// Whose it is.
    #[schema(value_type = String, example = "default")]
    pub tenant: Tenant,
    /// Its workflow.
    pub workflow: WorkflowName,
    /// Where the task stands in the document: a JSON Pointer.
    #[schema(value_type = String, example = "/do/0/charge")]
    pub task: Arc<str>,
    /// The indices of the loops around it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub iteration: Vec<u32>,
    /// What it needs.
    #[schema(value_type = String, example = "charge")]
    pub capability: Capability,
    /// Which try; the first is 1.
    #[schema(value_type = u32, example = 1)]
    pub attempt: Attempt,
    /// What to work on.
    #[schema(value_type = serde_json::Value)]
    pub input: Json,
    /// The same for every delivery of this attempt, another for the next one: pass it on to whoever is called.
    #[schema(example = "order-17:/do/0/charge:1")]
    pub idempotency_key: String,
    /// When the lease ends, unless a heartbeat comes first.
    pub deadline: Time,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub traceparent: Option<Arc<str>>,
}

/// The header of a task on a NATS queue that names the node it was given out by. What is said of the task on
/// `eventflow.results.<tenant>.<node>` is not passed on from node to node, as it is on `eventflow.results.<tenant>`.
pub const NODE_HEADER: &str = "eventflow-node";

/// One attempt, on a NATS queue: whoever takes it asks to begin it before performing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuedTask {
    /// Names the attempt in what follows.
    #[schema(value_type = String)]
    pub token: Arc<str>,
    /// Its execution.
    #[schema(value_type = String)]
    pub execution_id: ExecutionId,
    /// Whose it is.
    #[schema(value_type = String, example = "default")]
    pub tenant: Tenant,
    /// Its workflow.
    pub workflow: WorkflowName,
    /// Where the task stands in the document: a JSON Pointer.
    #[schema(value_type = String, example = "/do/0/charge")]
    pub task: Arc<str>,
    /// The indices of the loops around it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub iteration: Vec<u32>,
    /// What it needs.
    #[schema(value_type = String, example = "charge")]
    pub capability: Capability,
    /// Which try; the first is 1.
    #[schema(value_type = u32, example = 1)]
    pub attempt: Attempt,
    /// What to work on.
    #[schema(value_type = serde_json::Value)]
    pub input: Json,
    /// The same for every delivery of this attempt, another for the next one: pass it on to whoever is called.
    #[schema(example = "order-17:/do/0/charge:1")]
    pub idempotency_key: String,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub traceparent: Option<Arc<str>>,
}

impl QueuedTask {
    /// What an offer says to agents; nothing where its input is not in memory.
    pub fn of(offer: TaskOffer) -> Option<Self> {
        let idempotency_key = LeasedTask::key(&offer.execution, &offer.task, offer.attempt);
        Some(Self {
            input: offer.input.json()?.clone(),
            token: offer.token,
            execution_id: offer.execution,
            tenant: offer.tenant,
            workflow: offer.workflow.into(),
            task: offer.task.pointer,
            iteration: offer.task.iteration,
            capability: offer.capability,
            attempt: offer.attempt,
            idempotency_key,
            traceparent: offer.traceparent,
        })
    }

    /// The task once it has begun: it is held until its deadline.
    pub fn begun(self, deadline: Time) -> LeasedTask {
        LeasedTask {
            token: self.token,
            execution_id: self.execution_id,
            tenant: self.tenant,
            workflow: self.workflow,
            task: self.task,
            iteration: self.iteration,
            capability: self.capability,
            attempt: self.attempt,
            input: self.input,
            idempotency_key: self.idempotency_key,
            deadline,
            traceparent: self.traceparent,
        }
    }
}

impl LeasedTask {
    /// The key of an attempt: its `(execution, task, attempt)` as text, so that it survives restarts and redeliveries.
    pub fn key(execution: &ExecutionId, task: &TaskReference, attempt: Attempt) -> String {
        format!("{execution}:{task}:{attempt}")
    }
}

/// `POST /v1/tasks/{token}/complete`: it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompleteBody {
    /// What came of it; `null` where nothing is said.
    #[serde(default = "Json::null")]
    #[schema(value_type = serde_json::Value)]
    pub output: Json,
}

/// `POST /v1/tasks/{token}/fail`: it did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailBody {
    /// The agent's own error.
    pub error: FailError,
    /// Whether another try may help; it may where nothing is said.
    #[serde(default = "yes")]
    pub retryable: bool,
    /// When the agent would have the next try, at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Span>,
}

fn yes() -> bool {
    true
}

/// An agent's error: a problem of which everything may be left out. Texts are cut at 4 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailError {
    /// A URI that names the kind of error, which a workflow may catch; `…/errors/runtime` where nothing is said.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A short summary, the same for all of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// An HTTP-like status; 500 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What happened this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl From<FailError> for error::Problem {
    fn from(error: FailError) -> Self {
        Self {
            kind: error
                .kind
                .unwrap_or_else(|| ErrorKind::Runtime.uri().into())
                .into(),
            title: error.title,
            status: error.status.unwrap_or(ErrorKind::Runtime.status()),
            detail: error.detail,
            instance: None,
            call: None,
        }
    }
}

/// `POST /v1/tasks/{token}/heartbeat`: still at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatBody {
    /// How far it has come, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub progress: Option<Json>,
}

/// The lease as it stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatAnswer {
    /// Whether to stop working on it.
    pub cancelled: bool,
    /// When the lease ends, unless the next heartbeat comes first.
    pub lease_until: Time,
}

/// `POST /v1/tasks/results`: many results, and the next tasks, in one round trip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResultsBody {
    /// At most 1,024, each answered on its own.
    pub results: Vec<ResultItem>,
    /// Asks for the next tasks as well, once the results are durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseBody>,
}

/// One result: exactly one of `complete`, `fail`, `heartbeat` and `begin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResultItem {
    /// Which attempt.
    #[schema(value_type = String)]
    pub token: Arc<str>,
    /// It is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<CompleteBody>,
    /// It did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<FailBody>,
    /// Still at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatBody>,
    /// About to perform it: for a task that came from a NATS queue. A lease has begun it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<BeginBody>,
}

/// An agent is about to perform a task that it took from a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BeginBody {
    /// Who.
    #[schema(value_type = String, example = "worker-1")]
    pub agent: AgentName,
    /// How long it holds the task without a heartbeat; 60 seconds where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_for: Option<Span>,
}

/// Whether the agent may perform it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BeginAnswer {
    /// Where not, the task's message is acknowledged and forgotten.
    pub granted: bool,
    /// When the lease ends, unless a heartbeat comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Time>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ResultItem {
    /// Nothing said yet of an attempt.
    fn of(token: impl Into<Arc<str>>) -> Self {
        Self {
            token: token.into(),
            complete: None,
            fail: None,
            heartbeat: None,
            begin: None,
        }
    }

    /// About to perform it.
    pub fn begin(token: impl Into<Arc<str>>, begin: BeginBody) -> Self {
        Self {
            begin: Some(begin),
            ..Self::of(token)
        }
    }

    /// It is done.
    pub fn complete(token: impl Into<Arc<str>>, output: Json) -> Self {
        Self {
            complete: Some(CompleteBody { output }),
            ..Self::of(token)
        }
    }

    /// It did not work.
    pub fn fail(token: impl Into<Arc<str>>, fail: FailBody) -> Self {
        Self {
            fail: Some(fail),
            ..Self::of(token)
        }
    }

    /// Still at it.
    pub fn heartbeat(token: impl Into<Arc<str>>) -> Self {
        Self {
            heartbeat: Some(HeartbeatBody::default()),
            ..Self::of(token)
        }
    }
}

/// The answers to a batch, in its order, and the tasks it asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultsAnswer {
    /// One answer for each result, in the same order.
    pub results: Vec<ResultAnswer>,
    /// The next tasks, where the batch asked for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<LeasedTask>>,
    /// Why there are no next tasks although the batch asked for some; the results stand as they are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_problem: Option<Problem>,
}

/// What became of one result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResultAnswer {
    /// Which attempt.
    #[schema(value_type = String)]
    pub token: Arc<str>,
    /// As of the single request: 200, 404, 409, …
    #[schema(example = 200)]
    pub status: u16,
    /// The lease as it stands now, after a heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatAnswer>,
    /// Whether the agent may perform it, after a begin that could be decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<BeginAnswer>,
    /// Why it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// The answer to a single completion or failure over NATS: it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableAnswer {
    /// 200. A problem, which answers otherwise, has a status as well.
    pub status: u16,
}

/// The answer to a single completion or failure: it is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedAnswer {}
