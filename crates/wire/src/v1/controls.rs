//! Steering an execution, and what it waits for.

use std::sync::Arc;

use eventflow_domain::{AgentName, Attempt, ExecutionId, error::Fault, execution::Status};
use eventflow_ports::inbound::{Action, Refusal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, executions::StatusWord, invalid, read, shape::reason};

/// The longest reason, characters: it is written into the history.
pub const REASON_CHARACTERS_MAX: usize = 1_000;

/// `POST /v1/executions/{id}/pause | resume | stop`: may be left out altogether.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlBody {
    /// Why, for whoever reads the history; up to 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 1000)]
    pub reason: Option<Arc<str>>,
}

/// A control in a durable command, whose subject does not name the execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlCommand {
    /// Which execution.
    pub execution_id: ExecutionId,
    /// `pause`, `resume` or `stop`.
    pub action: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// An order to an execution, however it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// To which.
    pub execution: ExecutionId,
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Option<Arc<str>>,
}

impl Control {
    /// Reads a durable command.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let command: ControlCommand = read(bytes)?;
        let action = action(&command.action)
            .map_err(|detail| invalid(vec![Fault::at("/action", detail)]))?;
        Ok(Self {
            execution: command.execution_id,
            action,
            reason: reason(ControlBody {
                reason: command.reason,
            })?,
        })
    }
}

/// The word of an action; what is wrong with it where it is none.
pub fn action(word: &str) -> Result<Action, String> {
    match word {
        "pause" => Ok(Action::Pause),
        "resume" => Ok(Action::Resume),
        "stop" => Ok(Action::Stop),
        other => Err(format!(
            "an execution can be told to `pause`, `resume` or `stop`, not to `{}`",
            other.chars().take(40).collect::<String>()
        )),
    }
}

/// `GET /v1/executions/{id}/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Which.
    #[schema(value_type = String, example = "order-17")]
    pub execution_id: ExecutionId,
    /// Where it stands.
    #[schema(value_type = StatusWord)]
    pub status: Status,
    /// The whole in one sentence.
    #[schema(example = "`charge` waits for an agent that serves `charge`")]
    pub summary: String,
    /// Each thing it waits for: what holds all of it back first, then what waits longest.
    pub waits_for: Vec<WaitsFor>,
    /// How many more there are than are listed.
    pub more: usize,
}

/// One thing that an execution waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitsFor {
    /// `agent` (to take an attempt), `result` (of the agent that has it), `response` (to an HTTP call), `retry` (its
    /// time), `timer`, `place` (among the steps that may run at once), `resume`, `engine` (this service itself).
    #[schema(example = "agent")]
    pub cause: String,
    /// The task that waits; left out where it is the execution itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "/do/0/charge")]
    pub task: Option<Arc<str>>,
    /// The indices of the loops around it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub iteration: Vec<u32>,
    /// Which try of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub attempt: Option<Attempt>,
    /// Since when.
    pub since: Time,
    /// Who holds the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub held_by: Option<AgentName>,
    /// Until when, unless it sends a heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Time>,
    /// When something happens by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Time>,
    /// What it waits for, in words.
    pub detail: String,
    /// What comes next, in words.
    pub next: String,
}
