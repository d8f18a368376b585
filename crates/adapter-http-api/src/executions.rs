//! Starting, reading and listing executions, and their history.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use eventflow_domain::ExecutionId;
use eventflow_ports::inbound::{ExecutionView, Started};
use eventflow_wire::v1::{
    executions::{self as wire, HistoryAnswer, ListAnswer, StartBody, Summary},
    shape::{StartContext, start as start_execution, summary},
};

use crate::{
    body::{Raw, Segments, answer},
    header as request,
    query::Pairs,
    shape,
    state::Shared,
    stream,
    trouble::Trouble,
};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Start an execution.
///
/// The answer comes once the start is durable. The same `executionId` or `Idempotency-Key` with the same body answers
/// the same execution and starts nothing; with another body it is 409.
#[utoipa::path(
    post, path = "/v1/executions", tag = "Executions", operation_id = "startExecution",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the start unique where there is no `executionId`."),
        ("Prefer" = Option<String>, Header, description = "`wait=30`: hold the answer back for up to 30 seconds (55 at most) until the execution has ended."),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, forwarded to every task."),
    ),
    request_body = StartBody,
    responses(
        (status = 200, description = "It ended within the time to wait: the full view.", body = wire::ExecutionView),
        (status = 202, description = "Accepted and durable.", body = Summary, headers(("Location" = String, description = "Where to read it."))),
    ),
)]
pub(crate) async fn start(
    State(shared): State<Shared>,
    headers: HeaderMap,
    raw: Raw,
) -> Result<Response, Trouble> {
    let turn = shared.turn_to_start().await;
    let body: StartBody = raw.json()?;
    let given = StartContext {
        idempotency_key: request::idempotency_key(&headers)?,
        traceparent: request::traceparent(&headers),
        ..StartContext::default()
    };
    let start = start_execution(shared.tenant(), body, given)?;
    let started = shared.executions().start(start).await?;
    drop(turn);
    let Some(wait) = request::preferred_wait(&headers) else {
        return Ok(accepted(started.view));
    };
    // Beyond the places to wait the preference is not honoured, as it is only a preference.
    let Ok(_place) = shared.place_to_wait() else {
        return Ok(accepted(started.view));
    };
    let view = ended(&shared, &started, wait).await?;
    let mut response = if view.status.is_ended() {
        answer(StatusCode::OK, &shape::view(view))
    } else {
        accepted(view)
    };
    let applied = HeaderValue::from_str(&format!("wait={}", wait.as_secs()));
    response
        .headers_mut()
        .extend(applied.map(|applied| (PREFERENCE_APPLIED, applied)));
    Ok(response)
}

async fn ended(
    shared: &Shared,
    started: &Started,
    wait: Duration,
) -> Result<ExecutionView, Trouble> {
    let waiting = shared
        .executions()
        .wait(shared.tenant(), &started.execution, wait);
    tokio::select! {
        biased;
        view = waiting => Ok(view?),
        () = shared.drained() => Ok(started.view.clone()),
    }
}

fn accepted(view: ExecutionView) -> Response {
    let location = HeaderValue::from_str(&format!("/v1/executions/{}", view.execution));
    let mut response = answer(StatusCode::ACCEPTED, &summary(view));
    response
        .headers_mut()
        .extend(location.map(|location| (header::LOCATION, location)));
    response
}

/// The full view of an execution.
#[utoipa::path(
    get, path = "/v1/executions/{id}", tag = "Executions", operation_id = "getExecution",
    params(("id" = String, Path, description = "The execution's id.")),
    responses((status = 200, description = "The full view.", body = wire::ExecutionView)),
)]
pub(crate) async fn view(
    State(shared): State<Shared>,
    Segments(id): Segments<String>,
) -> Result<Response, Trouble> {
    let execution = execution(&id)?;
    let view = shared
        .executions()
        .view(shared.tenant(), &execution)
        .await?;
    Ok(answer(StatusCode::OK, &shape::view(view)))
}

/// List executions, newest first.
#[utoipa::path(
    get, path = "/v1/executions", tag = "Executions", operation_id = "listExecutions",
    params(
        ("status" = Option<String>, Query, description = "One or more of pending, running, waiting, suspending, suspended, cancelled, faulted, completed; separated by commas or repeated."),
        ("workflow" = Option<String>, Query, description = "The workflow's name."),
        ("label" = Option<Vec<String>>, Query, description = "`key:value`; repeated, all must match."),
        ("startedAfter" = Option<String>, Query, description = "Accepted at or after this time, RFC 3339."),
        ("startedBefore" = Option<String>, Query, description = "Accepted before this time, RFC 3339."),
        ("limit" = Option<u32>, Query, description = "From 1 to 500; 50 where nothing is said."),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before."),
    ),
    responses((status = 200, description = "A page.", body = ListAnswer)),
)]
pub(crate) async fn list(State(shared): State<Shared>, query: Pairs) -> Result<Response, Trouble> {
    let query = query.list(shared.tenant())?;
    let page = shared.executions().list(query).await?;
    Ok(answer(StatusCode::OK, &shape::list(page)))
}

/// The journal events of an execution, in order and chained by hash.
///
/// With `Accept: application/x-ndjson` all of them from `after` on, one a line.
#[utoipa::path(
    get, path = "/v1/executions/{id}/history", tag = "Executions", operation_id = "getHistory",
    params(
        ("id" = String, Path, description = "The execution's id."),
        ("after" = Option<u64>, Query, description = "Only events after this sequence."),
        ("limit" = Option<u32>, Query, description = "From 1 to 1,000; 100 where nothing is said. Not for ndjson."),
    ),
    responses((status = 200, description = "A page, or all as ndjson.", content(
        (HistoryAnswer = "application/json"),
        (wire::HistoryEvent = "application/x-ndjson"),
    ))),
)]
pub(crate) async fn history(
    State(shared): State<Shared>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    query: Pairs,
) -> Result<Response, Trouble> {
    let execution = execution(&id)?;
    let (after, limit) = query.history()?;
    if request::accepts(&headers, stream::NDJSON) {
        return stream::history(shared, execution, after).await;
    }
    let page = shared
        .executions()
        .history(shared.tenant(), &execution, after, limit)
        .await?;
    Ok(answer(StatusCode::OK, &shape::history(page)))
}

/// The public events of an execution as server-sent events, from the first one on, then live.
///
/// Each has the event's sequence as `id`, its type as `event` and the `CloudEvent` as `data`. The stream ends after the
/// terminal event; a reader that has seen it gets 204.
#[utoipa::path(
    get, path = "/v1/executions/{id}/events", tag = "Executions", operation_id = "streamExecutionEvents",
    params(
        ("id" = String, Path, description = "The execution's id."),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this `id`."),
    ),
    responses(
        (status = 200, description = "A stream.", body = eventflow_wire::v1::events::CloudEvent, content_type = "text/event-stream"),
        (status = 204, description = "The execution has ended and the reader has seen all of it."),
    ),
)]
pub(crate) async fn events(
    State(shared): State<Shared>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let execution = execution(&id)?;
    let after = request::last_event(&headers)?;
    if after.0 > 0 {
        let view = shared
            .executions()
            .view(shared.tenant(), &execution)
            .await?;
        if view.status.is_ended() && after >= view.sequence {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    stream::execution(shared, execution, after).await
}

/// The public events of all executions as server-sent events, from now on.
#[utoipa::path(
    get, path = "/v1/events", tag = "Executions", operation_id = "streamEvents",
    responses((status = 200, description = "A stream.", body = eventflow_wire::v1::events::CloudEvent, content_type = "text/event-stream")),
)]
pub(crate) async fn all_events(State(shared): State<Shared>) -> Result<Response, Trouble> {
    stream::tenant(shared).await
}

/// An id that is no id names nothing.
pub(crate) fn execution(id: &str) -> Result<ExecutionId, Trouble> {
    ExecutionId::parse(id).map_err(|error| Trouble::not_found(error.to_string()))
}
