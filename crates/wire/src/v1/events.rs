//! Lifecycle events outside: `CloudEvents` 1.0, structured as one JSON object or binary as `ce-*` headers and a payload.

use std::{borrow::Cow, sync::Arc};

use eventflow_domain::{ExecutionId, Json, Sequence, Tenant, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, executions::WorkflowName};

/// The media type of a structured event.
pub const CLOUDEVENT: &str = "application/cloudevents+json";
/// The version of the `CloudEvents` specification that events follow.
pub const SPEC_VERSION: &str = "1.0";

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
    /// `executionId`, `workflow`, `sequence`, and what the type needs.
    #[schema(value_type = serde_json::Value)]
    pub data: Json,
}

/// What a lifecycle event is made of, in the words of the domain.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// UUID v7.
    pub id: Arc<str>,
    /// Its type in `snake_case`.
    pub kind: &'static str,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its execution.
    pub execution: ExecutionId,
    /// The execution's workflow.
    pub workflow: WorkflowId,
    /// Its place among the execution's events.
    pub sequence: Sequence,
    /// When it happened.
    pub time: Time,
    /// Carried from the trigger.
    pub correlation: Option<Arc<str>>,
    /// An object of what its type needs, without what the envelope adds.
    pub data: Json,
}

impl From<Lifecycle> for CloudEvent {
    fn from(event: Lifecycle) -> Self {
        let subject: Arc<str> = event.execution.as_str().into();
        let source = format!(
            "/eventflow/{}/{}/{}",
            event.tenant, event.workflow.namespace, event.workflow.name
        );
        Self {
            specversion: SPEC_VERSION.into(),
            id: event.id,
            source,
            kind: event.kind.into(),
            partitionkey: Arc::clone(&subject),
            subject,
            time: event.time,
            datacontenttype: "application/json".into(),
            tenantid: event.tenant,
            correlationid: event.correlation,
            causationid: None,
            data: payload(
                &event.execution,
                event.workflow,
                event.sequence,
                &event.data,
            ),
        }
    }
}

impl CloudEvent {
    /// The envelope as headers of binary mode, without the payload. Names are in lower case; values are percent-encoded
    /// where the `CloudEvents` HTTP binding asks for it.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("ce-specversion", header(&self.specversion)),
            ("ce-id", header(&self.id)),
            ("ce-source", header(&self.source)),
            ("ce-type", header(&self.kind)),
            ("ce-subject", header(&self.subject)),
            ("ce-time", self.time.to_string()),
            ("ce-tenantid", header(self.tenantid.as_str())),
            ("ce-partitionkey", header(&self.partitionkey)),
            ("content-type", header(&self.datacontenttype)),
        ];
        let optional = [
            ("ce-correlationid", &self.correlationid),
            ("ce-causationid", &self.causationid),
        ];
        for (name, value) in optional {
            headers.extend(value.as_deref().map(|value| (name, header(value))));
        }
        headers
    }
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

/// A header's value: printable ASCII, everything else percent-encoded (`CloudEvents` HTTP binding, section 3.1.3.2).
fn header(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut value, byte| {
            if matches!(byte, 0x21..=0x7e) && !matches!(byte, b'"' | b'%') {
                value.push(char::from(byte));
            } else {
                write!(value, "%{byte:02X}").expect("writing to a String cannot fail");
            }
            value
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventflow_domain::Timestamp;

    fn lifecycle(data: &str) -> Lifecycle {
        Lifecycle {
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
            time: Time(Timestamp(1_772_357_400_000)),
            correlation: Some("café \"1%\"".into()),
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
    fn headers_are_ascii_and_decode_to_the_same() {
        let headers = CloudEvent::from(lifecycle("{}")).headers();
        assert!(headers.contains(&("ce-correlationid", "caf%C3%A9%20%221%25%22".into())));
        assert!(headers.contains(&("ce-time", "2026-03-01T09:30:00.000Z".into())));
        assert!(headers.contains(&("ce-source", "/eventflow/default/default/order".into())));
        assert!(headers.iter().all(|(_, value)| value.is_ascii()));
    }
}
