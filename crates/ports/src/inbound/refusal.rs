//! Why the inside declines: one variant per answer that a caller can act on.

use std::time::Duration;

pub use eventflow_domain::error::{Fault, Place};
use serde::{Deserialize, Serialize};

/// A request that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// It cannot be read: HTTP 400.
    #[error("{detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
        /// The places, where it is a text that cannot be read.
        faults: Vec<Fault>,
    },
    /// There is no such thing, for this tenant: 404.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what already happened: 409.
    #[error("{0}")]
    Contradiction(String),
    /// It is larger than allowed: 413.
    #[error("{what} may have at most {limit} bytes")]
    TooLarge {
        /// What is too large; told by whoever read it, and lost between nodes.
        #[serde(skip_deserializing, default = "something")]
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// It can be read but is wrong, in all of these places: 422.
    #[error("{detail}")]
    Invalid {
        /// The summary.
        detail: String,
        /// Every fault, each at its JSON Pointer, and at its place in the text where there is one.
        faults: Vec<Fault>,
    },
    /// Too much at once, nothing was done: 429.
    #[error("{detail}")]
    Busy {
        /// What is full.
        detail: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Not able now, *maybe* done, the same request may be repeated: 503.
    #[error("{detail}")]
    Unavailable {
        /// What does not work.
        detail: String,
        /// When to try again.
        retry_after: Duration,
    },
}

impl Refusal {
    /// `Malformed`, of something that has no places.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::Malformed {
            detail: detail.into(),
            faults: Vec::new(),
        }
    }

    /// `Unavailable`, to be tried again in a second.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::Unavailable {
            detail: detail.into(),
            retry_after: Duration::from_secs(1),
        }
    }
}

const fn something() -> &'static str {
    "what was sent"
}
