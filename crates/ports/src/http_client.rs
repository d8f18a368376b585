//! One HTTP request, one outcome (requirement S1).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// Sends one request and never a second one.
///
/// 1. Any HTTP status MUST be a response, not a failure.
/// 2. No answer within `timeout` (connecting, waiting and reading together) MUST fail with `Timeout`.
/// 3. A refused or broken connection, or a failed look-up, MUST fail with `Network`.
/// 4. A URL, method or header that cannot be sent, or a target that is not allowed, MUST fail with `Invalid` and send
///    nothing.
/// 5. Of a body larger than `body_limit` MUST be kept the first `body_limit` bytes, with `truncated` set; the rest is
///    not read.
/// 6. With `follow_redirects`, up to 10 redirects MUST be followed, each target checked as in clause 4; without it a
///    redirect is the response.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait HttpClient: Send + Sync {
    /// Performs the request.
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure>;
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST`, … in any case.
    pub method: String,
    /// An absolute `http` or `https` URL, query included.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body, empty for none.
    pub body: Bytes,
    /// Over all: connecting, waiting, reading.
    pub timeout: Duration,
    /// How much of the response's body to keep, bytes.
    pub body_limit: usize,
    /// Whether to go where a 3xx points.
    pub follow_redirects: bool,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, values as text.
    pub headers: Vec<(String, String)>,
    /// The body, up to the limit.
    pub body: Bytes,
    /// Whether there was more.
    pub truncated: bool,
    /// From the call to the last byte kept.
    pub latency: Duration,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HttpFailure {
    /// Which sort.
    pub kind: HttpFailureKind,
    /// What happened, without secrets: no headers, no body, no query.
    pub message: String,
    /// From the call to the failure.
    pub latency: Duration,
}

/// The sorts of failure of requirement S1; `http`, a non-2xx status, is a response here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFailureKind {
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Network,
    /// The request could not be sent as it is.
    Invalid,
}
