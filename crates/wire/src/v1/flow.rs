//! `FlowOps` (requirements F1, F3, F4): the commands of `execution.commands` and the statuses of `execution.status`.

use std::{collections::BTreeMap, sync::Arc};

use eventflow_domain::{ExecutionId, Json, Tenant, error::Fault};
use eventflow_ports::{
    LifecycleEvent,
    inbound::{Action, Refusal, StartExecution, WorkflowRef},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Time,
    controls::Control,
    executions::WorkflowChoice,
    invalid, read,
    shape::{TEXT_RULE, is_text},
};
use crate::envelope::Message;

/// The label of an execution that says who had it started.
pub const TRIGGERED_BY: &str = "triggeredBy";
/// The version of a flow whose steps came with its start.
const INLINE_VERSION: &str = "1.0.0";

/// A command as it is sent. Fields that are not listed here, `timestamp` among them, mean nothing and are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandBody {
    /// `EXECUTION_START`, `EXECUTION_STOP`, `EXECUTION_PAUSE` or `EXECUTION_RESUME`, also without the prefix.
    pub event_type: String,
    /// The flow: of a start without steps the name of a registered workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<String>,
    /// The run: the execution's id.
    pub run_id: String,
    /// Who wants it: a label of what is started, a reason of what is steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggered_by: Option<String>,
    /// Of a start: what to run, as the steps of a DAG document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Json>,
    /// Of a start: what the steps read as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
}

/// What a command asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// To start a run.
    Start(Box<StartExecution>),
    /// To steer one.
    Control(Control),
}

/// Reads a command.
pub fn command(tenant: &Tenant, message: &Message) -> Result<Command, Refusal> {
    let body: CommandBody = read(message.data.as_str().as_bytes())?;
    let mut faults = Vec::new();
    let execution = ExecutionId::parse(&body.run_id)
        .map_err(|error| faults.push(Fault::at("/runId", error.to_string())))
        .ok();
    let kind = body.event_type.strip_prefix("EXECUTION_");
    let action = match kind.unwrap_or(&body.event_type) {
        "START" => None,
        "STOP" => Some(Action::Stop),
        "PAUSE" => Some(Action::Pause),
        "RESUME" => Some(Action::Resume),
        _ => {
            let detail = format!(
                "`{}` is no command: send EXECUTION_START, EXECUTION_STOP, EXECUTION_PAUSE or EXECUTION_RESUME",
                body.event_type.chars().take(40).collect::<String>()
            );
            faults.push(Fault::at("/eventType", detail));
            return Err(invalid(faults));
        }
    };
    if let Some(by) = body.triggered_by.as_deref().filter(|by| !is_text(by)) {
        let detail = format!("{TEXT_RULE}, not {} bytes", by.len());
        faults.push(Fault::at("/triggeredBy", detail));
    }
    if action.is_none() && body.flow_id.is_none() {
        faults.push(Fault::at("/flowId", "say which flow to start"));
    }
    let (Some(execution), true) = (execution, faults.is_empty()) else {
        return Err(invalid(faults));
    };
    Ok(match action {
        Some(action) => Command::Control(Control {
            execution,
            action,
            reason: body
                .triggered_by
                .map(|by| format!("triggered by {by}").into()),
        }),
        None => Command::Start(Box::new(start(tenant, execution, body, message))),
    })
}

fn start(
    tenant: &Tenant,
    execution: ExecutionId,
    body: CommandBody,
    message: &Message,
) -> StartExecution {
    let flow = body.flow_id.unwrap_or_default();
    let workflow = match body.steps.filter(|steps| steps.as_str() != "null") {
        Some(steps) => WorkflowRef::Inline(Json::of(&json!({
            "dag": "1.0",
            "namespace": WorkflowChoice::NAMESPACE,
            "name": flow,
            "version": INLINE_VERSION,
            "steps": steps.to_value(),
        }))),
        None => WorkflowRef::Named {
            namespace: WorkflowChoice::NAMESPACE.to_owned(),
            name: flow,
            version: None,
        },
    };
    let by = body.triggered_by.map(|by| (TRIGGERED_BY.to_owned(), by));
    let envelope = &message.envelope;
    StartExecution {
        tenant: tenant.clone(),
        workflow,
        input: body.input.unwrap_or_else(Json::null),
        execution: Some(execution),
        idempotency_key: None,
        correlation: envelope.correlation.clone(),
        labels: BTreeMap::from_iter(by),
        traceparent: envelope.traceparent.clone(),
        causation: envelope.id.clone(),
    }
}

/// A status, of a flow or of one of its steps: exactly the bodies of specification 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "eventType")]
pub enum Status {
    /// Of a step.
    #[serde(rename = "STEP_STATUS", rename_all = "camelCase")]
    Step {
        /// The workflow's name.
        flow_id: Arc<str>,
        /// The execution's id.
        run_id: ExecutionId,
        /// The task's name.
        step_id: String,
        /// Where it stands.
        status: Word,
        /// What went wrong, in words; `null` otherwise.
        error: Option<String>,
        /// When.
        timestamp: Time,
    },
    /// Of a flow.
    #[serde(rename = "FLOW_STATUS", rename_all = "camelCase")]
    Flow {
        /// The workflow's name.
        flow_id: Arc<str>,
        /// The execution's id.
        run_id: ExecutionId,
        /// Where it stands.
        status: Word,
        /// What went wrong, in words; `null` otherwise.
        error: Option<String>,
        /// When.
        timestamp: Time,
    },
}

/// Where a flow or a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Word {
    /// Nothing of it has begun, or its next attempt has not.
    Pending,
    /// It has begun.
    Running,
    /// Nothing new begins until it is resumed.
    Paused,
    /// It was stopped.
    Stopped,
    /// It ended well.
    Completed,
    /// It did not.
    Failed,
    /// It was not run.
    Skipped,
}

/// What of an event's data a status tells.
#[derive(Deserialize)]
struct Told {
    /// Of a task.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    error: Option<eventflow_domain::Problem>,
}

impl Status {
    /// The status that a lifecycle event means; none where it means none.
    pub fn of(event: &LifecycleEvent) -> Option<Self> {
        let (kind, status) = match event.kind {
            kind if let Some(rest) = kind.strip_prefix("workflow_execution_") => (Kind::Flow, rest),
            kind => (Kind::Step, kind.strip_prefix("task_")?),
        };
        let status = match (&kind, status) {
            (Kind::Flow, "requested") | (Kind::Step, "scheduled" | "retried") => Word::Pending,
            (Kind::Flow, "resumed") | (_, "started") => Word::Running,
            (Kind::Flow, "suspended") => Word::Paused,
            (_, "completed") => Word::Completed,
            (_, "failed" | "timed_out") => Word::Failed,
            (_, "cancelled") => Word::Stopped,
            (Kind::Step, "skipped") => Word::Skipped,
            _ => return None,
        };
        let told: Told = serde_json::from_str(event.data.as_str()).ok()?;
        let error = told.error.map(words);
        let (flow_id, run_id) = (Arc::clone(&event.workflow.name), event.execution.clone());
        let timestamp = event.time.into();
        Some(match kind {
            Kind::Flow => Self::Flow {
                flow_id,
                run_id,
                status,
                error,
                timestamp,
            },
            Kind::Step => Self::Step {
                flow_id,
                run_id,
                step_id: told.name?,
                status,
                error,
                timestamp,
            },
        })
    }

    /// `FLOW_STATUS` or `STEP_STATUS`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Step { .. } => "STEP_STATUS",
            Self::Flow { .. } => "FLOW_STATUS",
        }
    }
}

enum Kind {
    Flow,
    Step,
}

/// An error in one line.
fn words(error: eventflow_domain::Problem) -> String {
    match (error.title, error.detail) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(words), None) | (None, Some(words)) => words,
        (None, None) => error.kind.as_ref().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use eventflow_domain::{Sequence, Timestamp, WorkflowId};

    fn given(body: &str) -> Result<Command, Refusal> {
        let message = Message {
            envelope: Envelope {
                id: Some("m1".into()),
                correlation: Some("c1".into()),
                ..Envelope::default()
            },
            data: Json::parse(body).unwrap(),
        };
        command(&Tenant::default_tenant(), &message)
    }

    fn started(body: &str) -> StartExecution {
        match given(body) {
            Ok(Command::Start(start)) => *start,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_start_brings_its_steps() {
        for kind in ["EXECUTION_START", "START"] {
            let start = started(&format!(
                r#"{{"eventType":"{kind}","flowId":"flow1","runId":"run1","triggeredBy":"me","timestamp":1,
                "steps":[{{"stepId":"a","pluginId":"work"}}],"input":{{"x":1}}}}"#
            ));
            assert_eq!(start.execution.unwrap().as_str(), "run1");
            assert_eq!(start.labels[TRIGGERED_BY], "me");
            assert_eq!(start.causation.as_deref(), Some("m1"));
            assert_eq!(start.correlation.as_deref(), Some("c1"));
            assert_eq!(start.input.as_str(), r#"{"x":1}"#);
            let WorkflowRef::Inline(document) = start.workflow else {
                panic!("it has steps");
            };
            assert_eq!(
                document.as_str(),
                r#"{"dag":"1.0","namespace":"default","name":"flow1","version":"1.0.0","steps":[{"stepId":"a","pluginId":"work"}]}"#
            );
        }
    }

    #[test]
    fn a_start_without_steps_is_of_a_registered_workflow() {
        for steps in ["", r#","steps":null"#] {
            let body = format!(r#"{{"eventType":"START","flowId":"flow1","runId":"r"{steps}}}"#);
            let WorkflowRef::Named {
                namespace,
                name,
                version,
            } = started(&body).workflow
            else {
                panic!("it has no steps");
            };
            assert_eq!((&*namespace, &*name, version), ("default", "flow1", None));
        }
    }

    #[test]
    fn every_control_is_read_in_both_spellings() {
        for (word, expected) in [
            ("STOP", Action::Stop),
            ("PAUSE", Action::Pause),
            ("RESUME", Action::Resume),
        ] {
            for prefix in ["", "EXECUTION_"] {
                let body = format!(
                    r#"{{"eventType":"{prefix}{word}","runId":"run1","triggeredBy":"me"}}"#
                );
                let Ok(Command::Control(control)) = given(&body) else {
                    panic!("{body}");
                };
                assert_eq!(control.action, expected);
                assert_eq!(control.execution.as_str(), "run1");
                assert_eq!(control.reason.as_deref(), Some("triggered by me"));
            }
        }
    }

    #[test]
    fn every_fault_is_named_at_its_place() {
        for (body, pointers) in [
            (
                r#"{"eventType":"RESTART","runId":"a b"}"#,
                vec!["/runId", "/eventType"],
            ),
            (
                r#"{"eventType":"START","runId":"","triggeredBy":"\n"}"#,
                vec!["/runId", "/triggeredBy", "/flowId"],
            ),
            (r#"{"eventType":"STOP"}"#, vec![""]),
            (r#"{"eventType":7,"runId":"r"}"#, vec!["/eventType"]),
        ] {
            let Err(Refusal::Invalid { faults, .. }) = given(body) else {
                panic!("{body} was taken");
            };
            let found: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(found, pointers, "{body}");
        }
    }

    fn event(kind: &'static str, data: &str) -> LifecycleEvent {
        LifecycleEvent {
            id: "1".into(),
            kind,
            tenant: Tenant::default_tenant(),
            execution: ExecutionId::parse("run1").unwrap(),
            workflow: WorkflowId {
                namespace: "default".into(),
                name: "flow1".into(),
                version: "1.0.0".into(),
            },
            sequence: Sequence(1),
            time: Timestamp(1_759_492_805_000),
            correlation: None,
            causation: None,
            traceparent: None,
            data: Json::parse(data).unwrap(),
        }
    }

    #[test]
    fn statuses_have_exactly_the_specified_bodies() {
        let step = Status::of(&event(
            "task_completed",
            r#"{"task":"/steps/0","name":"s1"}"#,
        ));
        assert_eq!(
            serde_json::to_string(&step.unwrap()).unwrap(),
            r#"{"eventType":"STEP_STATUS","flowId":"flow1","runId":"run1","stepId":"s1","status":"COMPLETED","error":null,"timestamp":"2025-10-03T12:00:05.000Z"}"#
        );
        let error = r#"{"error":{"type":"t","title":"Bad","status":500,"detail":"luck"}}"#;
        let flow = Status::of(&event("workflow_execution_failed", error));
        assert_eq!(
            serde_json::to_string(&flow.unwrap()).unwrap(),
            r#"{"eventType":"FLOW_STATUS","flowId":"flow1","runId":"run1","status":"FAILED","error":"Bad: luck","timestamp":"2025-10-03T12:00:05.000Z"}"#
        );
    }

    #[test]
    fn every_lifecycle_event_has_its_status() {
        let word = |kind| match Status::of(&event(kind, r#"{"task":"/do/0/a~1b[3]","name":"a/b"}"#))
        {
            Some(Status::Step {
                step_id, status, ..
            }) => {
                assert_eq!(step_id, "a/b");
                status
            }
            Some(Status::Flow { status, .. }) => status,
            None => panic!("{kind} has no status"),
        };
        for (kind, expected) in [
            ("workflow_execution_requested", Word::Pending),
            ("workflow_execution_started", Word::Running),
            ("workflow_execution_suspended", Word::Paused),
            ("workflow_execution_resumed", Word::Running),
            ("workflow_execution_completed", Word::Completed),
            ("workflow_execution_failed", Word::Failed),
            ("workflow_execution_timed_out", Word::Failed),
            ("workflow_execution_cancelled", Word::Stopped),
            ("task_scheduled", Word::Pending),
            ("task_started", Word::Running),
            ("task_retried", Word::Pending),
            ("task_completed", Word::Completed),
            ("task_failed", Word::Failed),
            ("task_timed_out", Word::Failed),
            ("task_cancelled", Word::Stopped),
            ("task_skipped", Word::Skipped),
        ] {
            assert_eq!(word(kind), expected, "{kind}");
        }
    }
}
