//! The fake's HTTP face.

use std::time::{Duration, Instant};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use eventflow_wire::v1::tasks::{
    CompleteBody, FailBody, LeaseAnswer, LeaseBody, LeasedTask, ResultItem, ResultsAnswer,
    ResultsBody,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::{Fake, problem};

/// Starts to listen; gives the URL.
pub(super) async fn serve(fake: Fake) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/v1/tasks/lease", post(lease))
        .route("/v1/tasks/results", post(results))
        .route("/v1/tasks/{token}/complete", post(complete))
        .route("/v1/tasks/{token}/fail", post(fail))
        .with_state(fake);
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

impl Fake {
    async fn take(&self, max: usize, wait: Duration) -> Vec<LeasedTask> {
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            let taken: Vec<_> = {
                let mut book = self.book();
                let count = max.min(book.queue.len());
                book.queue.drain(..count).collect()
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if !taken.is_empty() || left.is_zero() {
                return taken;
            }
            let _ = tokio::time::timeout(left, changed).await;
        }
    }
}

fn refused(status: u16) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(problem(status))).into_response()
}

async fn lease(State(fake): State<Fake>, Json(body): Json<LeaseBody>) -> Response {
    let wait = body.wait.map_or(0, |wait| wait.0.0);
    let max = body.max;
    let refuse = {
        let mut book = fake.book();
        book.leases.push(body);
        book.refuse_leases
    };
    if let Some(status) = refuse {
        return refused(status);
    }
    let tasks = fake.take(max, Duration::from_millis(wait)).await;
    Json(LeaseAnswer { tasks }).into_response()
}

async fn results(State(fake): State<Fake>, Json(body): Json<ResultsBody>) -> Response {
    let results = match fake.batch(&body.results) {
        Ok(results) => results,
        Err(status) => return refused(status),
    };
    let tasks = match body.lease {
        Some(lease) => Some(fake.take(lease.max, Duration::ZERO).await),
        None => None,
    };
    let answer = ResultsAnswer {
        results,
        tasks,
        lease_problem: None,
    };
    Json(answer).into_response()
}

async fn complete(
    State(fake): State<Fake>,
    Path(token): Path<String>,
    Json(body): Json<CompleteBody>,
) -> Response {
    single(&fake, &ResultItem::complete(token, body.output))
}

async fn fail(
    State(fake): State<Fake>,
    Path(token): Path<String>,
    Json(body): Json<FailBody>,
) -> Response {
    single(&fake, &ResultItem::fail(token, body))
}

fn single(fake: &Fake, item: &ResultItem) -> Response {
    match fake.single(item).map(|answer| answer.status) {
        Ok(200) => Json(json!({})).into_response(),
        Ok(status) | Err(status) => refused(status),
    }
}
