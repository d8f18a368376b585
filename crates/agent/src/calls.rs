//! The agent protocol: what is asked, and what an answer means for whoever asked.

use std::time::Duration;

use eventflow_domain::{AgentName, Capability, DurationMs};
use eventflow_wire::v1::{
    Problem, Span,
    tasks::{LeaseAnswer, LeaseBody, LeasedTask, ResultItem, ResultsAnswer, ResultsBody},
};
use serde::de::DeserializeOwned;

use crate::{
    Server,
    server::{Answer, Call},
};

/// How much longer than the service's own waiting a lease may take, before the connection counts as broken.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Why a request was not answered as hoped: one variant per decision of the agent.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// Maybe done; the same again, later.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// Never: the request itself is wrong.
    Never(Box<Problem>),
}

/// Who asks for what, the same in every lease.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) agent: AgentName,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) lease: Duration,
}

impl Asking {
    pub(crate) fn body(&self, max: usize, wait: Option<Duration>) -> LeaseBody {
        LeaseBody {
            agent: self.agent.clone(),
            capabilities: self.capabilities.clone(),
            max,
            wait: wait.map(span),
            lease_for: Some(span(self.lease)),
        }
    }
}

pub(crate) async fn lease(
    server: &Server,
    asking: &Asking,
    max: usize,
    wait: Duration,
) -> Result<Vec<LeasedTask>, Refused> {
    let call = Call::post("/v1/tasks/lease")
        .json(&asking.body(max, Some(wait)))
        .within(wait + LEASE_MARGIN);
    let answer: LeaseAnswer = expect(server, call).await?;
    Ok(answer.tasks)
}

pub(crate) async fn results(server: &Server, body: &ResultsBody) -> Result<ResultsAnswer, Refused> {
    let call = Call::post("/v1/tasks/results").json(body);
    let answer: ResultsAnswer = expect(server, call).await?;
    if answer.results.len() != body.results.len() {
        return Err(Refused::Later {
            why: format!(
                "{} results were answered by {}: is this EventFlow?",
                body.results.len(),
                answer.results.len()
            ),
            after: None,
        });
    }
    Ok(answer)
}

/// Brings one result by its own request: `200`, or the problem with its status.
pub(crate) async fn result(server: &Server, item: &ResultItem) -> Result<Settled, Refused> {
    let token = &item.token;
    let call = if let Some(complete) = &item.complete {
        Call::post(format!("/v1/tasks/{token}/complete")).json(complete)
    } else {
        Call::post(format!("/v1/tasks/{token}/fail")).json(&item.fail)
    };
    let answer = ask(server, call).await?;
    if answer.is_success() {
        return Ok(Settled::Accepted);
    }
    Settled::refused(answer.status, || answer.problem(), answer.retry_after())
}

/// What became of a result.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Durable.
    Accepted,
    /// Nobody wants it any more (404, 409): the attempt was stopped, superseded or ended in another way.
    Unwanted(Problem),
}

impl Settled {
    /// Sorts the status of a result that was not accepted.
    pub(crate) fn refused(
        status: u16,
        problem: impl FnOnce() -> Problem,
        after: Option<Duration>,
    ) -> Result<Self, Refused> {
        match status {
            404 | 409 => Ok(Self::Unwanted(problem())),
            400 | 413 | 415 | 422 => Err(Refused::Never(Box::new(problem()))),
            _ => Err(Refused::Later {
                why: said(&problem()),
                after,
            }),
        }
    }
}

/// A problem in one line.
pub(crate) fn said(problem: &Problem) -> String {
    let title = problem.title.as_deref().unwrap_or("refused");
    match &problem.detail {
        Some(detail) => format!("{} {title}: {detail}", problem.status),
        None => format!("{} {title}", problem.status),
    }
}

async fn ask(server: &Server, call: Call) -> Result<Answer, Refused> {
    server
        .send(call)
        .await
        .map_err(|unreachable| Refused::Later {
            why: unreachable.to_string(),
            after: None,
        })
}

async fn expect<T: DeserializeOwned>(server: &Server, call: Call) -> Result<T, Refused> {
    let answer = ask(server, call).await?;
    match answer.status {
        200 => answer.json().map_err(|error| Refused::Later {
            why: format!("the answer of {} cannot be read: {error}", server.url()),
            after: None,
        }),
        408 | 425 | 429 | 500.. => Err(Refused::Later {
            why: said(&answer.problem()),
            after: answer.retry_after(),
        }),
        _ => Err(Refused::Never(Box::new(answer.problem()))),
    }
}

fn span(duration: Duration) -> Span {
    DurationMs(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).into()
}
