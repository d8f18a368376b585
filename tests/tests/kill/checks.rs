//! What must be so at the end.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use eventflow_tests::Client;
use serde_json::{Value, json};

use crate::{
    load::{Acknowledged, Ordered},
    workflows::Workflow,
};

/// What the checker must find in the journal.
pub(crate) fn evidence(
    acknowledged: &[Acknowledged],
    results: &[Value],
    orders: &[Ordered],
) -> Vec<Value> {
    let starts = acknowledged
        .iter()
        .map(|start| json!({"start": {"executionId": start.id, "status": status(start)}}));
    let results = results.iter().map(|result| json!({ "result": result }));
    let orders = orders.iter().map(|ordered| {
        let Ordered { id, order, at_ms } = ordered;
        json!({"control": {"executionId": id, "order": order, "at": at_ms}})
    });
    starts.chain(results).chain(orders).collect()
}

fn status(start: &Acknowledged) -> &'static str {
    if start.is_stopped {
        "cancelled"
    } else {
        "completed"
    }
}

/// How many executions had been acknowledged and had not ended at some time.
pub(crate) fn open_at(
    at_ms: u64,
    acknowledged: &[Acknowledged],
    ended: &HashMap<String, Value>,
) -> usize {
    let is_open = |start: &&Acknowledged| {
        start.at_ms <= at_ms
            && ended[&start.id]["endedAt"]
                .as_str()
                .and_then(|end| end.parse::<jiff::Timestamp>().ok())
                .is_some_and(|end| end.as_millisecond() >= i64::try_from(at_ms).unwrap_or(i64::MAX))
    };
    acknowledged.iter().filter(is_open).count()
}

/// It ended as it must, with the right output.
pub(crate) fn end(view: &Value, start: &Acknowledged) -> anyhow::Result<()> {
    ensure!(
        view["status"] == status(start),
        "it ended {}",
        view["status"]
    );
    let is_right = Workflow::named(start.workflow).is_right;
    ensure!(
        start.is_stopped || is_right(&view["output"]),
        "its output is wrong"
    );
    Ok(())
}

/// No gap, one end, and nothing before what it needs.
pub(crate) async fn history(client: &Client, start: &Acknowledged) -> anyhow::Result<()> {
    let (id, workflow) = (&start.id, start.workflow);
    let events = client.history(id).await?;
    let mut completed = Vec::new();
    for (place, event) in events.iter().enumerate() {
        ensure!(event["sequence"] == place + 1, "a gap before {event}");
        let before = &events[place.saturating_sub(1)];
        // RFC 3339 in UTC with milliseconds sorts as text.
        ensure!(
            before["time"].as_str() <= event["time"].as_str(),
            "{event} is earlier than the event before"
        );
        let task = event["data"]["task"].as_str().unwrap_or_default();
        match event["type"].as_str() {
            Some("task_completed") => {
                // What is tried again completes again.
                let is_tried = task.contains("/try/");
                ensure!(
                    is_tried || !completed.contains(&task),
                    "{task} completed twice"
                );
                completed.push(task);
            }
            Some("task_scheduled" | "task_started") => {
                let needs = Workflow::named(workflow).needs.iter();
                let needs = needs.filter(|(needing, _)| *needing == task);
                for need in needs.flat_map(|(_, needs)| *needs) {
                    ensure!(
                        completed.contains(need),
                        "{task} came before {need} had completed"
                    );
                }
            }
            _ => {}
        }
    }
    let ends = events
        .iter()
        .filter(|event| {
            let kind = event["type"].as_str();
            matches!(kind, Some("execution_completed" | "execution_cancelled"))
        })
        .count();
    ensure!(ends == 1, "it ended {ends} times");
    Ok(())
}

/// The same start again is the same execution.
pub(crate) async fn repeat(
    client: &Client,
    start: &Acknowledged,
    view: &Value,
) -> anyhow::Result<()> {
    let body = Acknowledged::body(&start.id, start.workflow);
    let (status, answer) = client.post("/v1/executions", &body).await?;
    ensure!(
        status == 202 && answer["createdAt"] == view["createdAt"],
        "{} was started again: {status} {answer}",
        start.id
    );
    Ok(())
}

/// A result that was acknowledged is the task's output.
pub(crate) fn result(ended: &HashMap<String, Value>, result: &Value) -> anyhow::Result<()> {
    let id = result["executionId"]
        .as_str()
        .context("a result has an execution")?;
    let view = ended.get(id).context("nobody started it")?;
    // Of what was tried again the view shows the last; the checker looks for the others.
    if result["task"]
        .as_str()
        .is_some_and(|task| task.contains("/try/"))
    {
        return Ok(());
    }
    let tasks = view["tasks"].as_array().context("a view has tasks")?;
    let task = tasks
        .iter()
        .find(|task| task["reference"] == result["task"])
        .context("the task is there")?;
    ensure!(
        task["output"] == result["output"],
        "{id}: {result} was acknowledged, but there is {task}"
    );
    Ok(())
}
