//! `fixtures/transitions.md`, the table of all transitions, is produced here and compared with what is committed.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use eventflow_domain::execution::{Event, Status, TaskStatus};

use crate::{
    scenarios::SCENARIOS,
    situations::{Plans, orders, situations},
    support::{Refused, Run, Seen, run::fold, task_of},
};

const UPDATE: &str =
    "EVENTFLOW_UPDATE_TRANSITIONS=1 cargo nextest run -p eventflow-domain transitions";

/// Every kind of event, in the order of an execution's life.
const KINDS: [&str; 24] = [
    "execution_requested",
    "execution_started",
    "sequence_entered",
    "fork_entered",
    "wait_started",
    "task_scheduled",
    "task_started",
    "retry_scheduled",
    "timer_fired",
    "error_caught",
    "branch_selected",
    "task_completed",
    "task_faulted",
    "task_timed_out",
    "task_skipped",
    "task_cancelled",
    "execution_pause_requested",
    "execution_suspended",
    "execution_resumed",
    "execution_stop_requested",
    "execution_cancelled",
    "execution_completed",
    "execution_faulted",
    "execution_timed_out",
];

#[test]
fn the_table_of_transitions_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/transitions.md");
    let table = table();
    if std::env::var_os("EVENTFLOW_UPDATE_TRANSITIONS").is_some() {
        fs::write(&path, &table).expect("fixtures/transitions.md is written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = table
        .lines()
        .zip(committed.lines())
        .find(|(new, old)| new != old);
    assert!(
        table == committed,
        "fixtures/transitions.md differs from what the domain does, first at {differs:?}; if that is meant, run\n{UPDATE}\nand \
         review the difference"
    );
}

fn table() -> String {
    let mut text = format!(
        "# Transitions\n\nProduced by the domain's tests, never edited: `{UPDATE}`.\n\n\
         ## Orders for an attempt and for its execution\n\n\
         A task `charge` that worker-1 begins, that brings `paid` or fails as `declined`, with one retry in the first \
         situations; what comes of each order for it. *Nothing* is a repeat, or comes too late to matter; a refusal \
         changes nothing.\n"
    );
    let plans = Plans::new();
    for (column, (title, _)) in orders(1).into_iter().enumerate() {
        write!(
            text,
            "\n### {title}\n\n| situation | what happens |\n|---|---|\n"
        )
        .expect("a String takes all");
        for situation in situations(&plans) {
            let (_, order) = orders(situation.attempt).swap_remove(column);
            let mut run = situation.given.run;
            let outcome = match run.order(&order) {
                Ok(events) if events.is_empty() => "*nothing*".to_owned(),
                Ok(events) => said(&run, &events),
                Err(rejection) => format!("refused: {}", refusal(&Refused::of(&rejection))),
            };
            writeln!(text, "| {} | {outcome} |", situation.name).expect("a String takes all");
        }
    }
    text.push_str(&observed());
    text
}

fn said(run: &Run<'_>, events: &[Event]) -> String {
    let said = events
        .iter()
        .map(|event| Seen::of(run.plan, event).as_str().replacen(' ', "(", 1));
    said.map(|text| {
        if text.contains('(') {
            format!("`{text})`")
        } else {
            format!("`{text}`")
        }
    })
    .collect::<Vec<_>>()
    .join(", ")
}

fn refusal(refused: &Refused) -> String {
    match refused {
        Refused::UnknownTask => "no such task".to_owned(),
        Refused::OtherResult => "another result stands".to_owned(),
        Refused::Superseded(reason) => (*reason).to_owned(),
        Refused::NotScheduled => "never handed out".to_owned(),
        Refused::HeldBy(agent) => format!("held by {agent}"),
        Refused::Ended(status) => format!("{} already", status.as_str()),
        Refused::Stopping => "being stopped".to_owned(),
        Refused::Paused => "paused".to_owned(),
    }
}

type Moves = BTreeMap<(&'static str, &'static str), Vec<&'static str>>;

/// What every event does to the status of the execution and of its task, over runs of every shape.
fn observed() -> String {
    let (mut executions, mut tasks): (Moves, Moves) = Default::default();
    let note = |moves: &mut Moves, kind, before, after| {
        let seen = moves.entry((kind, before)).or_default();
        if !seen.contains(&after) {
            seen.push(after);
            seen.sort_unstable();
        }
    };
    for scenario in SCENARIOS {
        let scenario = scenario();
        let plan = scenario.plan();
        let run = scenario.run(&plan);
        note(
            &mut executions,
            KINDS[0],
            "none",
            fold(&run.history[..1]).status.as_str(),
        );
        for length in 2..=run.history.len() {
            let (before, after) = (
                fold(&run.history[..length - 1]),
                fold(&run.history[..length]),
            );
            let kind = run.history[length - 1].0.kind();
            note(
                &mut executions,
                kind,
                before.status.as_str(),
                after.status.as_str(),
            );
            if let Some(task) = task_of(&run.history[length - 1].0) {
                let status = before.tasks.get(task).map(|task| task.status);
                let moved = after.tasks[task].status;
                note(
                    &mut tasks,
                    kind,
                    status.map_or("none", TaskStatus::as_str),
                    moved.as_str(),
                );
            }
        }
    }
    let unseen: Vec<_> = KINDS
        .iter()
        .filter(|kind| !executions.keys().any(|(seen, _)| seen == *kind))
        .collect();
    assert!(unseen.is_empty(), "no scenario brings {unseen:?}: add one");
    let unknown: Vec<_> = executions
        .keys()
        .filter(|(kind, _)| !KINDS.contains(kind))
        .collect();
    assert!(unknown.is_empty(), "add {unknown:?} to the kinds of events");
    let mut text = String::new();
    matrix(
        &mut text,
        "the execution",
        &executions,
        Status::ALL.iter().map(|status| status.as_str()),
    );
    matrix(
        &mut text,
        "a task",
        &tasks,
        TaskStatus::ALL.iter().map(|status| status.as_str()),
    );
    text
}

/// A table of the status after each event, by the status before it; a status that nothing leaves is left out.
fn matrix(
    text: &mut String,
    of: &str,
    moves: &Moves,
    statuses: impl Iterator<Item = &'static str>,
) {
    let used = std::iter::once("none")
        .chain(statuses)
        .filter(|status| moves.keys().any(|(_, before)| before == status));
    let columns: Vec<&str> = used.collect();
    write!(text, "\n## Events and the status of {of}\n\nThe status after an event, by the status before it.\n\n| event |")
        .expect("a String takes all");
    for status in &columns {
        write!(text, " {status} |").expect("a String takes all");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for kind in KINDS
        .iter()
        .filter(|kind| moves.keys().any(|(seen, _)| seen == *kind))
    {
        write!(text, "| {kind} |").expect("a String takes all");
        for status in &columns {
            let after = moves
                .get(&(*kind, *status))
                .map_or_else(String::new, |after| after.join(", "));
            write!(text, " {after} |").expect("a String takes all");
        }
        text.push('\n');
    }
}
