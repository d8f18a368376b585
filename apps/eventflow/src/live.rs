//! An execution as it goes, on stderr: a moving picture on a terminal, a line per change elsewhere.

use std::{
    collections::HashMap,
    io::{self, IsTerminal},
};

use console::style;
use eventflow_domain::execution::{Status, TaskStatus};
use eventflow_wire::v1::executions::{ExecutionView, TaskView};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::words;

/// Task lines shown at a time: more would not fit on a screen, and then only what moves is shown.
const LINES_MAX: usize = 24;
/// Columns of a task's name.
const NAME_WIDTH: usize = 24;

/// Shows views of one execution, one after the other.
pub(crate) enum Live {
    /// On a terminal.
    Picture(Box<Picture>),
    /// In a file or pipe.
    Lines(Lines),
    /// For programs: nothing.
    Silent,
}

/// A task within its execution.
type Key = (String, Vec<u32>);

impl Live {
    /// A picture where somebody is looking, lines otherwise.
    pub(crate) fn new() -> Self {
        if io::stderr().is_terminal() {
            Self::Picture(Box::new(Picture::new()))
        } else {
            Self::Lines(Lines::default())
        }
    }

    /// Shows the execution as it is now.
    pub(crate) fn show(&mut self, view: &ExecutionView) {
        match self {
            Self::Picture(picture) => picture.show(view),
            Self::Lines(lines) => lines
                .changes(view)
                .iter()
                .for_each(|line| eprintln!("{line}")),
            Self::Silent => {}
        }
    }

    /// Shows how it ended, and leaves that on the screen.
    pub(crate) fn end(mut self, view: &ExecutionView) {
        self.show(view);
        if let Self::Silent = self {
            return;
        }
        if let Self::Picture(picture) = &self {
            picture.bar.finish_and_clear();
        }
        let took = words::between(view.started_at.or(Some(view.created_at)), view.ended_at);
        let took = took.map(words::duration).unwrap_or_default();
        eprintln!(
            "{} {} in {took}",
            view.execution_id,
            words::status(view.status).for_stderr()
        );
        if let Some(problem) = &view.error {
            for line in words::problem(problem) {
                eprintln!("  {line}");
            }
        }
    }
}

/// One line per task, and a bar for all of them.
pub(crate) struct Picture {
    all: MultiProgress,
    bar: ProgressBar,
    lines: HashMap<Key, ProgressBar>,
}

impl Picture {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = all.add(ProgressBar::new(0));
        bar.set_style(style_of("{prefix}  {bar:30.cyan/dim} {pos}/{len}  {msg}"));
        Self {
            all,
            bar,
            lines: HashMap::new(),
        }
    }

    fn show(&mut self, view: &ExecutionView) {
        let shown = worth_a_line(&view.tasks);
        let keys: Vec<Key> = shown.iter().map(|task| key(task)).collect();
        self.lines.retain(|key, line| {
            let stays = keys.contains(key);
            if !stays {
                line.finish_and_clear();
            }
            stays
        });
        for (task, key) in shown.into_iter().zip(keys) {
            let line = self.lines.entry(key).or_insert_with(|| {
                self.all
                    .insert_before(&self.bar, ProgressBar::new_spinner())
            });
            draw(line, task);
        }
        self.bar.set_length(u64::from(view.progress.total));
        self.bar.set_position(u64::from(view.progress.completed));
        let name = &view.workflow.name;
        self.bar.set_prefix(format!(
            "{name} {}",
            words::status(view.status).for_stderr()
        ));
        let so_far = words::between(Some(view.created_at), view.ended_at).unwrap_or_default();
        let mut message = words::duration(so_far);
        if let (Status::Running, Some(end)) = (view.status, view.estimated_completion) {
            let left = end.0.since(words::now()).0;
            message = format!(
                "{message}, about {} left",
                words::duration(std::time::Duration::from_millis(left))
            );
        }
        self.bar.set_message(message);
    }
}

fn draw(line: &ProgressBar, task: &TaskView) {
    let (sign, _) = words::task_status(task.status);
    let template = if task.status == TaskStatus::Running {
        "  {spinner:.cyan} {msg}".to_owned()
    } else {
        format!("  {} {{msg}}", sign.for_stderr())
    };
    line.set_style(style_of(&template));
    line.set_message(describe(task));
    line.tick();
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A task's name, status, attempt, agent and duration in one line.
fn describe(task: &TaskView) -> String {
    let (_, status) = words::task_status(task.status);
    let name = console::truncate_str(&words::task_name(task), NAME_WIDTH, "…").into_owned();
    let mut parts = vec![
        format!("{name:<NAME_WIDTH$}"),
        format!("{:<9}", status.for_stderr()),
    ];
    if task.attempt.0 > 1 {
        let attempt = format!("attempt {}", task.attempt);
        parts.push(style(attempt).yellow().for_stderr().to_string());
    }
    parts.extend(task.agent.as_ref().map(ToString::to_string));
    let took = words::task_duration(task);
    if !took.is_empty() {
        parts.push(style(took).dim().for_stderr().to_string());
    }
    if let Some(error) = &task.error {
        let detail = error.detail.as_deref().or(error.title.as_deref());
        parts.push(
            style(detail.unwrap_or_default())
                .red()
                .for_stderr()
                .to_string(),
        );
    }
    parts.join("  ")
}

/// All tasks where they fit, otherwise those that move or went wrong.
fn worth_a_line(tasks: &[TaskView]) -> Vec<&TaskView> {
    if tasks.len() <= LINES_MAX {
        return tasks.iter().collect();
    }
    let moving = tasks.iter().filter(|task| {
        matches!(
            task.status,
            TaskStatus::Running | TaskStatus::Waiting | TaskStatus::Faulted
        )
    });
    moving.take(LINES_MAX).collect()
}

fn key(task: &TaskView) -> Key {
    (task.reference.to_string(), task.iteration.clone())
}

/// Remembers what was said, so that only changes are.
#[derive(Default)]
pub(crate) struct Lines {
    execution: Option<Status>,
    tasks: HashMap<Key, (TaskStatus, u32)>,
}

impl Lines {
    /// A line for each task that changed, and one for the execution.
    fn changes(&mut self, view: &ExecutionView) -> Vec<String> {
        let mut lines = Vec::new();
        if self.execution.is_none() {
            let workflow = &view.workflow;
            lines.push(format!(
                "{} is {}/{}:{}",
                view.execution_id, workflow.namespace, workflow.name, workflow.version
            ));
        }
        for task in &view.tasks {
            let state = (task.status, task.attempt.0);
            let before = self.tasks.insert(key(task), state);
            let untouched = before.is_none() && task.status == TaskStatus::Pending;
            if before != Some(state) && !untouched {
                lines.push(format!("  {}", describe(task)));
            }
        }
        if self.execution.replace(view.status) != Some(view.status) {
            let progress = view.progress;
            lines.push(format!(
                "{} ({} of {} tasks)",
                view.status.as_str(),
                progress.completed,
                progress.total
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(status: &str, tasks: &[(&str, &str, u32)]) -> ExecutionView {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|(name, status, attempt)| {
                serde_json::json!({
                    "reference": format!("/do/0/{name}"), "name": name, "status": status,
                    "attempt": attempt, "agent": "worker-1", "scheduledAt": null,
                    "startedAt": "2026-03-01T09:30:00.000Z", "endedAt": "2026-03-01T09:30:01.500Z",
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "executionId": "e1", "tenant": "default", "correlationId": null, "status": status,
            "workflow": {"namespace": "default", "name": "order", "version": "1.0.0", "digest": "0".repeat(64)},
            "input": null, "output": null, "error": null, "createdAt": "2026-03-01T09:30:00.000Z",
            "startedAt": null, "endedAt": null, "estimatedCompletion": null,
            "progress": {"completed": 1, "running": 1, "pending": 0, "total": 2}, "tasks": tasks,
        }))
        .unwrap()
    }

    #[test]
    fn only_changes_are_lines() {
        let mut lines = Lines::default();
        let first = lines.changes(&view(
            "running",
            &[("a", "running", 1), ("b", "pending", 0)],
        ));
        assert_eq!(first.len(), 3, "{first:?}");
        assert_eq!(first[0], "e1 is default/order:1.0.0");
        assert!(
            first[1].contains("worker-1") && first[1].contains("1.5 s"),
            "{first:?}"
        );
        assert_eq!(first[2], "running (1 of 2 tasks)");
        let same = lines.changes(&view(
            "running",
            &[("a", "running", 1), ("b", "pending", 0)],
        ));
        assert!(same.is_empty());
        let retried = lines.changes(&view(
            "running",
            &[("a", "running", 2), ("b", "pending", 0)],
        ));
        assert!(
            retried.len() == 1 && retried[0].contains("attempt 2"),
            "{retried:?}"
        );
    }

    #[test]
    fn of_many_tasks_only_those_that_move_have_a_line() {
        let mut tasks = vec![("t", "completed", 1); LINES_MAX];
        assert_eq!(
            worth_a_line(&view("running", &tasks).tasks).len(),
            LINES_MAX
        );
        tasks.push(("slow", "running", 1));
        tasks.push(("bad", "faulted", 1));
        assert_eq!(worth_a_line(&view("running", &tasks).tasks).len(), 2);
    }
}
