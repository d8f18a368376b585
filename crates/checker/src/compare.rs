//! I11 and I12: the state that a journal folds to, beside the view's rows and beside the books.

use std::collections::{BTreeSet, HashMap};

use eventflow_domain::{
    Attempt, ExecutionId, Position, Sequence, TaskReference, Tenant,
    execution::{Event, Execution, Status},
};

use crate::{Invariant, account::Account};

/// The view of one partition, as it was read **before** the journal.
#[derive(Debug, Default)]
pub struct View {
    /// Every record up to here is reflected in its rows.
    pub through: Position,
    /// A recovery replays the records after this one.
    pub replay_after: Position,
    /// How many rows there are.
    pub rows: u64,
    /// The rows of executions that have not ended.
    pub open: Vec<Row>,
}

/// One row of a view.
#[derive(Debug)]
pub struct Row {
    /// Whose it says it is.
    pub tenant: Tenant,
    /// Which execution it says it is.
    pub execution: ExecutionId,
    /// What lists show.
    pub status: Status,
    /// The folded execution in it, or why it cannot be read.
    pub state: Result<Execution, String>,
}

/// A view under comparison.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) through: Position,
    replay_after: Position,
    total: u64,
    open: HashMap<(Tenant, ExecutionId), Row>,
    /// Rows whose execution the journal has.
    pub(crate) matched: u64,
}

impl Rows {
    pub(crate) fn new(view: View) -> Self {
        let keyed = |row: Row| ((row.tenant.clone(), row.execution.clone()), row);
        Self {
            through: view.through,
            replay_after: view.replay_after,
            total: view.rows,
            open: view.open.into_iter().map(keyed).collect(),
            matched: 0,
        }
    }

    /// After the fold of an event: how the open row that stands at this sequence differs, where there is one.
    pub(crate) fn compare_open(
        &mut self,
        key: &(Tenant, ExecutionId),
        fold: &Execution,
    ) -> Option<Vec<String>> {
        // One that cannot be read is told of at once.
        let stands_at = self.open.get(key)?.sequence().unwrap_or_default();
        if stands_at > fold.sequence {
            return None;
        }
        self.matched += 1;
        self.open.remove(key).map(|row| differences(&row, fold))
    }

    /// Leaves out the row of an execution that cannot be judged; whether there was one.
    pub(crate) fn pass_over(&mut self, key: &(Tenant, ExecutionId)) -> bool {
        let had = self.open.remove(key).is_some();
        self.matched += u64::from(had);
        had
    }

    /// Whether a recovery would miss this event: neither replayed nor in the row.
    pub(crate) fn would_be_lost(
        &self,
        key: &(Tenant, ExecutionId),
        sequence: Sequence,
        position: Position,
    ) -> bool {
        let is_in_row = self
            .open
            .get(key)
            .is_some_and(|row| row.sequence().is_none_or(|stands_at| stands_at >= sequence));
        position <= self.replay_after && !is_in_row
    }

    /// Rows of which the journal knows nothing.
    pub(crate) fn left_over(self) -> Vec<String> {
        let mut left: Vec<String> = self
            .open
            .into_values()
            .map(|row| {
                format!(
                    "the view has a row of {}/{} at event {}, which the journal has not",
                    row.tenant,
                    row.execution,
                    row.sequence().unwrap_or_default()
                )
            })
            .collect();
        left.sort();
        let unknown = self.total.saturating_sub(self.matched + left.len() as u64);
        if unknown > 0 {
            left.push(format!(
                "the view has {unknown} more rows than the journal has executions"
            ));
        }
        left
    }
}

impl Row {
    /// At which event it stands.
    fn sequence(&self) -> Option<Sequence> {
        self.state.as_ref().ok().map(|state| state.sequence)
    }

    /// Whether it shows an execution that has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.state.as_ref().is_ok_and(Execution::is_ended)
    }
}

/// How a row differs from what the journal folds to.
pub(crate) fn differences(row: &Row, fold: &Execution) -> Vec<String> {
    let mut differences = Vec::new();
    let state = match &row.state {
        Ok(state) => state,
        Err(fault) => return vec![format!("the view's row cannot be read: {fault}")],
    };
    if state.sequence != fold.sequence {
        differences.push(format!(
            "the view's row stands at event {}, the journal at {}",
            state.sequence, fold.sequence
        ));
    } else if state != fold {
        let place = first_difference(
            &serde_json::to_value(state).unwrap_or_default(),
            &serde_json::to_value(fold).unwrap_or_default(),
        );
        differences.push(format!(
            "the view's row differs from the journal at {place}"
        ));
    }
    let statuses_fit = if fold.is_ended() {
        row.status == fold.status
    } else {
        !row.status.is_ended()
    };
    if !statuses_fit {
        differences.push(format!(
            "the view lists it as {}, the journal says {}",
            row.status.as_str(),
            fold.status.as_str()
        ));
    }
    differences
}

/// The JSON Pointer of the first place where two values differ.
fn first_difference(one: &serde_json::Value, other: &serde_json::Value) -> String {
    use serde_json::Value::{Array, Object};
    match (one, other) {
        (Object(ones), Object(others)) => {
            let names: BTreeSet<_> = ones.keys().chain(others.keys()).collect();
            let differs = names
                .into_iter()
                .find(|name| ones.get(*name) != others.get(*name));
            differs.map_or_else(String::new, |name| {
                let value = |fields: &serde_json::Map<_, _>| fields.get(name).cloned();
                let below = value(ones).unwrap_or_default();
                format!(
                    "/{name}{}",
                    first_difference(&below, &value(others).unwrap_or_default())
                )
            })
        }
        (Array(ones), Array(others)) if ones.len() == others.len() => {
            let differs = ones
                .iter()
                .zip(others)
                .position(|(one, other)| one != other);
            differs.map_or_else(String::new, |place| {
                format!("/{place}{}", first_difference(&ones[place], &others[place]))
            })
        }
        _ => String::new(),
    }
}

/// Folds the next event; begins with the first.
pub(crate) fn fold(
    folded: &mut Option<Execution>,
    key: &(Tenant, ExecutionId),
    event: &Event,
    at: eventflow_domain::Timestamp,
) {
    match (event, folded) {
        (Event::ExecutionRequested(requested), folded @ None) => {
            let (tenant, id) = key.clone();
            *folded = Some(Execution::requested(tenant, id, requested.clone(), at));
        }
        (event, Some(execution)) => execution.evolve(event, at),
        (_, None) => {}
    }
}

/// What an open execution owes by its state and by the books, where they differ (I12): an attempt that nobody will ever
/// be given, or one too many.
pub(crate) fn cause_differs(account: &Account, fold: &Execution) -> Vec<(Invariant, String)> {
    let mut differences = Vec::new();
    // What is being stopped ends by itself.
    if fold.next_deadline().is_none() && !fold.is_stopping {
        let detail = "it is open, and no time is set at which anything will happen to it";
        differences.push((Invariant::I12, detail.to_owned()));
    }
    let by_state: BTreeSet<(&TaskReference, Attempt)> = fold
        .owed(Sequence(0))
        .map(|dispatch| (dispatch.reference, dispatch.task.attempt))
        .collect();
    let by_books: BTreeSet<(&TaskReference, Attempt)> = account.owed().collect();
    for (task, attempt) in by_books.difference(&by_state) {
        let detail =
            format!("attempt {attempt} of {task} is to be performed, but is owed to nobody");
        differences.push((Invariant::I12, detail));
    }
    for (task, attempt) in by_state.difference(&by_books) {
        let detail = format!("attempt {attempt} of {task} is owed, but not to be performed");
        differences.push((Invariant::I6, detail));
    }
    differences
}
