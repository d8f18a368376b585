//! For those who run the service: health, readiness, metrics, the system, and the API's own description.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use eventflow_wire::v1::{
    Fault,
    system::{Health, System},
};

use crate::{
    body::{JSON, answer},
    shape,
    state::Shared,
    trouble::Trouble,
};

/// The media type of Prometheus' text format.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// The page loads nothing from anywhere but this service.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
);
const DOCS: &str = include_str!("docs.html");

/// Whether the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "Operations", operation_id = "health",
    responses((status = 200, description = "It lives.", body = Health)),
)]
pub(crate) async fn health() -> Response {
    let status = "ok".into();
    answer(StatusCode::OK, &Health { status })
}

/// Whether the service can accept work; 503 with every reason where it can't.
#[utoipa::path(
    get, path = "/readyz", tag = "Operations", operation_id = "readiness",
    responses((status = 200, description = "It can.", body = Health)),
)]
pub(crate) async fn readiness(State(shared): State<Shared>) -> Result<Response, Trouble> {
    match shared.system().readiness() {
        Ok(()) => {
            let status = "ready".into();
            Ok(answer(StatusCode::OK, &Health { status }))
        }
        Err(reasons) => {
            let detail = format!("not ready: {}", reasons.join("; "));
            Err(Trouble::new(StatusCode::SERVICE_UNAVAILABLE, detail)
                .with(reasons.into_iter().map(|reason| Fault::at("", reason))))
        }
    }
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "Operations", operation_id = "metrics",
    responses((status = 200, description = "Text format 0.0.4.", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, METRICS)], shared.system().metrics()).into_response()
}

/// Version, backend, partitions and their leaders, limits.
#[utoipa::path(
    get, path = "/v1/system", tag = "Operations", operation_id = "system",
    responses((status = 200, description = "The system.", body = System)),
)]
pub(crate) async fn system(State(shared): State<Shared>) -> Response {
    answer(StatusCode::OK, &shape::system(shared.system().system()))
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operations", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value)),
)]
pub(crate) async fn openapi(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], shared.openapi()).into_response()
}

/// This description, to read.
#[utoipa::path(
    get, path = "/docs", tag = "Operations", operation_id = "docs",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")),
)]
pub(crate) async fn docs() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HTML),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, DOCS).into_response()
}
