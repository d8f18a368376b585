//! Branches that run side by side: when a fork is over, with which output and which `$context` (DESIGN section 9).

use serde_json::Map;

use super::{
    Content, Event, Execution, Task, TaskStatus,
    activate::Activation,
    scope::{Fields, text},
    settle::{below_cancelled, fault, sends_to_the_end},
};
use crate::{
    error::Problem,
    ids::TaskReference,
    plan::{Fork, Node, Plan},
    value::{Json, Value},
};

/// A fork that is under way.
pub(crate) struct Forked<'a> {
    pub(crate) execution: &'a Execution,
    pub(crate) plan: &'a Plan,
    pub(crate) node: &'a Node,
    pub(crate) fork: &'a Fork,
    pub(crate) reference: &'a TaskReference,
}

impl<'a> Forked<'a> {
    /// What follows from the end of a branch.
    pub(crate) fn branch_ended(&self, branch: &TaskReference, state: &Task) -> Vec<Event> {
        let Some(container) = self.execution.container(Some(self.reference)) else {
            return Vec::new();
        };
        let all_ended = container.ended as usize >= self.fork.branches.len();
        match state.status {
            TaskStatus::Completed if self.ends_everything(state, branch) => {
                self.finish(&Content::OutputOf(branch.clone()), [state])
            }
            TaskStatus::Completed | TaskStatus::Skipped | TaskStatus::Faulted
                if self.fork.compete =>
            {
                self.race_moved(container.winner.as_ref(), all_ended)
            }
            TaskStatus::Faulted => self.lost(),
            TaskStatus::Completed | TaskStatus::Skipped if all_ended && !container.closing => {
                self.all_done()
            }
            // Whoever cancelled a branch draws the consequences.
            TaskStatus::Completed
            | TaskStatus::Skipped
            | TaskStatus::Cancelled
            | TaskStatus::Pending
            | TaskStatus::Running
            | TaskStatus::Waiting
            | TaskStatus::Suspended => Vec::new(),
        }
    }

    /// The first to complete wins; where nobody can any more, the first error counts.
    fn race_moved(&self, winner: Option<&TaskReference>, all_ended: bool) -> Vec<Event> {
        match winner.and_then(|winner| Some((winner, self.execution.tasks.get(winner)?))) {
            Some((winner, state)) => self.finish(&Content::OutputOf(winner.clone()), [state]),
            None if !all_ended => Vec::new(),
            None if self.first_error().is_some() => self.lost(),
            None => self.finish(&Content::Value(Value::null()), []),
        }
    }

    fn all_done(&self) -> Vec<Event> {
        let completed = |state: &&Task| state.status == TaskStatus::Completed;
        let outputs: Vec<Json> = self
            .states()
            .map(|state| {
                let output = state
                    .filter(completed)
                    .and_then(|state| state.output.as_ref());
                output.map_or_else(Json::null, text)
            })
            .collect();
        let output = Content::Value(Value::new(Json::of(&outputs)));
        self.finish(&output, self.states().flatten().filter(completed))
    }

    /// Ends well: what is still under way is cancelled first.
    fn finish(
        &self,
        output: &Content,
        exporting: impl IntoIterator<Item = &'a Task>,
    ) -> Vec<Event> {
        let cancelled = below_cancelled(self.execution, self.reference);
        let Some(state) = self.execution.tasks.get(self.reference) else {
            return Vec::new();
        };
        if !cancelled.is_empty() {
            return cancelled;
        }
        let merged = self.merged(exporting);
        let activation =
            Activation::new(self.execution, self.plan, self.node, state.within.clone());
        vec![
            activation
                .with_context(merged)
                .end_container(state.attempt, output),
        ]
    }

    fn lost(&self) -> Vec<Event> {
        let error = self.first_error().unwrap_or_else(|| {
            let kind = crate::error::ErrorKind::Runtime;
            Problem::new(kind, "Branch faulted", "no error was recorded")
        });
        fault(
            self.execution,
            self.plan,
            Some(self.reference),
            self.node,
            error,
        )
    }

    /// The error of the branch that failed first.
    fn first_error(&self) -> Option<Problem> {
        let faulted = self
            .states()
            .flatten()
            .filter(|state| state.status == TaskStatus::Faulted);
        let first = faulted.min_by_key(|state| state.ended_at);
        first.and_then(|state| state.error.clone())
    }

    fn ends_everything(&self, state: &Task, branch: &TaskReference) -> bool {
        let node = self.plan.find(&branch.pointer).map(|id| self.plan.node(id));
        node.is_some_and(|node| sends_to_the_end(self.execution, self.plan, node, state))
    }

    /// The branches in document order, those that have begun.
    fn states(&self) -> impl Iterator<Item = Option<&'a Task>> {
        let (execution, plan, iteration) =
            (self.execution, self.plan, self.reference.iteration.clone());
        self.fork.branches.iter().map(move |branch| {
            execution.this_round(&TaskReference {
                pointer: plan.node(*branch).pointer.clone(),
                iteration: iteration.clone(),
            })
        })
    }

    /// `$context` with what these branches have changed of it, in declared order; none where no branch did.
    fn merged(&self, exporting: impl IntoIterator<Item = &'a Task>) -> Option<Value> {
        let exports: Vec<&Value> = exporting
            .into_iter()
            .filter_map(|state| state.context.as_ref())
            .collect();
        if let [] | [_] = exports[..] {
            return exports.first().map(|only| (*only).clone());
        }
        let before = fields(self.execution.context_within(Some(self.reference)));
        let mut merged = before.clone();
        for export in exports {
            let changed = fields(export)
                .into_iter()
                .filter(|(name, value)| before.get(name) != Some(value));
            merged.extend(changed);
        }
        let merged: Vec<(&str, Json)> = merged
            .iter()
            .map(|(name, value)| (name.as_str(), Json::of(value)))
            .collect();
        Some(Value::new(Json::of(&Fields(merged))))
    }
}

/// The fields of a `$context`; one that is no object has none.
fn fields(context: &Value) -> Map<String, serde_json::Value> {
    match text(context).to_value() {
        serde_json::Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
