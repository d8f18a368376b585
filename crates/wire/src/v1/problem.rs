//! Errors outside: RFC 9457 `application/problem+json`, and the error of a task or an execution, which has the same form.

use std::time::Duration;

use eventflow_domain::error;
use eventflow_ports::inbound::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem; `about:blank` where the status says it all.
    #[serde(rename = "type", default = "blank")]
    #[schema(example = "about:blank")]
    pub kind: String,
    /// A short summary, the same for all of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Unprocessable Entity")]
    pub title: Option<String>,
    /// The HTTP status, or for a task's error what is like one.
    #[schema(example = 422)]
    pub status: u16,
    /// What happened this time, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request's path, or the reference of the task that raised it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/v1/workflows")]
    pub instance: Option<String>,
    /// Every fault of a document or a body, each at its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

fn blank() -> String {
    Problem::BLANK.into()
}

impl Problem {
    /// The type of a problem that its status describes.
    pub const BLANK: &str = "about:blank";

    /// A problem that its status describes, with what happened.
    pub fn new(status: u16, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: blank(),
            title: Some(title.into()),
            status,
            detail: Some(detail.into()),
            instance: None,
            errors: Vec::new(),
        }
    }

    /// The same problem with every fault.
    #[must_use]
    pub fn with(mut self, errors: impl IntoIterator<Item = Fault>) -> Self {
        self.errors.extend(errors);
        self
    }
}

impl From<error::Problem> for Problem {
    fn from(problem: error::Problem) -> Self {
        Self {
            kind: problem.kind.as_ref().into(),
            title: problem.title,
            status: problem.status,
            detail: problem.detail,
            instance: problem.instance,
            errors: Vec::new(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let (status, title) = match &refusal {
            Refusal::Malformed { .. } => (400, "Bad Request"),
            Refusal::NotFound(_) => (404, "Not Found"),
            Refusal::Contradiction(_) => (409, "Conflict"),
            Refusal::TooLarge { .. } => (413, "Payload Too Large"),
            Refusal::Invalid { .. } => (422, "Unprocessable Entity"),
            Refusal::Busy { .. } => (429, "Too Many Requests"),
            Refusal::Unavailable { .. } => (503, "Service Unavailable"),
        };
        let faults = match refusal {
            Refusal::Malformed { faults, .. } | Refusal::Invalid { faults, .. } => faults,
            _ => Vec::new(),
        };
        Self::new(status, title, detail).with(faults.into_iter().map(Fault::from))
    }
}

/// When to try again, where that may help.
pub fn retry_after(refusal: &Refusal) -> Option<Duration> {
    match refusal {
        Refusal::Busy { retry_after, .. } | Refusal::Unavailable { retry_after, .. } => {
            Some(*retry_after)
        }
        Refusal::Malformed { .. }
        | Refusal::NotFound(_)
        | Refusal::Contradiction(_)
        | Refusal::TooLarge { .. }
        | Refusal::Invalid { .. } => None,
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// RFC 6901 JSON Pointer into the document or body as it was given.
    #[schema(example = "/do/0/charge/call")]
    pub pointer: String,
    /// What is wrong and what to do.
    pub detail: String,
    /// The line of the text that was sent, from 1, where it is a document's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 7, minimum = 1)]
    pub line: Option<usize>,
    /// The column in that line, from 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 11, minimum = 1)]
    pub column: Option<usize>,
}

impl Fault {
    /// A fault at a pointer.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
            line: None,
            column: None,
        }
    }
}

impl From<error::Fault> for Fault {
    fn from(fault: error::Fault) -> Self {
        Self {
            pointer: fault.pointer,
            detail: fault.detail,
            line: fault.place.map(|place| place.line),
            column: fault.place.map(|place| place.column),
        }
    }
}
