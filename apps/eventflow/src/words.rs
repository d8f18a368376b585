//! Statuses, durations and times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use console::{Style, StyledObject, style};
use eventflow_domain::{
    Timestamp,
    execution::{Status, TaskStatus},
};
use eventflow_wire::v1::{Problem, Time, executions::TaskView};

use crate::Outcome;

/// `12 ms`, `1.2 s`, `3 min 4 s`, `2 h 3 min`.
pub(crate) fn duration(span: Duration) -> String {
    let (ms, seconds) = (span.as_millis(), span.as_secs());
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// From one time to another, or to now.
pub(crate) fn between(start: Option<Time>, end: Option<Time>) -> Option<Duration> {
    let end = end.map_or_else(now, |end| end.0);
    start.map(|start| Duration::from_millis(end.since(start.0).0))
}

/// How long a task took, or has taken so far.
pub(crate) fn task_duration(task: &TaskView) -> String {
    between(task.started_at.or(task.scheduled_at), task.ended_at)
        .map(duration)
        .unwrap_or_default()
}

pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// An execution's status in its colour.
pub(crate) fn status(status: Status) -> StyledObject<&'static str> {
    let look = match status {
        Status::Completed => Style::new().green(),
        Status::Faulted => Style::new().red().bold(),
        Status::Running => Style::new().cyan(),
        Status::Waiting | Status::Suspending | Status::Suspended => Style::new().yellow(),
        Status::Pending | Status::Cancelled => Style::new().dim(),
    };
    look.apply_to(status.as_str())
}

/// Whether an execution has ended.
pub(crate) fn has_ended(status: Status) -> bool {
    matches!(
        status,
        Status::Completed | Status::Faulted | Status::Cancelled
    )
}

/// Whether an execution that has ended is what its starter hoped for.
pub(crate) fn outcome(status: Status) -> Outcome {
    if status == Status::Completed {
        Outcome::Yes
    } else {
        Outcome::No
    }
}

/// A task's sign and status in their colour.
pub(crate) fn task_status(
    status: TaskStatus,
) -> (StyledObject<&'static str>, StyledObject<&'static str>) {
    let (sign, look) = match status {
        TaskStatus::Completed => ("✓", Style::new().green()),
        TaskStatus::Faulted => ("✗", Style::new().red().bold()),
        TaskStatus::Running => ("▸", Style::new().cyan()),
        TaskStatus::Waiting => ("◷", Style::new().yellow()),
        TaskStatus::Suspended => ("‖", Style::new().yellow()),
        TaskStatus::Pending => ("·", Style::new().dim()),
        TaskStatus::Skipped => ("○", Style::new().dim()),
        TaskStatus::Cancelled => ("■", Style::new().dim()),
    };
    (look.clone().apply_to(sign), look.apply_to(status.as_str()))
}

/// A task's name with the indices of the loops around it: `charge[2]`.
pub(crate) fn task_name(task: &TaskView) -> String {
    let indices = task.iteration.iter().map(|index| format!("[{index}]"));
    format!("{}{}", task.name, indices.collect::<String>())
}

/// An error as lines: what, why and where.
pub(crate) fn problem(problem: &Problem) -> Vec<String> {
    let title = problem.title.as_deref().unwrap_or("Fault");
    let mut lines = vec![format!(
        "{} ({})",
        style(title).red().bold(),
        problem.status
    )];
    lines.extend(problem.detail.clone());
    lines.push(format!("type {}", problem.kind));
    lines.extend(
        problem
            .instance
            .as_ref()
            .map(|instance| format!("task {instance}")),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (59_900, "59.9 s"),
            (184_000, "3 min 4 s"),
            (7_380_000, "2 h 3 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
