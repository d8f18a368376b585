//! What is compared with the journal from outside: what was acknowledged, and the view.

use eventflow_checker::{Evidence, Invariant, Row, View};
use eventflow_domain::{
    Attempt, ExecutionId, Json, Position, Tenant, Timestamp,
    execution::{Event, Execution, Status},
};
use serde_json::json;

use crate::support::{Check, History, check, clean, finds, golden};

fn told(evidence: &serde_json::Value) -> Evidence {
    serde_json::from_value(evidence.clone()).unwrap()
}

fn checked(history: &History, evidence: &serde_json::Value) -> eventflow_checker::Report {
    let mut check = Check::with(&[history]);
    check.evidence.push(told(evidence));
    check.histories(&[history])
}

/// The folded state after so many events.
fn state(history: &History, events: usize) -> Execution {
    let events: Vec<(Event, Timestamp)> = history.events[..events]
        .iter()
        .map(|(_, event, at)| (event.read().unwrap(), *at))
        .collect();
    let events = events.iter().map(|(event, at)| (event, *at));
    Execution::fold(history.tenant.clone(), history.execution.clone(), events).unwrap()
}

fn row(history: &History, events: usize) -> Row {
    let state = state(history, events);
    Row {
        tenant: history.tenant.clone(),
        execution: history.execution.clone(),
        status: state.status,
        state: Ok(state),
    }
}

#[test]
fn i1_an_acknowledged_start_is_there_and_ends_as_it_should() {
    let history = golden("sequence-completed");
    let start =
        |id: &str, status: Option<&str>| json!({"start": {"executionId": id, "status": status}});
    clean(&checked(&history, &start("execution-1", None)));
    clean(&checked(&history, &start("execution-1", Some("completed"))));
    let wrong = checked(&history, &start("execution-1", Some("faulted")));
    finds(
        &wrong,
        Invariant::I1,
        "it ended completed, where faulted was to be expected",
    );
    let missing = checked(&history, &start("execution-2", None));
    finds(
        &missing,
        Invariant::I1,
        "its start was acknowledged, and no record has it",
    );
    let mut open = history;
    open.events.truncate(5);
    clean(&checked(&open, &start("execution-1", None)));
    let unended = checked(&open, &start("execution-1", Some("completed")));
    finds(&unended, Invariant::I1, "it has not ended completed");
}

#[test]
fn i4_an_accepted_result_stands() {
    let history = golden("task-retried");
    let result = |attempt: u32, by: &str| {
        json!({"result": {"executionId": "execution-1", "task": "/do/0/charge", "attempt": attempt,
                          "output": {"attempt": 4, "by": by}}})
    };
    clean(&checked(&history, &result(4, "charge")));
    let other = checked(&history, &result(4, "somebody"));
    finds(
        &other,
        Invariant::I4,
        "was accepted, but another one stands",
    );
    let earlier = checked(&history, &result(3, "charge"));
    finds(
        &earlier,
        Invariant::I4,
        "was accepted, and no record has it",
    );
}

#[test]
fn i10_an_acknowledged_order_is_there() {
    let history = golden("sequence-completed");
    let paused = json!({"control": {"executionId": "execution-1", "order": "pause", "at": 1_700_000_000_030_i64}});
    finds(
        &checked(&history, &paused),
        Invariant::I10,
        "a pause was acknowledged at 1700000000030",
    );
}

#[test]
fn evidence_is_written_as_it_is_read() {
    let evidence = Evidence::Result {
        tenant: Tenant::default_tenant(),
        execution_id: ExecutionId::parse("e-1").unwrap(),
        task: "/do/0/a".into(),
        attempt: Some(Attempt(2)),
        output: Json::of(&json!({"n": 1})),
    };
    let written = serde_json::to_value(&evidence).unwrap();
    assert_eq!(
        written,
        json!({"result": {"tenant": "default", "executionId": "e-1", "task": "/do/0/a", "attempt": 2, "output": {"n": 1}}})
    );
    assert_eq!(told(&written), evidence);
}

/// A view at this position with this row of an execution that goes on.
fn with_open_row(history: &History, row: Row, replay_after: u64) -> eventflow_checker::Report {
    let mut check = Check::with(&[history]);
    check.view = Some(View {
        through: Position(replay_after),
        replay_after: Position(replay_after),
        rows: 1,
        open: vec![row],
    });
    check.histories(&[history])
}

/// A view that has come to the end, with this row of the execution that has ended.
fn with_ended_row(history: &History, row: Option<Row>) -> eventflow_checker::Report {
    let mut check = Check::with(&[history]);
    check.view = Some(View {
        through: Position(99),
        replay_after: Position(99),
        rows: u64::from(row.is_some()),
        open: Vec::new(),
    });
    check
        .beside
        .ended
        .extend(row.map(|row| (row.execution.clone(), row)));
    check.histories(&[history])
}

#[test]
fn i11_a_view_that_equals_its_journal_is_clean() {
    for history in crate::support::goldens() {
        let length = history.events.len();
        clean(&with_ended_row(history, Some(row(history, length))));
        let mut open = history.clone();
        open.events.truncate(length - 1);
        for stands_at in 1..length {
            println!("{} at event {stands_at}", history.name);
            clean(&with_open_row(&open, row(&open, stands_at), 1));
        }
    }
}

#[test]
fn i11_a_row_that_differs_is_found_with_its_place() {
    let history = golden("sequence-completed");
    let mut other = row(&history, 10);
    if let Ok(state) = &mut other.state {
        state.activations += 1;
    }
    finds(
        &with_ended_row(&history, Some(other)),
        Invariant::I11,
        "differs from the journal at /activations",
    );
    let older = row(&history, 9);
    finds(
        &with_ended_row(&history, Some(older)),
        Invariant::I11,
        "stands at event 9, the journal at 10",
    );
    let mut listed = row(&history, 10);
    listed.status = Status::Running;
    finds(
        &with_ended_row(&history, Some(listed)),
        Invariant::I11,
        "lists it as running, the journal says completed",
    );
    let mut damaged = row(&history, 10);
    damaged.state = Err("it is too short".into());
    finds(
        &with_ended_row(&history, Some(damaged)),
        Invariant::I11,
        "cannot be read: it is too short",
    );
    finds(
        &with_ended_row(&history, None),
        Invariant::I11,
        "but has no row of it",
    );
}

#[test]
fn i11_a_row_that_the_journal_does_not_know_is_found() {
    let history = golden("sequence-completed");
    let mut foreign = row(&history, 5);
    foreign.execution = ExecutionId::parse("execution-2").unwrap();
    let report = with_open_row(&history, foreign, 1);
    finds(
        &report,
        Invariant::I11,
        "the view has a row of default/execution-2 at event 5, which the journal has not",
    );
}

/// Events before the view's replay position that are not in its row would be missing after a restart.
#[test]
fn i11_a_recovery_that_would_miss_events_is_found() {
    let mut open = golden("sequence-completed");
    open.events.truncate(8);
    let records = 1 + 3;
    clean(&with_open_row(&open, row(&open, 8), records));
    let report = with_open_row(&open, row(&open, 3), records);
    finds(
        &report,
        Invariant::I11,
        "a recovery would miss events of it",
    );
    clean(&check(&open));
}
