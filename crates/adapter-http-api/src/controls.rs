//! Steering executions: pause, resume, stop, and what one waits for.

use axum::{extract::State, http::StatusCode, response::Response};
use eventflow_ports::inbound::Action;
use eventflow_wire::v1::{
    controls::{ControlBody, Explanation},
    executions::Summary,
    shape::{reason, summary},
};

use crate::{
    body::{OptionalJson, Segments, answer},
    executions::execution,
    shape,
    state::Shared,
    trouble::Trouble,
};

/// Pause an execution.
///
/// Nothing new begins until it is resumed; what has begun runs out and its results are kept. It reads `suspending` until
/// then, `suspended` after. Pausing it again is harmless; an execution that has ended is 409.
#[utoipa::path(
    post, path = "/v1/executions/{id}/pause", tag = "Executions", operation_id = "pauseExecution",
    params(("id" = String, Path, description = "The execution's id.")),
    request_body = Option<ControlBody>,
    responses((status = 202, description = "Accepted and durable.", body = Summary)),
)]
pub(crate) async fn pause(
    shared: State<Shared>,
    id: Segments<String>,
    body: OptionalJson<ControlBody>,
) -> Result<Response, Trouble> {
    control(shared, id, body, Action::Pause).await
}

/// Resume a paused execution.
///
/// What the pause held back goes on, timers that have passed meanwhile act. Resuming one that is not paused is
/// harmless; an execution that has ended is 409.
#[utoipa::path(
    post, path = "/v1/executions/{id}/resume", tag = "Executions", operation_id = "resumeExecution",
    params(("id" = String, Path, description = "The execution's id.")),
    request_body = Option<ControlBody>,
    responses((status = 202, description = "Accepted and durable.", body = Summary)),
)]
pub(crate) async fn resume(
    shared: State<Shared>,
    id: Segments<String>,
    body: OptionalJson<ControlBody>,
) -> Result<Response, Trouble> {
    control(shared, id, body, Action::Resume).await
}

/// Stop an execution.
///
/// Nothing new begins, what is under way is cancelled, and it ends as `cancelled`. Agents learn of it with their next
/// heartbeat; late results are 409. Stopping it again is harmless; one that has ended otherwise is 409.
#[utoipa::path(
    post, path = "/v1/executions/{id}/stop", tag = "Executions", operation_id = "stopExecution",
    params(("id" = String, Path, description = "The execution's id.")),
    request_body = Option<ControlBody>,
    responses((status = 202, description = "Accepted and durable.", body = Summary)),
)]
pub(crate) async fn stop(
    shared: State<Shared>,
    id: Segments<String>,
    body: OptionalJson<ControlBody>,
) -> Result<Response, Trouble> {
    control(shared, id, body, Action::Stop).await
}

async fn control(
    State(shared): State<Shared>,
    Segments(id): Segments<String>,
    OptionalJson(body): OptionalJson<ControlBody>,
    action: Action,
) -> Result<Response, Trouble> {
    let execution = execution(&id)?;
    let reason = reason(body)?;
    let view = shared
        .controls()
        .control(shared.tenant(), &execution, action, reason)
        .await?;
    Ok(answer(StatusCode::ACCEPTED, &summary(view)))
}

/// What an execution waits for.
///
/// Since when, who holds it, and what comes next.
#[utoipa::path(
    get, path = "/v1/executions/{id}/explain", tag = "Executions", operation_id = "explainExecution",
    params(("id" = String, Path, description = "The execution's id.")),
    responses((status = 200, description = "Everything that it waits for.", body = Explanation)),
)]
pub(crate) async fn explain(
    State(shared): State<Shared>,
    Segments(id): Segments<String>,
) -> Result<Response, Trouble> {
    let execution = execution(&id)?;
    let explanation = shared
        .controls()
        .explain(shared.tenant(), &execution)
        .await?;
    Ok(answer(StatusCode::OK, &shape::explanation(explanation)))
}
