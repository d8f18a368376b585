//! The execution: one run of a definition, folded from its events.
//!
//! [`step`] is how it moves: it decides what a command means, folds the events and draws their consequences until
//! nothing more follows or a bound is reached. [`Execution::owed`] and [`Execution::next_deadline`] say what the outside
//! must do next; both come from state alone, so that running and recovery take the same path (DESIGN section 4).

mod activate;
mod catch;
mod command;
mod decide;
mod event;
mod evolve;
mod flow;
mod fork;
mod graph;
mod http;
mod owed;
mod ready;
mod scope;
mod settle;
mod status;
mod step;
mod task;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use command::{Command, Rejection};
pub use decide::decide;
pub use event::{Content, Control, Event, Requested, Work};
pub use owed::{Dispatch, Timer};
pub use status::{Status, TaskStatus};
pub use step::{Stepped, step};
pub use task::{Container, Task};

use crate::{
    error::Problem,
    ids::{Digest, ExecutionId, Sequence, TaskReference, Tenant},
    time::Timestamp,
    value::{Json, Value},
};

/// One run of a definition, pinned to its digest for life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Execution {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its id, unique within the tenant.
    pub id: ExecutionId,
    /// What was asked for.
    pub requested: Requested,
    /// `Pending`, `Running`, paused or how it ended; waiting is for the view to tell.
    pub status: Status,
    /// The workflow's input after `input.from`; as requested until it has started.
    pub input: Value,
    /// `$context`.
    pub context: Value,
    /// Once completed.
    pub output: Option<Value>,
    /// Once faulted.
    pub error: Option<Problem>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its first task was activated.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When its last event happened.
    pub changed_at: Timestamp,
    /// Of its last event.
    pub sequence: Sequence,
    /// Tasks activated so far, again and again counted each time (requirement W7).
    pub activations: u32,
    /// Every task that was ever activated.
    #[serde(with = "as_pairs")]
    pub tasks: BTreeMap<TaskReference, Task>,
    /// The outermost sequence or graph.
    pub root: Container,
    /// Whether somebody stopped it: what is under way is being cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_stopping: bool,
    /// Attempts that wait for or are with somebody, by the event that made them ready.
    owed: BTreeSet<(Sequence, TaskReference)>,
    deadlines: BTreeSet<(Timestamp, Timer)>,
    /// What ended or was entered and may have consequences. A hint, so no part of the state: `unsettle` finds all of it
    /// again, and settling twice is harmless. It is settled in its own order and not in that of its coming, so that the
    /// same follows after a recovery.
    #[serde(skip)]
    unsettled: BTreeSet<Unsettled>,
}

/// Something whose consequences may not have been drawn yet, in the order in which they are: what was entered before
/// what has ended, so that what may run side by side begins side by side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unsettled {
    /// The execution was accepted.
    Requested,
    /// A container was entered; the outermost where there is no task.
    Entered(Option<TaskReference>),
    /// A task ended.
    Ended(TaskReference),
    /// Somebody stopped the execution.
    Stopping,
}

impl PartialEq for Execution {
    /// Everything that history determines, which is all but the hint.
    fn eq(&self, other: &Self) -> bool {
        self.tenant == other.tenant
            && self.id == other.id
            && self.requested == other.requested
            && self.status == other.status
            && self.input == other.input
            && self.context == other.context
            && self.output == other.output
            && self.error == other.error
            && self.created_at == other.created_at
            && self.started_at == other.started_at
            && self.ended_at == other.ended_at
            && self.changed_at == other.changed_at
            && self.sequence == other.sequence
            && self.activations == other.activations
            && self.tasks == other.tasks
            && self.root == other.root
            && self.is_stopping == other.is_stopping
            && self.owed == other.owed
            && self.deadlines == other.deadlines
    }
}

impl Execution {
    /// An execution as its first event leaves it.
    pub fn requested(tenant: Tenant, id: ExecutionId, requested: Requested, at: Timestamp) -> Self {
        let timeout = at.after(requested.timeout);
        Self {
            tenant,
            id,
            status: Status::Pending,
            input: requested.input.clone(),
            context: Value::Inline(Json::parse("{}").expect("an empty object is JSON")),
            output: None,
            error: None,
            created_at: at,
            started_at: None,
            ended_at: None,
            changed_at: at,
            sequence: Sequence(1),
            activations: 0,
            tasks: BTreeMap::new(),
            root: Container::default(),
            is_stopping: false,
            owed: BTreeSet::new(),
            deadlines: BTreeSet::from([(timeout, Timer::Execution)]),
            unsettled: BTreeSet::from([Unsettled::Requested]),
            requested,
        }
    }

    /// Whether nothing more will happen by itself.
    pub fn is_ended(&self) -> bool {
        self.status.is_ended()
    }

    /// Whether consequences are left to be drawn: an advance is owed. Those of a paused execution wait, but for the end
    /// of its suspending.
    pub fn owes_advance(&self) -> bool {
        if self.is_paused() {
            return self.has_drained();
        }
        !self.unsettled.is_empty()
    }

    /// Whether what was under way when a pause was asked for has run out.
    pub(crate) fn has_drained(&self) -> bool {
        self.status == Status::Suspending && !self.is_attempted()
    }

    /// Whether nothing new may begin until it is resumed.
    pub fn is_paused(&self) -> bool {
        matches!(self.status, Status::Suspending | Status::Suspended)
    }

    /// Whether an attempt is with somebody.
    fn is_attempted(&self) -> bool {
        self.dispatches(Sequence(0))
            .any(|owed| owed.task.agent.is_some())
    }

    /// The container of this task, the outermost where there is none.
    pub(crate) fn container(&self, within: Option<&TaskReference>) -> Option<&Container> {
        match within {
            None => Some(&self.root),
            Some(task) => self.tasks.get(task)?.container.as_ref(),
        }
    }

    /// Whether a task was activated since its container was last entered: what an earlier round left counts for nothing.
    pub(crate) fn is_of_this_round(&self, task: &Task) -> bool {
        self.container(task.within.as_ref())
            .is_some_and(|container| container.round == task.round)
    }

    /// The task, where it was activated since its container was last entered.
    pub(crate) fn this_round(&self, reference: &TaskReference) -> Option<&Task> {
        let task = self.tasks.get(reference)?;
        self.is_of_this_round(task).then_some(task)
    }

    /// The containers around a place, from the innermost.
    pub(crate) fn around<'a>(
        &'a self,
        within: Option<&'a TaskReference>,
    ) -> impl Iterator<Item = (&'a TaskReference, &'a Task)> {
        let step = |reference: &'a TaskReference| Some((reference, self.tasks.get(reference)?));
        std::iter::successors(within.and_then(step), move |(_, task)| {
            task.within.as_ref().and_then(step)
        })
    }

    /// `$context` as it is seen inside of this container: that of the branch it stands in, where it has exported one.
    pub(crate) fn context_within<'a>(&'a self, within: Option<&'a TaskReference>) -> &'a Value {
        self.around(within)
            .find_map(|(_, task)| task.context.as_ref())
            .unwrap_or(&self.context)
    }

    /// What a content stands for, as of now.
    pub(crate) fn resolve(&self, content: &Content) -> Value {
        let task = |reference| self.tasks.get(reference);
        match content {
            Content::Value(value) => Some(value.clone()),
            Content::WorkflowInput => Some(self.input.clone()),
            Content::OutputOf(reference) => task(reference).and_then(|task| task.output.clone()),
            Content::InputOf(reference) => task(reference).map(|task| task.input.clone()),
        }
        .unwrap_or_else(Value::null)
    }

    /// Marks everything whose consequences may not have been drawn, after a recovery. Settling is idempotent, so too
    /// much is harmless.
    pub fn unsettle(&mut self) {
        self.unsettled.clear();
        if self.is_ended() {
            return;
        }
        if self.is_stopping {
            self.unsettled.insert(Unsettled::Stopping);
            return;
        }
        if self.started_at.is_none() {
            self.unsettled.insert(Unsettled::Requested);
            return;
        }
        self.unsettled.insert(Unsettled::Entered(None));
        for (reference, task) in &self.tasks {
            if task.status.is_ended() {
                self.unsettled.insert(Unsettled::Ended(reference.clone()));
            } else if task.container.is_some() {
                self.unsettled
                    .insert(Unsettled::Entered(Some(reference.clone())));
            }
        }
    }

    /// Digests of values that are not in memory; they must be given to [`Execution::load`] before a step.
    pub fn missing(&self) -> BTreeSet<Digest> {
        self.values().filter_map(Value::missing).collect()
    }

    /// Puts the text of a large value back in place.
    pub fn load(&mut self, digest: &Digest, text: &Json) {
        for value in self.values_mut() {
            value.load(digest, text);
        }
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        let own = [&self.requested.input, &self.input, &self.context];
        own.into_iter()
            .chain(&self.output)
            .chain(self.root.value())
            .chain(self.tasks.values().flat_map(Task::values))
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let own = [
            &mut self.requested.input,
            &mut self.input,
            &mut self.context,
        ];
        own.into_iter()
            .chain(&mut self.output)
            .chain(self.root.value_mut())
            .chain(self.tasks.values_mut().flat_map(Task::values_mut))
    }
}

/// Maps whose keys are no strings, as arrays of pairs.
mod as_pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Vec::<(K, V)>::deserialize(deserializer).map(|pairs| pairs.into_iter().collect())
    }
}
