//! Service calls (requirement S1): the command that asks for one, and the events that say what came of it.
//!
//! The events are made of the public events of the execution behind the call and of nothing else. Those carry
//! `serviceCallId`; that it completed has the response in `output`, that it failed the failure in `error.call`, as
//! [`eventflow_domain::service_call`] says.

use std::{collections::BTreeMap, sync::Arc};

use eventflow_domain::{
    Json, Tenant,
    error::Fault,
    service_call::{CallError, CallErrorKind, CallResponse, is_service_call},
};
use eventflow_ports::{
    LifecycleEvent,
    inbound::{Refusal, ServiceCall},
};
use serde::{Deserialize, Serialize};

use super::{
    Span, Time, invalid, read,
    shape::{TEXT_RULE, is_text},
};
use crate::envelope::Message;

/// `StartExecution`: perform one HTTP request, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallBody {
    /// Whose it is; the tenant of the subject where nothing is said, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The caller's own id: the same id again performs nothing.
    pub service_call_id: String,
    /// What to send.
    pub request_spec: RequestSpec,
}

/// The request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestSpec {
    /// `GET`, `POST`, …
    pub method: String,
    /// Absolute.
    pub url: String,
    /// Values by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A text is sent as it is, any other value as its JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Json>,
    /// How long it may take in all; the service's own limit where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// Reads a call.
pub fn call(tenant: &Tenant, message: &Message) -> Result<ServiceCall, Refusal> {
    let body: CallBody = read(message.data.as_str().as_bytes())?;
    let mut faults = Vec::new();
    if !is_text(&body.service_call_id) {
        faults.push(Fault::at("/serviceCallId", TEXT_RULE));
    }
    if body.tenant_id.is_some_and(|id| id != tenant.as_str()) {
        let detail = format!("the subject says tenant `{tenant}`: publish it to its own tenant's");
        faults.push(Fault::at("/tenantId", detail));
    }
    if !faults.is_empty() {
        return Err(invalid(faults));
    }
    let (request, envelope) = (body.request_spec, &message.envelope);
    Ok(ServiceCall {
        id: body.service_call_id.into(),
        method: request.method,
        url: request.url,
        headers: request.headers.into_iter().collect(),
        body: request.body.as_ref().and_then(text),
        timeout: request
            .timeout
            .map(|span| std::time::Duration::from_millis(span.0.0)),
        correlation: envelope.correlation.clone(),
        causation: envelope.id.clone(),
        traceparent: envelope.traceparent.clone(),
    })
}

fn text(body: &Json) -> Option<String> {
    match body.to_value() {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        _ => Some(body.as_str().to_owned()),
    }
}

/// What is told of a call: that it began, and then exactly one of the two others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CallEvent {
    /// A response of status 2xx came.
    #[serde(rename_all = "camelCase")]
    ExecutionSucceeded {
        /// Whose call.
        tenant_id: Tenant,
        /// Which.
        service_call_id: Arc<str>,
        /// When.
        finished_at: Time,
        /// The response.
        response_meta: CallResponse,
    },
    /// None came, or another.
    #[serde(rename_all = "camelCase")]
    ExecutionFailed {
        /// Whose call.
        tenant_id: Tenant,
        /// Which.
        service_call_id: Arc<str>,
        /// When.
        finished_at: Time,
        /// How it failed.
        error_meta: ErrorMeta,
    },
    /// The call was accepted and its one attempt begins.
    #[serde(rename_all = "camelCase")]
    ExecutionStarted {
        /// Whose call.
        tenant_id: Tenant,
        /// Which.
        service_call_id: Arc<str>,
        /// When.
        started_at: Time,
    },
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorMeta {
    /// `timeout`, `network`, `http` or `invalid`.
    pub kind: CallErrorKind,
    /// The status of the response, with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// In words.
    pub message: String,
    /// The beginning of the response's body, with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_snippet: Option<String>,
    /// From the request to the failure.
    pub latency_ms: u64,
}

/// What of an event's data a call's event tells.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    service_call_id: Arc<str>,
    #[serde(default)]
    output: Option<CallResponse>,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    duration_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Failure {
    status: u16,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    call: Option<CallError>,
}

impl CallEvent {
    /// What a lifecycle event says of a service call; none where it is not of one, or says nothing of it.
    pub fn of(event: &LifecycleEvent) -> Option<Self> {
        if !is_service_call(&event.workflow) {
            return None;
        }
        let told: Told = serde_json::from_str(event.data.as_str()).ok()?;
        let (tenant_id, at) = (event.tenant.clone(), event.time.into());
        let latency_ms = told.duration_ms.unwrap_or_default();
        let service_call_id = told.service_call_id;
        let error_meta = match (event.kind, told.output) {
            ("workflow_execution_started", _) => {
                return Some(Self::ExecutionStarted {
                    tenant_id,
                    service_call_id,
                    started_at: at,
                });
            }
            ("workflow_execution_completed", Some(response_meta)) => {
                return Some(Self::ExecutionSucceeded {
                    tenant_id,
                    service_call_id,
                    finished_at: at,
                    response_meta,
                });
            }
            ("workflow_execution_failed", _) => {
                failed(told.error, CallErrorKind::Network, latency_ms)
            }
            ("workflow_execution_timed_out", _) => {
                failed(told.error, CallErrorKind::Timeout, latency_ms)
            }
            // Somebody stopped it: whether the request arrived is not known.
            ("workflow_execution_cancelled", _) => ErrorMeta {
                kind: CallErrorKind::Network,
                status: None,
                message: "cancelled".to_owned(),
                response_snippet: None,
                latency_ms,
            },
            _ => return None,
        };
        Some(Self::ExecutionFailed {
            tenant_id,
            service_call_id,
            finished_at: at,
            error_meta,
        })
    }

    /// `ExecutionStarted`, `ExecutionSucceeded` or `ExecutionFailed`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ExecutionStarted { .. } => "ExecutionStarted",
            Self::ExecutionSucceeded { .. } => "ExecutionSucceeded",
            Self::ExecutionFailed { .. } => "ExecutionFailed",
        }
    }

    /// Which call.
    pub const fn call_id(&self) -> &Arc<str> {
        match self {
            Self::ExecutionStarted {
                service_call_id, ..
            }
            | Self::ExecutionSucceeded {
                service_call_id, ..
            }
            | Self::ExecutionFailed {
                service_call_id, ..
            } => service_call_id,
        }
    }
}

/// A failure; `kind` and `latency_ms` where it does not say them itself.
fn failed(failure: Option<Failure>, kind: CallErrorKind, latency_ms: u64) -> ErrorMeta {
    let Some(failure) = failure else {
        return ErrorMeta {
            kind,
            status: None,
            message: "failed".to_owned(),
            response_snippet: None,
            latency_ms,
        };
    };
    let call = failure.call.unwrap_or(CallError {
        kind,
        response_snippet: None,
        latency_ms,
    });
    ErrorMeta {
        kind: call.kind,
        status: (call.kind == CallErrorKind::Http).then_some(failure.status),
        message: failure.detail.or(failure.title).unwrap_or_default(),
        response_snippet: call.response_snippet,
        latency_ms: call.latency_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use eventflow_domain::{ExecutionId, Sequence, Timestamp, WorkflowId, service_call};

    fn asked(body: &str) -> Result<ServiceCall, Refusal> {
        let message = Message {
            envelope: Envelope {
                id: Some("m1".into()),
                ..Envelope::default()
            },
            data: Json::parse(body).unwrap(),
        };
        call(&Tenant::default_tenant(), &message)
    }

    #[test]
    fn a_call_is_read_whole() {
        let call = asked(
            r#"{"tenantId":"default","serviceCallId":"call 1/2","requestSpec":{"method":"POST",
            "url":"http://site/x","headers":{"A":"1","b":"2"},"body":"{}","timeout":"5s"},"unknown":1}"#,
        )
        .unwrap();
        assert_eq!(&*call.id, "call 1/2");
        assert_eq!((&*call.method, &*call.url), ("POST", "http://site/x"));
        assert_eq!(
            call.headers,
            [("A".into(), "1".into()), ("b".into(), "2".into())]
        );
        assert_eq!(call.body.as_deref(), Some("{}"));
        assert_eq!(call.timeout, Some(std::time::Duration::from_secs(5)));
        assert_eq!(call.causation.as_deref(), Some("m1"));
    }

    #[test]
    fn a_body_is_a_text_or_json() {
        for (body, expected) in [
            (r#""a""#, Some("a")),
            (r#"{"a":[1]}"#, Some(r#"{"a":[1]}"#)),
            ("null", None),
        ] {
            let call = asked(&format!(
                r#"{{"serviceCallId":"1","requestSpec":{{"method":"PUT","url":"u","body":{body}}}}}"#
            ));
            assert_eq!(call.unwrap().body.as_deref(), expected);
        }
    }

    #[test]
    fn another_tenants_call_is_refused() {
        let body =
            r#"{"tenantId":"other","serviceCallId":"","requestSpec":{"method":"GET","url":"u"}}"#;
        let Err(Refusal::Invalid { faults, .. }) = asked(body) else {
            panic!("it was taken");
        };
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/serviceCallId", "/tenantId"]);
    }

    fn told(kind: &'static str, data: &str) -> Option<String> {
        let event = LifecycleEvent {
            id: "1".into(),
            kind,
            tenant: Tenant::default_tenant(),
            execution: ExecutionId::parse("e").unwrap(),
            workflow: WorkflowId {
                namespace: service_call::NAMESPACE.into(),
                name: service_call::NAME.into(),
                version: "1.0.0".into(),
            },
            sequence: Sequence(1),
            time: Timestamp(1_772_357_400_000),
            correlation: None,
            causation: None,
            traceparent: None,
            data: Json::parse(data).unwrap(),
        };
        let told = CallEvent::of(&event)?;
        assert_eq!(&**told.call_id(), "c1");
        Some(format!(
            "{} {}",
            told.kind(),
            serde_json::to_string(&told).unwrap()
        ))
    }

    #[test]
    fn a_call_is_told_by_its_execution() {
        assert_eq!(
            told("workflow_execution_started", r#"{"serviceCallId":"c1"}"#).unwrap(),
            r#"ExecutionStarted {"tenantId":"default","serviceCallId":"c1","startedAt":"2026-03-01T09:30:00.000Z"}"#
        );
        assert_eq!(
            told(
                "workflow_execution_completed",
                r#"{"serviceCallId":"c1","output":{"status":200,"headers":{"a":"b"},"bodySnippet":"ok","latencyMs":7}}"#
            )
            .unwrap(),
            r#"ExecutionSucceeded {"tenantId":"default","serviceCallId":"c1","finishedAt":"2026-03-01T09:30:00.000Z","responseMeta":{"status":200,"headers":{"a":"b"},"bodySnippet":"ok","latencyMs":7}}"#
        );
        assert_eq!(
            told(
                "workflow_execution_failed",
                r#"{"serviceCallId":"c1","error":{"type":"t","status":404,"detail":"no such page","call":{"kind":"http","responseSnippet":"?","latencyMs":3}}}"#
            )
            .unwrap(),
            r#"ExecutionFailed {"tenantId":"default","serviceCallId":"c1","finishedAt":"2026-03-01T09:30:00.000Z","errorMeta":{"kind":"http","status":404,"message":"no such page","responseSnippet":"?","latencyMs":3}}"#
        );
    }

    #[test]
    fn every_end_is_an_outcome() {
        for (kind, expected) in [
            ("workflow_execution_failed", r#""kind":"network""#),
            ("workflow_execution_timed_out", r#""kind":"timeout""#),
            ("workflow_execution_cancelled", r#""message":"cancelled""#),
        ] {
            let told = told(kind, r#"{"serviceCallId":"c1","durationMs":9}"#).unwrap();
            assert!(told.contains(expected), "{told}");
            assert!(told.contains(r#""latencyMs":9"#), "{told}");
        }
        for kind in [
            "workflow_execution_requested",
            "task_started",
            "task_failed",
        ] {
            assert_eq!(told(kind, r#"{"serviceCallId":"c1"}"#), None, "{kind}");
        }
    }
}
