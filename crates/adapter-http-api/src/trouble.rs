//! How a request is declined: every refusal, and whatever else goes wrong with HTTP, as `application/problem+json`.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use eventflow_ports::inbound::{Fault, Refusal};
use eventflow_wire::v1::{self as wire, Problem, invalid, retry_after};

/// The media type of a problem (RFC 9457).
pub(crate) const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A problem on its way out, boxed: it is large and rare.
#[derive(Debug, Clone)]
pub(crate) struct Trouble(Box<(Problem, Option<Duration>)>);

impl Trouble {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let problem = Problem::new(status.as_u16(), title, detail);
        Self(Box::new((problem, None)))
    }

    /// 400: it cannot be read.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: there is no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 422: it can be read but is wrong, at these places.
    pub(crate) fn invalid(faults: impl IntoIterator<Item = Fault>) -> Self {
        invalid(faults.into_iter().collect()).into()
    }

    pub(crate) fn with(mut self, faults: impl IntoIterator<Item = wire::Fault>) -> Self {
        self.0.0.errors.extend(faults);
        self
    }

    pub(crate) fn into_problem(self) -> Problem {
        self.0.0
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let again = retry_after(&refusal);
        Self(Box::new((refusal.into(), again)))
    }
}

impl IntoResponse for Trouble {
    /// Without a body: [`explain`] knows the request's path and writes it.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.0.status);
        let mut response = status
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
        if let Some(after) = self.0.1 {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            let value = HeaderValue::from_str(&seconds.to_string());
            response
                .headers_mut()
                .extend(value.map(|value| (header::RETRY_AFTER, value)));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Around every route: writes problems out, also those that axum itself answers with a bare status.
pub(crate) async fn explain(request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let mut response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let trouble = response.extensions_mut().remove::<Trouble>();
    let mut problem = trouble
        .unwrap_or_else(|| Trouble::new(status, bare(status)))
        .into_problem();
    problem.instance = Some(uri.path().into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PROBLEM);
    headers.remove(header::CONTENT_LENGTH);
    let text = serde_json::to_vec(&problem).unwrap_or_default();
    *response.body_mut() = Body::from(text);
    response
}

/// What to say of a status that came without words.
fn bare(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            "this path has no such method: the header `Allow` names those it has"
        }
        StatusCode::NOT_FOUND => "there is nothing at this path: `/docs` lists what there is",
        _ => "the request could not be handled",
    }
}

/// A path that is none.
pub(crate) async fn no_such_path() -> StatusCode {
    StatusCode::NOT_FOUND
}
