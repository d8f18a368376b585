//! From a body to the arguments of an inbound port and back, the same for every face of the service: checked here, once.

use std::sync::Arc;

use eventflow_domain::{Json, Tenant, error::Fault};
use eventflow_ports::inbound::{self, Refusal, StartExecution, WorkflowRef};

use super::{
    Problem, accept,
    controls::{ControlBody, REASON_CHARACTERS_MAX},
    executions::{Progress, StartBody, Summary, WorkflowChoice},
    read::{escaped, invalid},
    workflows::Workflow,
};

/// Labels of one execution: every row of a list carries them.
const LABELS_MAX: usize = 32;
/// A label's key and value, and a correlation id: they stand in headers, rows and log lines.
const TEXT_BYTES_MAX: usize = 256;
/// What a short text must be, for who sent another one.
pub(crate) const TEXT_RULE: &str = "must be 1 to 256 bytes of text without control characters";
/// `version-traceid-parentid-flags` of version 00 (W3C Trace Context).
const TRACEPARENT_BYTES: usize = 55;

/// What came with a start besides its body.
#[derive(Debug, Clone, Default)]
pub struct StartContext {
    /// Makes the start unique where the body has no id.
    pub idempotency_key: Option<String>,
    /// Where the body has none.
    pub correlation: Option<Arc<str>>,
    /// The id of the message that asks for it.
    pub causation: Option<Arc<str>>,
    /// W3C trace context, well-formed.
    pub traceparent: Option<Arc<str>>,
}

/// A start, checked.
pub fn start(
    tenant: &Tenant,
    body: StartBody,
    context: StartContext,
) -> Result<StartExecution, Refusal> {
    if body.execution_id.is_some() && context.idempotency_key.is_some() {
        return Err(Refusal::malformed(
            "give either `executionId` or the header `Idempotency-Key`, not both",
        ));
    }
    let mut faults = Vec::new();
    let workflow = workflow(body.workflow, body.definition, &mut faults);
    let input = sound(body.input.unwrap_or_else(Json::null), "/input", &mut faults);
    let correlation = body.correlation_id.or(context.correlation);
    if let Some(correlation) = &correlation {
        text("/correlationId", correlation, &mut faults);
    }
    if body.labels.len() > LABELS_MAX {
        let detail = format!("an execution has at most {LABELS_MAX} labels");
        faults.push(Fault::at("/labels", detail));
    }
    for (key, value) in &body.labels {
        let pointer = format!("/labels/{}", escaped(key));
        text(&pointer, key, &mut faults);
        if !value.is_empty() {
            text(&pointer, value, &mut faults);
        }
    }
    match (workflow, input) {
        (Some(workflow), Some(input)) if faults.is_empty() => Ok(StartExecution {
            tenant: tenant.clone(),
            workflow,
            input,
            execution: body.execution_id,
            idempotency_key: context.idempotency_key,
            correlation,
            labels: body.labels,
            traceparent: context.traceparent,
            causation: context.causation,
        }),
        _ => Err(invalid(faults)),
    }
}

fn workflow(
    named: Option<WorkflowChoice>,
    definition: Option<Json>,
    faults: &mut Vec<Fault>,
) -> Option<WorkflowRef> {
    let (pointer, detail) = match (named, definition) {
        (Some(workflow), None) => {
            return Some(WorkflowRef::Named {
                namespace: workflow
                    .namespace
                    .unwrap_or_else(|| WorkflowChoice::NAMESPACE.into()),
                name: workflow.name,
                version: workflow.version,
            });
        }
        (None, Some(definition)) => {
            return sound(definition, "/definition", faults).map(WorkflowRef::Inline);
        }
        (Some(_), Some(_)) => (
            "/definition",
            "give either `workflow` or `definition`, not both",
        ),
        (None, None) => (
            "",
            "say what to start: give `workflow` with its `name`, or a `definition`",
        ),
    };
    faults.push(Fault::at(pointer, detail));
    None
}

/// A value that can be worked with, or a fault.
fn sound(json: Json, pointer: &str, faults: &mut Vec<Fault>) -> Option<Json> {
    accept(json)
        .map_err(|error| faults.push(Fault::at(pointer, error.to_string())))
        .ok()
}

fn text(pointer: &str, text: &str, faults: &mut Vec<Fault>) {
    if !is_text(text) {
        faults.push(Fault::at(pointer, TEXT_RULE));
    }
}

/// Whether a text can stand in headers, rows and log lines.
pub(crate) fn is_text(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The reason of a control, where there is one.
pub fn reason(body: ControlBody) -> Result<Option<Arc<str>>, Refusal> {
    let characters = body
        .reason
        .as_ref()
        .map_or(0, |reason| reason.chars().count());
    if characters > REASON_CHARACTERS_MAX {
        return Err(Refusal::Invalid {
            detail: format!("the reason is too long: {characters} characters"),
            faults: vec![Fault::at(
                "/reason",
                format!("may have at most {REASON_CHARACTERS_MAX} characters"),
            )],
        });
    }
    Ok(body.reason)
}

/// The W3C trace context; one that is not well-formed is ignored, as its specification says.
pub fn traceparent(text: &str) -> Option<Arc<str>> {
    let hex = |part: &str, digits: usize| {
        part.len() == digits
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let mut parts = text.get(..TRACEPARENT_BYTES)?.split('-');
    let well_formed = text.len() == TRACEPARENT_BYTES
        && [2, 32, 16, 2]
            .into_iter()
            .all(|digits| parts.next().is_some_and(|part| hex(part, digits)))
        && !text.starts_with("ff");
    well_formed.then(|| text.into())
}

/// An execution without what is large: how a start and a control are answered.
pub fn summary(view: inbound::ExecutionView) -> Summary {
    Summary {
        execution_id: view.execution,
        workflow: Workflow::new(view.workflow, view.digest),
        tenant: view.tenant,
        correlation_id: view.correlation,
        labels: view.labels,
        status: view.status,
        error: view.error.map(Problem::from),
        created_at: view.created_at.into(),
        started_at: view.started_at.map(Into::into),
        ended_at: view.ended_at.map(Into::into),
        estimated_completion: view.estimated_completion.map(Into::into),
        progress: view.progress.into(),
    }
}

impl From<inbound::Progress> for Progress {
    fn from(progress: inbound::Progress) -> Self {
        Self {
            completed: progress.completed,
            running: progress.running,
            pending: progress.pending,
            total: progress.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_forwarded() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(good).as_deref(), Some(good));
        let long = format!("{good}-00");
        let bad = [
            "",
            "00-4bf9-00f0-01",
            &good.to_uppercase(),
            &long,
            &good.replace("00-4", "ff-4"),
        ];
        for bad in bad {
            assert_eq!(traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_message_says_what_its_body_leaves_out() {
        let body = |text: &str| serde_json::from_str::<StartBody>(text).unwrap();
        let context = StartContext {
            correlation: Some("from the envelope".into()),
            causation: Some("m1".into()),
            ..StartContext::default()
        };
        let tenant = Tenant::default_tenant();
        let one = start(
            &tenant,
            body(r#"{"workflow":{"name":"order"}}"#),
            context.clone(),
        );
        let one = one.unwrap();
        assert_eq!(one.correlation.as_deref(), Some("from the envelope"));
        assert_eq!(one.causation.as_deref(), Some("m1"));
        let two = start(
            &tenant,
            body(r#"{"workflow":{"name":"order"},"correlationId":"mine"}"#),
            context,
        );
        assert_eq!(two.unwrap().correlation.as_deref(), Some("mine"));
    }

    #[test]
    fn every_fault_of_a_start_is_named() {
        let text = r#"{"workflow":{"name":"a"},"definition":1,"correlationId":"","labels":{"":"x"},"input":[1e400]}"#;
        let body = serde_json::from_str(text).unwrap();
        let refusal = start(&Tenant::default_tenant(), body, StartContext::default());
        let Err(Refusal::Invalid { faults, .. }) = refusal else {
            panic!("{refusal:?}");
        };
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/definition", "/input", "/correlationId", "/labels/"]
        );
    }
}
