//! `eventflow show ID`: one execution, whole.

use std::fmt::Write as _;

use console::style;
use eventflow_wire::v1::executions::{ExecutionView, TaskView};

use crate::{
    Common, Outcome,
    output::{self, Format},
    service::Service,
    words,
};

/// `eventflow show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The execution's id
    id: String,
}

impl Show {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let view = Service::new(common)?.execution(&self.id).await?;
        match common.output {
            Format::Json => output::json(&view)?,
            Format::Text => output::line(describe(&view).trim_end())?,
        }
        Ok(Outcome::Yes)
    }
}

/// The execution as people read it.
fn describe(view: &ExecutionView) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let workflow = &view.workflow;
    let took = words::between(view.started_at, view.ended_at).map(words::duration);
    say(format!(
        "{}  {}  {}/{}:{}  {}",
        style(&view.execution_id).bold(),
        words::status(view.status),
        workflow.namespace,
        workflow.name,
        workflow.version,
        took.unwrap_or_default()
    ));
    let times = [
        ("created", Some(view.created_at)),
        ("started", view.started_at),
        ("ended", view.ended_at),
    ];
    let times = times
        .iter()
        .filter_map(|(what, time)| time.map(|time| format!("{what} {time}")));
    say(format!("  {}", times.collect::<Vec<_>>().join("  ")));
    if let Some(end) = view.estimated_completion {
        say(format!("  probably done {end}"));
    }
    if let Some(parent) = view.correlation_id.as_ref() {
        say(format!("  correlation {parent}"));
    }
    if !view.labels.is_empty() {
        let labels = view
            .labels
            .iter()
            .map(|(key, value)| format!("{key}:{value}"));
        say(format!(
            "  labels {}",
            labels.collect::<Vec<_>>().join("  ")
        ));
    }
    let progress = view.progress;
    say(format!(
        "  {} of {} tasks completed, {} running, {} pending",
        progress.completed, progress.total, progress.running, progress.pending
    ));
    if let Some(problem) = &view.error {
        for line in words::problem(problem) {
            say(format!("  {line}"));
        }
    }
    say(String::new());
    tasks(&view.tasks).into_iter().for_each(&mut say);
    say(format!("{} {}", style("input ").dim(), view.input.as_str()));
    if let Some(output) = &view.output {
        say(format!("{} {}", style("output").dim(), output.as_str()));
    }
    text
}

fn tasks(tasks: &[TaskView]) -> Vec<String> {
    let width = |of: fn(&TaskView) -> usize| tasks.iter().map(of).max().unwrap_or_default();
    let names = width(|task| words::task_name(task).chars().count());
    let statuses = width(|task| task.status.as_str().len());
    let mut lines: Vec<String> = tasks
        .iter()
        .map(|task| {
            let (sign, status) = words::task_status(task.status);
            let mut line = format!(
                "  {sign} {:<names$}  {status:<statuses$}",
                words::task_name(task)
            );
            if task.attempt.0 > 0 {
                let _ = write!(line, "  attempt {}", task.attempt);
            }
            if let Some(agent) = &task.agent {
                let _ = write!(line, "  {agent}");
            }
            let _ = write!(
                line,
                "  {}  {}",
                words::task_duration(task),
                style(&task.reference).dim()
            );
            if let Some(error) = &task.error {
                let detail = error.detail.as_deref().or(error.title.as_deref());
                let _ = write!(line, "\n      {}", style(detail.unwrap_or_default()).red());
            }
            line
        })
        .collect();
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_reads_from_its_status_to_its_output() {
        let view: ExecutionView = serde_json::from_value(serde_json::json!({
            "executionId": "order-17", "tenant": "default", "correlationId": "c-1", "status": "completed",
            "workflow": {"namespace": "shop", "name": "order", "version": "1.0.0", "digest": "0".repeat(64)},
            "labels": {"team": "a"}, "input": {"total": 5}, "output": {"paid": true}, "error": null,
            "createdAt": "2026-03-01T09:30:00.000Z", "startedAt": "2026-03-01T09:30:00.000Z",
            "endedAt": "2026-03-01T09:30:01.500Z", "estimatedCompletion": null,
            "progress": {"completed": 1, "running": 0, "pending": 0, "total": 1},
            "tasks": [{"reference": "/do/0/charge", "name": "charge", "status": "completed", "attempt": 2,
                       "agent": "worker-1", "scheduledAt": "2026-03-01T09:30:00.000Z",
                       "startedAt": "2026-03-01T09:30:00.100Z", "endedAt": "2026-03-01T09:30:01.500Z"}],
        }))
        .unwrap();
        let text = console::strip_ansi_codes(&describe(&view)).into_owned();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "order-17  completed  shop/order:1.0.0  1.5 s");
        assert!(
            text.contains("  ✓ charge  completed  attempt 2  worker-1  1.4 s  /do/0/charge"),
            "{text}"
        );
        assert!(text.contains("labels team:a"));
        assert_eq!(lines[lines.len() - 1], "output {\"paid\":true}");
    }
}
