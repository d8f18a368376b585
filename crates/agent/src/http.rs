//! The agent protocol over HTTP: leases, results in batches and one by one.

use std::time::Duration;

use eventflow_wire::v1::tasks::{LeaseAnswer, LeasedTask, ResultItem, ResultsAnswer, ResultsBody};
use serde::de::DeserializeOwned;

use crate::{
    Server,
    calls::{Asking, Refused, Settled},
    server::{Answer, Call},
};

/// How much longer than the service's own waiting a lease may take, before the connection counts as broken.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

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
    expect(server, Call::post("/v1/tasks/results").json(body)).await
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

async fn ask(server: &Server, call: Call) -> Result<Answer, Refused> {
    server
        .send(call)
        .await
        .map_err(|error| Refused::unheard(error.to_string()))
}

async fn expect<T: DeserializeOwned>(server: &Server, call: Call) -> Result<T, Refused> {
    let answer = ask(server, call).await?;
    match answer.status {
        200 => answer.json().map_err(|error| {
            let url = server.url();
            Refused::unheard(format!("the answer of {url} cannot be read: {error}"))
        }),
        _ => Err(Refused::by(answer.problem(), answer.retry_after())),
    }
}
