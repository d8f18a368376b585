//! Service calls (requirement S1): what they are called inside, and what comes of one.
//!
//! A service call is an execution of a workflow of the service's own, with one task that sends one HTTP request, at most
//! once whatever crashes. What comes of it stands in the execution: its output is a [`CallResponse`], or its error's
//! `call` is a [`CallError`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::WorkflowId;

/// The namespace of the service's own workflow.
pub const NAMESPACE: &str = "eventflow";
/// Its name in there.
pub const NAME: &str = "service-call";
/// The label that holds the caller's own id, and the property that holds it in public events.
pub const CALL_ID: &str = "serviceCallId";

/// Whether this is the workflow behind service calls, of any version.
pub fn is_service_call(workflow: &WorkflowId) -> bool {
    *workflow.namespace == *NAMESPACE && *workflow.name == *NAME
}

/// A response of status 2xx: the output of the execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallResponse {
    /// The status code.
    pub status: u16,
    /// Names in lower case; the values of a name that stands more than once are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The beginning of the body, at most [`crate::limits::SNIPPET_BYTES_MAX`].
    pub body_snippet: String,
    /// From the request to the end of the response.
    pub latency_ms: u64,
}

/// How a call failed, beside what every error says: with `http`, the error's `status` is the response's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallError {
    /// Which sort.
    pub kind: CallErrorKind,
    /// The beginning of the body of a response that is no 2xx, at most [`crate::limits::SNIPPET_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_snippet: Option<String>,
    /// From the request to the failure.
    pub latency_ms: u64,
}

/// The sorts of failure of requirement S1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallErrorKind {
    /// No answer in time.
    Timeout,
    /// No connection, it broke, or the service was interrupted: the request may have arrived.
    Network,
    /// A response that is no 2xx.
    Http,
    /// The request could not be sent as it is.
    Invalid,
}
