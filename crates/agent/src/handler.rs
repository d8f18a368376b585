//! What performs attempts: a type of your own or a closure, and how it says that it did not work.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{DurationMs, Json, error::ErrorKind};
use eventflow_wire::v1::tasks::{FailBody, FailError};
use serde::Serialize;

use crate::Task;

/// Performs the attempts of one capability, many at a time.
///
/// Attempts are delivered at least once: a handler that calls somebody else passes on [`Task::idempotency_key`].
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Does the work; what it gives is the task's output.
    async fn perform(&self, task: Task) -> Result<Json, Failure>;
}

/// Any function of a task that gives something that serialises.
#[async_trait]
impl<F, Performing, Output> Handler for F
where
    F: Fn(Task) -> Performing + Send + Sync + 'static,
    Performing: Future<Output = Result<Output, Failure>> + Send,
    Output: Serialize + Send,
{
    async fn perform(&self, task: Task) -> Result<Json, Failure> {
        let output = self(task).await?;
        // Not `Json::of`: a type of the user's own may refuse to serialise.
        let text = serde_json::to_string(&output).map_err(|error| {
            Failure::permanent(format!("the output is no JSON: {error}")).titled("Unusable output")
        })?;
        Ok(Json::parse(&text)?)
    }
}

/// An attempt that did not work.
///
/// Made by [`Failure::transient`] or [`Failure::permanent`], or by `?` from any error, which is then transient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    error: FailError,
    retryable: bool,
    retry_after: Option<Duration>,
}

impl Failure {
    /// Another try may help: the task's retry policy decides.
    pub fn transient(detail: impl Into<String>) -> Self {
        Self::new(detail.into(), true)
    }

    /// No other try will help: the task faults at once.
    pub fn permanent(detail: impl Into<String>) -> Self {
        Self::new(detail.into(), false)
    }

    /// What cannot be read of a task's input: never retried.
    pub fn invalid_input(detail: impl Into<String>) -> Self {
        Self::permanent(detail)
            .typed(ErrorKind::Validation.uri())
            .with_status(ErrorKind::Validation.status())
            .titled("Invalid input")
    }

    fn new(detail: String, retryable: bool) -> Self {
        Self {
            error: FailError {
                detail: Some(detail),
                ..FailError::default()
            },
            retryable,
            retry_after: None,
        }
    }

    /// With a type, a URI that a workflow's `catch` may name; `…/errors/runtime` otherwise.
    #[must_use]
    pub fn typed(mut self, uri: impl Into<String>) -> Self {
        self.error.kind = Some(uri.into());
        self
    }

    /// With a short summary, the same for all failures of its kind.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.error.title = Some(title.into());
        self
    }

    /// With an HTTP-like status; 500 otherwise.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.error.status = Some(status);
        self
    }

    /// With the time before which another try is of no use.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    pub(crate) fn into_body(self) -> FailBody {
        let span = |pause: Duration| {
            DurationMs(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)).into()
        };
        FailBody {
            error: self.error,
            retryable: self.retryable,
            retry_after: self.retry_after.map(span),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.error.detail.as_deref().unwrap_or("failed"))
    }
}

/// Any error is a transient failure, with its causes in the detail. That is why `Failure` itself is no `Error`.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            detail = format!("{detail}: {inner}");
            cause = inner.source();
        }
        Self::transient(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_transient_failure_with_its_text() {
        let error = std::io::Error::other("the disk is full");
        let body = Failure::from(error).into_body();
        assert!(body.retryable);
        assert_eq!(body.error.detail.as_deref(), Some("the disk is full"));
        assert_eq!(body.error.kind, None);
    }

    #[test]
    fn a_failure_says_all_that_was_set() {
        let body = Failure::permanent("no such card")
            .typed("https://shop.example/errors/card")
            .titled("Card refused")
            .with_status(402)
            .retry_after(Duration::from_secs(5))
            .into_body();
        assert!(!body.retryable);
        assert_eq!(body.error.status, Some(402));
        assert_eq!(body.error.title.as_deref(), Some("Card refused"));
        assert_eq!(body.retry_after, Some(DurationMs(5_000).into()));
    }
}
