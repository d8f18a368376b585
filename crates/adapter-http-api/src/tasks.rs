//! The agents' side: leases, results and signs of life. The hot path: parse once, call once, write once.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use eventflow_ports::inbound::{Fault, LeaseRequest, ResultOutcome};
use eventflow_wire::v1::{
    RESULTS_MAX,
    batch::{Batch, Stand, Told, told, unanswered},
    tasks::{
        AcceptedAnswer, CompleteBody, FailBody, HeartbeatAnswer, HeartbeatBody, LeaseAnswer,
        LeaseBody, LeasedTask, ResultAnswer, ResultItem, ResultsAnswer, ResultsBody,
    },
};

use crate::{
    body::{JSON, Json, OptionalJson, Segments, answer},
    shape,
    state::Shared,
    trouble::Trouble,
};

/// Lease tasks, waiting for the first where asked to.
#[utoipa::path(
    post, path = "/v1/tasks/lease", tag = "Agents", operation_id = "leaseTasks",
    request_body = LeaseBody,
    responses((status = 200, description = "The tasks; none after `wait`.", body = LeaseAnswer)),
)]
pub(crate) async fn lease(
    State(shared): State<Shared>,
    Json(body): Json<LeaseBody>,
) -> Result<Response, Trouble> {
    let tasks = take(&shared, shape::lease(body, "")?).await?;
    Ok(answer(StatusCode::OK, &LeaseAnswer { tasks }))
}

async fn take(shared: &Shared, request: LeaseRequest) -> Result<Vec<LeasedTask>, Trouble> {
    let waits = !request.wait.is_zero();
    let leasing = shared.tasks().lease(shared.tenant(), request);
    let tasks = if waits {
        let _place = shared.place_to_wait()?;
        tokio::select! {
            biased;
            tasks = leasing => tasks?,
            () = shared.drained() => Vec::new(),
        }
    } else {
        leasing.await?
    };
    Ok(tasks
        .into_iter()
        .map(|task| shape::leased(shared.tenant(), task))
        .collect())
}

/// Complete a task. Answered once it is durable; the same again is 200, another result 409.
#[utoipa::path(
    post, path = "/v1/tasks/{token}/complete", tag = "Agents", operation_id = "completeTask",
    params(("token" = String, Path, description = "The token of the lease.")),
    request_body = CompleteBody,
    responses((status = 200, description = "Durable.", body = AcceptedAnswer)),
)]
pub(crate) async fn complete(
    State(shared): State<Shared>,
    Segments(token): Segments<String>,
    Json(body): Json<CompleteBody>,
) -> Result<Response, Trouble> {
    one(&shared, ResultItem::complete(token, body.output)).await
}

/// Report that a task failed. Answered once it is durable; the same again is 200, another result 409.
#[utoipa::path(
    post, path = "/v1/tasks/{token}/fail", tag = "Agents", operation_id = "failTask",
    params(("token" = String, Path, description = "The token of the lease.")),
    request_body = FailBody,
    responses((status = 200, description = "Durable.", body = AcceptedAnswer)),
)]
pub(crate) async fn fail(
    State(shared): State<Shared>,
    Segments(token): Segments<String>,
    Json(body): Json<FailBody>,
) -> Result<Response, Trouble> {
    one(&shared, ResultItem::fail(token, body)).await
}

/// Extend a lease, and learn whether the task is still wanted.
#[utoipa::path(
    post, path = "/v1/tasks/{token}/heartbeat", tag = "Agents", operation_id = "heartbeatTask",
    params(("token" = String, Path, description = "The token of the lease.")),
    request_body = Option<HeartbeatBody>,
    responses((status = 200, description = "The lease as it stands now.", body = HeartbeatAnswer)),
)]
pub(crate) async fn heartbeat(
    State(shared): State<Shared>,
    Segments(token): Segments<String>,
    OptionalJson(HeartbeatBody { .. }): OptionalJson<HeartbeatBody>,
) -> Result<Response, Trouble> {
    one(&shared, ResultItem::heartbeat(token)).await
}

async fn one(shared: &Shared, item: ResultItem) -> Result<Response, Trouble> {
    let Told::Result(result) = told(item, Stand::Verdict)? else {
        return Err(Trouble::malformed("a task is begun by leasing it"));
    };
    let outcomes = shared.tasks().results(shared.tenant(), vec![result]).await;
    match outcomes.into_iter().next() {
        Some(ResultOutcome::Accepted) => Ok(([(header::CONTENT_TYPE, JSON)], "{}").into_response()),
        Some(ResultOutcome::Alive(heartbeat)) => {
            Ok(answer(StatusCode::OK, &HeartbeatAnswer::from(heartbeat)))
        }
        Some(ResultOutcome::Refused(refusal)) => Err(refusal.into()),
        None => Err(unanswered().into()),
    }
}

/// Bring many results, and take the next tasks, in one round trip.
///
/// Each result is answered on its own, in the order given, with the status of its single request; the answer comes once
/// all are durable. Tasks are leased after that.
#[utoipa::path(
    post, path = "/v1/tasks/results", tag = "Agents", operation_id = "bringResults",
    request_body = ResultsBody,
    responses((status = 200, description = "One answer for each result, and the tasks.", body = ResultsAnswer)),
)]
pub(crate) async fn results(
    State(shared): State<Shared>,
    Json(body): Json<ResultsBody>,
) -> Result<Response, Trouble> {
    if body.results.len() > RESULTS_MAX {
        let detail = format!("bring at most {RESULTS_MAX} results in one request");
        return Err(Trouble::invalid([Fault::at("/results", detail)]));
    }
    // A lease that asks for the impossible is refused before anything is done.
    let lease = body
        .lease
        .map(|lease| shape::lease(lease, "/lease"))
        .transpose()?;
    let mut batch = ResultsAnswer {
        results: bring(&shared, body.results).await,
        tasks: None,
        lease_problem: None,
    };
    if let Some(request) = lease {
        match take(&shared, request).await {
            Ok(tasks) => batch.tasks = Some(tasks),
            Err(trouble) => batch.lease_problem = Some(trouble.into_problem()),
        }
    }
    Ok(answer(StatusCode::OK, &batch))
}

async fn bring(shared: &Shared, items: Vec<ResultItem>) -> Vec<ResultAnswer> {
    let (tasks, tenant) = (shared.tasks(), shared.tenant());
    let Batch {
        begins,
        results,
        places,
    } = Batch::of(items);
    let begun = if begins.is_empty() {
        Vec::new()
    } else {
        tasks.begin(tenant, begins).await
    };
    let outcomes = if results.is_empty() {
        Vec::new()
    } else {
        tasks.results(tenant, results).await
    };
    places.answers(begun, outcomes)
}
