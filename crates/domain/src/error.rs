//! Errors as the standard has them: RFC 7807 objects whose `instance` is a task's reference.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::service_call::CallError;

/// The family of a standard error: its URI and its usual status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The definition or a task's configuration is wrong.
    Configuration,
    /// Input does not fit its schema.
    Validation,
    /// An expression could not be evaluated.
    Expression,
    /// The caller is not who it says.
    Authentication,
    /// The caller may not do this.
    Authorization,
    /// Something took too long.
    Timeout,
    /// A call to somebody else failed.
    Communication,
    /// Anything that went wrong while running.
    Runtime,
}

impl ErrorKind {
    /// The type URI of the 1.0.0 specification (DESIGN section 9).
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Configuration => "https://serverlessworkflow.io/spec/1.0.0/errors/configuration",
            Self::Validation => "https://serverlessworkflow.io/spec/1.0.0/errors/validation",
            Self::Expression => "https://serverlessworkflow.io/spec/1.0.0/errors/expression",
            Self::Authentication => {
                "https://serverlessworkflow.io/spec/1.0.0/errors/authentication"
            }
            Self::Authorization => "https://serverlessworkflow.io/spec/1.0.0/errors/authorization",
            Self::Timeout => "https://serverlessworkflow.io/spec/1.0.0/errors/timeout",
            Self::Communication => "https://serverlessworkflow.io/spec/1.0.0/errors/communication",
            Self::Runtime => "https://serverlessworkflow.io/spec/1.0.0/errors/runtime",
        }
    }

    /// The status that goes with it where nothing better is known.
    pub const fn status(self) -> u16 {
        match self {
            Self::Configuration | Self::Validation | Self::Expression => 400,
            Self::Authentication => 401,
            Self::Authorization => 403,
            Self::Timeout => 408,
            Self::Communication | Self::Runtime => 500,
        }
    }
}

/// Where the standard's error types live, in the spellings of its versions so far.
const STANDARD_TYPES: [&str; 5] = [
    "https://serverlessworkflow.io/spec/1.0.0/errors/",
    "https://serverlessworkflow.io/dsl/errors/types/",
    "https://serverlessworkflow.io.io/dsl/errors/types/",
    "https://open-workflow-specification.org/spec/1.0.0/errors/",
    "https://open-workflow-specification.org/dsl/errors/types/",
];

/// Whether two type URIs name the same type of error: a type of the standard is the same in all of its spellings
/// (DESIGN section 9).
pub fn same_kind(one: &str, two: &str) -> bool {
    let standard = |uri: &str| {
        let name = STANDARD_TYPES
            .iter()
            .find_map(|base| uri.strip_prefix(base));
        name.map(str::to_owned)
    };
    one == two || standard(one).is_some_and(|name| standard(two) == Some(name))
}

/// What went wrong with a task or an execution (RFC 7807).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// A short summary, the same for all of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// An HTTP-like status.
    pub status: u16,
    /// What happened this time, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The reference of the task that raised it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Of a service call: how its request failed. An extension member (RFC 7807 section 3.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Box<CallError>>,
}

impl Problem {
    /// A problem of a standard kind.
    pub fn new(kind: ErrorKind, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.uri().into(),
            title: Some(title.into()),
            status: kind.status(),
            detail: Some(detail.into()),
            instance: None,
            call: None,
        }
    }

    /// The same problem, raised by the task of this reference.
    #[must_use]
    pub fn at(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }
}

/// One thing that is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// RFC 6901, into the document as it was given.
    pub pointer: String,
    /// What is wrong and what to do.
    pub detail: String,
    /// Where that is in the document's text, where there is one.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Fault {
    /// A fault of what has no text, or one whose place is not known yet.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
            place: None,
        }
    }
}

/// Where in a text, from 1, as editors count: a column is a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

impl Place {
    /// Where a text begins; it stands for the text as a whole.
    pub const START: Self = Self { line: 1, column: 1 };
}
