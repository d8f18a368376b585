//! What a writer is sent, and what it answers.

use std::sync::Arc;

use eventflow_domain::{
    AgentName, Attempt, DurationMs, ExecutionId, Position, Problem, TaskReference, Tenant,
    Timestamp, Value,
    execution::{Command, Execution, Rejection, Requested},
    plan::Plan,
};
use eventflow_ports::{
    ListQuery, OfferedAttempt,
    inbound::{Heartbeat, Refusal},
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// An execution within the whole store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) tenant: Tenant,
    pub(crate) id: ExecutionId,
}

impl Key {
    pub(crate) fn new(tenant: &Tenant, execution: &ExecutionId) -> Self {
        Self {
            tenant: tenant.clone(),
            id: execution.clone(),
        }
    }
}

/// An execution as it stood when it was asked for, and what it runs.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) execution: Arc<Execution>,
    pub(crate) plan: Arc<Plan>,
    /// The records that hold its history; only where they were asked for.
    pub(crate) positions: Vec<Position>,
}

/// One order to a writer.
pub(crate) enum Message {
    Start(Box<Start>),
    /// Answered in the order given, when all of them are durable.
    Results(Vec<AttemptResult>, oneshot::Sender<Vec<ResultAnswer>>),
    /// From the built-in performers, which need no answer.
    Performed(AttemptResult),
    /// Answered at once: until when each is leased, where it is still wanted.
    Begin {
        attempts: Vec<AttemptBegin>,
        reply: oneshot::Sender<Vec<BeginAnswer>>,
    },
    /// Answered when what is seen is durable; nothing where the execution is not in memory.
    Read {
        key: Key,
        with_positions: bool,
        reply: oneshot::Sender<Option<Snapshot>>,
    },
    /// The same, once the execution has ended.
    Wait {
        key: Key,
        reply: oneshot::Sender<Option<Snapshot>>,
    },
    /// Answered when it is durable.
    Control {
        key: Key,
        command: Command,
        reply: oneshot::Sender<ControlAnswer>,
    },
    /// Who holds its attempts, and until when; beside the execution as it is in memory.
    Holds {
        key: Key,
        reply: oneshot::Sender<Option<(Snapshot, Vec<Hold>)>>,
    },
    /// All in memory that match.
    List {
        query: Box<ListQuery>,
        reply: oneshot::Sender<Vec<Snapshot>>,
    },
    /// These were offered and have got lost on the way.
    Lost(Vec<OfferedAttempt>),
    /// Nothing more is wanted.
    Close,
}

impl Message {
    /// How many commands it stands for, at least one.
    pub(crate) fn commands(&self) -> usize {
        match self {
            Self::Results(results, _) => results.len().max(1),
            Self::Begin { attempts, .. } => attempts.len().max(1),
            Self::Lost(attempts) => attempts.len().max(1),
            Self::Start(_)
            | Self::Performed(_)
            | Self::Read { .. }
            | Self::Wait { .. }
            | Self::Control { .. }
            | Self::Holds { .. }
            | Self::List { .. }
            | Self::Close => 1,
        }
    }
}

/// A start, compiled and complete.
pub(crate) struct Start {
    pub(crate) key: Key,
    pub(crate) requested: Requested,
    pub(crate) plan: Arc<Plan>,
    /// The writer's count of evictions before the view was asked; none where the id is fresh.
    pub(crate) absent_as_of: Option<u64>,
    pub(crate) reply: oneshot::Sender<StartAnswer>,
}

/// The answer to a start.
pub(crate) enum StartAnswer {
    Started {
        snapshot: Snapshot,
        repeated: bool,
    },
    /// The execution left memory since the view was asked: ask it again.
    AskAgain,
    Refused(Refusal),
}

/// The answer to a pause, resume or stop.
pub(crate) enum ControlAnswer {
    Accepted(Snapshot),
    Rejected(Rejection),
    /// The execution is not in memory: the view tells.
    NotResident,
}

/// An attempt that somebody holds, and until when.
pub(crate) type Hold = (TaskReference, Timestamp);

/// Somebody is about to perform an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AttemptBegin {
    pub(crate) key: Key,
    pub(crate) task: TaskReference,
    pub(crate) attempt: Attempt,
    pub(crate) agent: AgentName,
    pub(crate) lease_for: Option<DurationMs>,
}

/// The answer to one who would begin.
#[derive(Debug, Clone)]
pub(crate) enum BeginAnswer {
    /// It is theirs until then.
    Granted(Timestamp),
    Rejected(Rejection),
    /// The execution is not in memory: it has ended, or never was.
    NotResident,
}

/// What somebody says of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AttemptResult {
    pub(crate) key: Key,
    pub(crate) task: TaskReference,
    pub(crate) attempt: Attempt,
    pub(crate) verdict: AttemptVerdict,
}

/// Done, failed or still at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum AttemptVerdict {
    Complete(#[serde(with = "whole")] Value),
    Fail {
        error: Problem,
        retryable: bool,
        retry_after: Option<DurationMs>,
    },
    Heartbeat,
}

impl AttemptResult {
    /// The order it stands for; none for a heartbeat.
    pub(crate) fn command(&self) -> Option<Command> {
        let (task, attempt) = (self.task.clone(), self.attempt);
        match self.verdict.clone() {
            AttemptVerdict::Complete(output) => Some(Command::CompleteAttempt {
                task,
                attempt,
                output,
            }),
            AttemptVerdict::Fail {
                error,
                retryable,
                retry_after,
            } => Some(Command::FailAttempt {
                task,
                attempt,
                error,
                retryable,
                retry_after,
            }),
            AttemptVerdict::Heartbeat => None,
        }
    }
}

/// The answer to one result.
#[derive(Debug, Clone)]
pub(crate) enum ResultAnswer {
    Accepted,
    Alive(Heartbeat),
    Rejected(Rejection),
    /// The execution is not in memory: the view tells.
    NotResident,
}

/// Between nodes a value is all of its text: no blob of it may be stored yet.
mod whole {
    use eventflow_domain::{Json, Value};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

    pub(super) fn serialize<S: Serializer>(
        value: &Value,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let json = value.json();
        let json = json.ok_or_else(|| ser::Error::custom("the value is not in memory"))?;
        json.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Value, D::Error> {
        Json::deserialize(deserializer).map(Value::new)
    }
}
