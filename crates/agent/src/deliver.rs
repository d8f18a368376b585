//! Bringing results one by one, again and again until the service has them or does not want them.

use eventflow_wire::v1::{Problem, tasks::ResultItem};

use crate::{
    Failure,
    backoff::Backoff,
    calls::{Refused, Settled, said},
    running::{Report, Running},
};

/// Single results on their way at a time: enough to keep a group commit full, few enough sockets for any machine.
pub(crate) const CONNECTIONS: usize = 128;

/// Delivers one result, then leaves its slot free.
pub(crate) async fn singly(running: &Running, report: Report) {
    let Report {
        mut item,
        mut node,
        slot,
        ..
    } = report;
    let mut backoff = Backoff::new();
    while !running.held.is_stopped(&item.token) {
        let delivery = running.deliveries.acquire().await;
        let outcome = running.transport.result(&item, node.as_ref()).await;
        drop(delivery);
        match outcome {
            Ok(settled) => {
                log(&item, &settled);
                break;
            }
            Err(Refused::Never(problem)) => match instead(&item, &problem) {
                Some(failure) => item = failure,
                None => break,
            },
            // Maybe it is gone: any other does as well.
            Err(Refused::Later { why, .. }) if node.is_some() => {
                tracing::debug!(token = %item.token, why, "a node did not take its result");
                node = None;
            }
            Err(Refused::Later { why, after }) => {
                let pause = backoff.pause(after);
                tracing::warn!(token = %item.token, why, ?pause, "a result was not taken, trying again");
                tokio::time::sleep(pause).await;
            }
        }
    }
    running.held.release(&item.token);
    drop(slot);
}

pub(crate) fn log(item: &ResultItem, settled: &Settled) {
    if let Settled::Unwanted(problem) = settled {
        tracing::info!(token = %item.token, problem = said(problem), "a result was not wanted any more");
    }
}

/// What is said where the service can never take a result: that the attempt failed, and why. `None` where it cannot
/// take the failure either: then the lease expires.
pub(crate) fn instead(item: &ResultItem, problem: &Problem) -> Option<ResultItem> {
    let problem = said(problem);
    if item.complete.is_none() {
        tracing::error!(token = %item.token, problem, "a failure was refused");
        return None;
    }
    tracing::error!(token = %item.token, problem, "an output was refused");
    let failure = Failure::permanent(format!("the service refused the output: {problem}"))
        .titled("Unusable output");
    Some(ResultItem::fail(item.token.clone(), failure.into_body()))
}
