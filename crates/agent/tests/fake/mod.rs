//! A service of the agent protocol in memory: gives out tasks, writes down what agents say, fails on demand.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use eventflow_domain::{Attempt, DurationMs, Timestamp};
use eventflow_wire::v1::{
    Problem, Time,
    tasks::{
        CompleteBody, FailBody, HeartbeatAnswer, LeaseAnswer, LeaseBody, LeasedTask, ResultAnswer,
        ResultItem, ResultsAnswer, ResultsBody,
    },
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

/// What an agent said last of a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Complete(Value),
    Fail(Box<FailBody>),
}

#[derive(Default)]
pub(crate) struct Book {
    queue: VecDeque<LeasedTask>,
    /// Results by token, those that were taken.
    pub(crate) said: HashMap<String, Said>,
    /// Results in all, those that were refused included.
    pub(crate) deliveries: usize,
    /// The largest batch.
    pub(crate) batch_max: usize,
    pub(crate) single_requests: usize,
    pub(crate) leases: Vec<LeaseBody>,
    pub(crate) heartbeats: Vec<(String, Instant, Option<Value>)>,
    /// Tasks that the agent is to stop.
    pub(crate) cancelled: Vec<String>,
    /// So many of the next requests with results are answered so.
    pub(crate) refuse_results: (usize, u16),
    /// Whether those were written down all the same, as when an answer is lost.
    pub(crate) refuse_after_writing: bool,
    /// Leases are answered so.
    pub(crate) refuse_leases: Option<u16>,
    /// Outputs that can never be taken.
    pub(crate) unusable: Option<Value>,
    /// Results of these tokens are answered 409.
    pub(crate) contradicted: Vec<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    book: Arc<Mutex<Book>>,
    changed: Arc<Notify>,
}

impl Fake {
    /// Starts to listen; gives the URL as well.
    pub(crate) async fn start() -> (Self, String) {
        let fake = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/v1/tasks/lease", post(lease))
            .route("/v1/tasks/results", post(results))
            .route("/v1/tasks/{token}/complete", post(complete))
            .route("/v1/tasks/{token}/fail", post(fail))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (fake, url)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Queues tasks of the capability `work`, with tokens from `t0` on and their number as input.
    pub(crate) fn offer(&self, count: usize) {
        let tasks = (0..count).map(|number| task(number, &json!({ "n": number })));
        self.book().queue.extend(tasks);
        self.changed.notify_waiters();
    }

    /// Waits until so many tasks have a result.
    pub(crate) async fn finished(&self, count: usize) {
        self.until(|book| book.said.len() >= count).await;
    }

    /// Waits for something to be so, for half a minute: the machine may be busy.
    pub(crate) async fn until(&self, so: impl Fn(&Book) -> bool) {
        let begun = Instant::now();
        while !so(&self.book()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

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

    /// Whether this request is to be refused, and with what status.
    fn refusal(&self) -> Option<u16> {
        let mut book = self.book();
        let (left, status) = book.refuse_results;
        book.refuse_results.0 = left.saturating_sub(1);
        (left > 0).then_some(status)
    }

    fn note(&self, item: &ResultItem) -> ResultAnswer {
        let mut book = self.book();
        let token = item.token.to_string();
        let mut answer = ResultAnswer {
            token: item.token.clone(),
            status: 200,
            heartbeat: None,
            problem: None,
        };
        if let Some(heartbeat) = &item.heartbeat {
            let progress = heartbeat
                .progress
                .as_ref()
                .map(eventflow_domain::Json::to_value);
            let cancelled = book.cancelled.contains(&token);
            book.heartbeats.push((token, Instant::now(), progress));
            answer.heartbeat = Some(HeartbeatAnswer {
                cancelled,
                lease_until: Time(Timestamp(0)),
            });
            return answer;
        }
        book.deliveries += 1;
        let said = match (&item.complete, &item.fail) {
            (Some(complete), None) => Said::Complete(complete.output.to_value()),
            (None, Some(fail)) => Said::Fail(Box::new(fail.clone())),
            other => panic!("exactly one of complete and fail, not {other:?}"),
        };
        answer.status = if book.contradicted.contains(&token) {
            409
        } else if matches!(&said, Said::Complete(output) if Some(output) == book.unusable.as_ref())
        {
            422
        } else if book.said.get(&token).is_some_and(|before| *before != said) {
            409
        } else {
            book.said.insert(token, said);
            200
        };
        if answer.status != 200 {
            answer.problem = Some(Problem::new(
                answer.status,
                "Refused",
                "as the test wants it",
            ));
        }
        answer
    }
}

fn task(number: usize, input: &Value) -> LeasedTask {
    serde_json::from_value(json!({
        "token": format!("t{number}"),
        "executionId": format!("e{number}"),
        "tenant": "default",
        "workflow": {"namespace": "default", "name": "test", "version": "1.0.0"},
        "task": "/do/0/work",
        "capability": "work",
        "attempt": Attempt(1),
        "input": input,
        "idempotencyKey": format!("e{number}:/do/0/work:1"),
        "deadline": Time(Timestamp(0)),
    }))
    .unwrap()
}

fn refused(status: u16) -> Response {
    let problem = Problem::new(status, "Refused", "as the test wants it");
    (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response()
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
    let of_results = body.results.iter().all(|item| item.heartbeat.is_none());
    let refusal = if of_results { fake.refusal() } else { None };
    if let Some(status) = refusal
        && !fake.book().refuse_after_writing
    {
        return refused(status);
    }
    let results: Vec<_> = body.results.iter().map(|item| fake.note(item)).collect();
    if let Some(status) = refusal {
        return refused(status);
    }
    if of_results {
        let mut book = fake.book();
        book.batch_max = book.batch_max.max(results.len());
    }
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
    fake.book().single_requests += 1;
    let refusal = fake.refusal();
    if let Some(status) = refusal
        && !fake.book().refuse_after_writing
    {
        return refused(status);
    }
    let status = fake.note(item).status;
    match refusal.unwrap_or(status) {
        200 => Json(json!({})).into_response(),
        status => refused(status),
    }
}

/// The default lease, as a span of the protocol.
pub(crate) const MINUTE: DurationMs = DurationMs::from_secs(60);
