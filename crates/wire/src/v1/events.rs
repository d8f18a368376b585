//! Lifecycle events outside: `CloudEvents` 1.0, structured as one JSON object or binary as `ce-*` headers and a payload.

use std::{borrow::Cow, sync::Arc};

use eventflow_domain::{ExecutionId, Json, Sequence, Tenant, WorkflowId};
use eventflow_ports::LifecycleEvent;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, executions::WorkflowName};
use crate::envelope::{Envelope, JSON, SPEC_VERSION};

/// One lifecycle event in its envelope (INTERFACES section 3), in structured mode. Receivers ignore what they do not know
/// and drop an `id` they have seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CloudEvent {
    /// `1.0`.
    #[schema(value_type = String, example = "1.0")]
    pub specversion: Cow<'static, str>,
    /// UUID v7, the same for every delivery of this event.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// `/eventflow/<tenant>/<namespace>/<workflow>`.
    #[schema(example = "/eventflow/default/default/order")]
    pub source: String,
    /// `workflow_execution_started`, `task_completed`, …
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "task_completed")]
    pub kind: Cow<'static, str>,
    /// The execution's id.
    #[schema(value_type = String, example = "order-17")]
    pub subject: Arc<str>,
    /// When it happened.
    pub time: Time,
    /// `application/json`.
    #[schema(value_type = String, example = "application/json")]
    pub datacontenttype: Cow<'static, str>,
    /// Whose it is.
    #[schema(value_type = String, example = "default")]
    pub tenantid: Tenant,
    /// Carried from the trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub correlationid: Option<Arc<str>>,
    /// The id of the message that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub causationid: Option<Arc<str>>,
    /// The execution's id: events of one execution stay in order.
    #[schema(value_type = String)]
    pub partitionkey: Arc<str>,
    /// Names what `data` looks like, with its version: `urn:eventflow:v1:<type>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "urn:eventflow:v1:task_completed")]
    pub dataschema: Option<Arc<str>>,
    /// The W3C trace context of the execution's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub traceparent: Option<Arc<str>>,
    /// `executionId`, `workflow`, `sequence`, and what the type needs.
    #[schema(value_type = serde_json::Value)]
    pub data: Json,
}

impl From<LifecycleEvent> for CloudEvent {
    fn from(event: LifecycleEvent) -> Self {
        let subject: Arc<str> = event.execution.as_str().into();
        let source = format!(
            "/eventflow/{}/{}/{}",
            event.tenant, event.workflow.namespace, event.workflow.name
        );
        let data = payload(
            &event.execution,
            event.workflow,
            event.sequence,
            &event.data,
        );
        Self {
            specversion: SPEC_VERSION.into(),
            id: event.id,
            source,
            kind: event.kind.into(),
            partitionkey: Arc::clone(&subject),
            subject,
            time: event.time.into(),
            datacontenttype: JSON.into(),
            tenantid: event.tenant,
            correlationid: event.correlation,
            causationid: event.causation,
            dataschema: Some(schema(event.kind)),
            traceparent: event.traceparent,
            data,
        }
    }
}

impl CloudEvent {
    /// The envelope without the payload, for binary mode.
    pub fn envelope(&self) -> Envelope {
        Envelope {
            id: Some(Arc::clone(&self.id)),
            source: Some(self.source.as_str().into()),
            kind: Some(self.kind.as_ref().into()),
            subject: Some(Arc::clone(&self.subject)),
            time: Some(self.time),
            tenant: Some(self.tenantid.clone()),
            correlation: self.correlationid.clone(),
            causation: self.causationid.clone(),
            partition_key: Some(Arc::clone(&self.partitionkey)),
            data_schema: self.dataschema.clone(),
            traceparent: self.traceparent.clone(),
        }
    }
}

/// What names the shape of a type's data: it gets another version when a reader of this one would break.
pub fn schema(kind: &str) -> Arc<str> {
    format!("urn:eventflow:v1:{kind}").into()
}

/// What every event says, followed by what its type needs. The two texts are joined as they are: each event is written
/// many times and read never, on this side.
fn payload(execution: &ExecutionId, workflow: WorkflowId, sequence: Sequence, data: &Json) -> Json {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        execution_id: &'a ExecutionId,
        workflow: WorkflowName,
        sequence: Sequence,
    }
    let head = Json::of(&Head {
        execution_id: execution,
        workflow: workflow.into(),
        sequence,
    });
    let members = data
        .as_str()
        .trim()
        .strip_prefix('{')
        .map_or("", str::trim_start);
    match head.as_str().strip_suffix('}') {
        Some(open) if !members.is_empty() && members != "}" => {
            Json::parse(&format!("{open},{members}")).unwrap_or(head)
        }
        _ => head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventflow_domain::Timestamp;

    fn lifecycle(data: &str) -> LifecycleEvent {
        LifecycleEvent {
            id: "0195-1".into(),
            kind: "task_completed",
            tenant: Tenant::default_tenant(),
            execution: ExecutionId::parse("order-17").unwrap(),
            workflow: WorkflowId {
                namespace: "default".into(),
                name: "order".into(),
                version: "1.0.0".into(),
            },
            sequence: Sequence(7),
            time: Timestamp(1_772_357_400_000),
            correlation: Some("café".into()),
            causation: Some("m1".into()),
            traceparent: None,
            data: Json::parse(data).unwrap(),
        }
    }

    #[test]
    fn the_payload_has_what_every_event_says_and_what_its_type_needs() {
        let event = CloudEvent::from(lifecycle(r#"{"task":"/do/0/charge","attempt":1}"#));
        assert_eq!(
            event.data.as_str(),
            r#"{"executionId":"order-17","workflow":{"namespace":"default","name":"order","version":"1.0.0"},"sequence":7,"task":"/do/0/charge","attempt":1}"#
        );
    }

    #[test]
    fn a_type_that_needs_nothing_has_the_common_part_alone() {
        for data in ["{}", "{ }", "null", "[1]"] {
            let event = CloudEvent::from(lifecycle(data));
            assert!(event.data.as_str().ends_with(r#""sequence":7}"#), "{data}");
        }
    }

    #[test]
    fn what_is_said_around_the_payload_is_said_in_headers_too() {
        let event = CloudEvent::from(lifecycle("{}"));
        let structured = serde_json::to_value(&event).unwrap();
        for (name, value) in event.envelope().headers() {
            let attribute = name.strip_prefix("ce-").unwrap_or("datacontenttype");
            let decoded = value.replace("%C3%A9", "é");
            assert_eq!(structured[attribute], decoded, "{name}");
        }
    }
}
