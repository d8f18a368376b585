//! Branches that run side by side: when a fork is over, with which output and which `$context` (DESIGN section 9).

use std::collections::BTreeMap;

use super::{
    Container, Content, Event, Execution, Task, TaskStatus,
    activate::Activation,
    flow::sends_to_the_end,
    scope::{Fields, text},
    settle::{below_cancelled, fault},
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
    /// What follows from the end of a branch. It depends on all that have ended and not on the one that is asked about,
    /// so that recovery, which asks in another order, comes to the same end.
    pub(crate) fn branch_ended(&self, branch: &TaskReference, state: &Task) -> Vec<Event> {
        let Some(container) = self.execution.container(Some(self.reference)) else {
            return Vec::new();
        };
        let all_ended = container.ended as usize >= self.fork.branches.len();
        match state.status {
            TaskStatus::Completed | TaskStatus::Skipped | TaskStatus::Faulted => {}
            // Whoever cancelled a branch draws the consequences.
            TaskStatus::Cancelled
            | TaskStatus::Pending
            | TaskStatus::Running
            | TaskStatus::Waiting
            | TaskStatus::Suspended => return Vec::new(),
        }
        if self.fork.compete {
            self.race_moved(container, all_ended)
        } else if all_ended || self.is_decisive(branch, state) {
            self.decided(container)
        } else {
            Vec::new()
        }
    }

    /// The first to complete wins; where nobody can any more, the first error counts.
    fn race_moved(&self, container: &Container, all_ended: bool) -> Vec<Event> {
        let winner = container.winner.as_ref();
        match winner.and_then(|winner| Some((winner, self.execution.tasks.get(winner)?))) {
            Some((winner, state)) => self.finish(&Content::OutputOf(winner.clone()), [state]),
            None if !all_ended || container.closing => Vec::new(),
            None if self.first_error().is_some() => self.lost(),
            None => self.finish(&Content::Value(Value::null()), []),
        }
    }

    /// The first branch to fail or to end the execution decides; where none does, all are done.
    fn decided(&self, container: &Container) -> Vec<Event> {
        let ended = self.branches().filter_map(|(branch, state)| {
            let state = state?;
            self.is_decisive(&branch, state).then_some((branch, state))
        });
        match ended.min_by_key(|(_, state)| state.ended_at) {
            Some((_, state)) if state.status == TaskStatus::Faulted => self.lost(),
            Some((branch, state)) => self.finish(&Content::OutputOf(branch), [state]),
            None if container.closing => Vec::new(),
            None => self.all_done(),
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

    /// Whether nothing beside this branch matters any more: it failed, or it has ended the execution.
    fn is_decisive(&self, branch: &TaskReference, state: &Task) -> bool {
        let node = self.plan.find(&branch.pointer).map(|id| self.plan.node(id));
        state.status == TaskStatus::Faulted
            || node.is_some_and(|node| sends_to_the_end(self.execution, self.plan, node, state))
    }

    /// The branches in document order, with the state of those that have begun.
    fn branches(&self) -> impl Iterator<Item = (TaskReference, Option<&'a Task>)> {
        let (execution, plan, iteration) =
            (self.execution, self.plan, self.reference.iteration.clone());
        self.fork.branches.iter().map(move |branch| {
            let branch = TaskReference {
                pointer: plan.node(*branch).pointer.clone(),
                iteration: iteration.clone(),
            };
            let state = execution.this_round(&branch);
            (branch, state)
        })
    }

    fn states(&self) -> impl Iterator<Item = Option<&'a Task>> {
        self.branches().map(|(_, state)| state)
    }

    /// `$context` with what these branches have changed of it, in declared order; none where no branch did. One that is
    /// no object can't be merged: the last wins.
    fn merged(&self, exporting: impl IntoIterator<Item = &'a Task>) -> Option<Value> {
        let exports: Vec<&Value> = exporting
            .into_iter()
            .filter_map(|state| state.context.as_ref())
            .collect();
        if let [] | [_] = exports[..] {
            return exports.first().map(|only| (*only).clone());
        }
        let changed: Option<Vec<_>> = exports.iter().map(|export| fields(export)).collect();
        let Some(changed) = changed else {
            return exports.last().map(|last| (*last).clone());
        };
        let before = fields(self.execution.context_within(Some(self.reference)));
        let before = before.unwrap_or_default();
        let mut merged = before.clone();
        for (name, value) in changed.into_iter().flatten() {
            if before.get(&name) != Some(&value) {
                merged.insert(name, value);
            }
        }
        let merged = merged.iter();
        let merged = merged.map(|(name, value)| (name.as_str(), value.clone()));
        Some(Value::new(Json::of(&Fields(merged.collect()))))
    }
}

/// The fields of a `$context`, as text: a number may be what a parsed value cannot hold. None where it is no object.
fn fields(context: &Value) -> Option<BTreeMap<String, Json>> {
    text(context).read().ok()
}
