//! One step of an execution: a command decided, its events folded, their consequences drawn, all within bounds.

use super::{
    Command, Content, Event, Execution, Rejection, decide,
    settle::{EVENTS_PER_PORTION_MAX, settle},
};
use crate::{
    error::Problem,
    limits::{BYTES_PER_STEP_MAX, EVENTS_PER_STEP_MAX},
    plan::Plan,
    time::Timestamp,
    value::Value,
};

/// Bytes of an event beside its values, roughly: it bounds work, it need not be exact.
const EVENT_OVERHEAD_BYTES: usize = 160;

/// What a step brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stepped {
    /// In order, already folded into the execution.
    pub events: Vec<Event>,
    /// About how many bytes they have.
    pub bytes: usize,
}

/// Decides `command` at the time `at` and draws consequences until none is left or a bound is reached; then
/// [`Execution::owes_advance`] or a deadline that has passed says that there is more.
///
/// A rejection changes nothing.
pub fn step(
    execution: &mut Execution,
    plan: &Plan,
    command: &Command,
    at: Timestamp,
) -> Result<Stepped, Rejection> {
    let mut stepped = Stepped::default();
    loop {
        let decided = decide(execution, plan, command, at)?;
        let more_may_be_due = *command == Command::FireTimers && !decided.is_empty();
        stepped.apply(execution, decided, at);
        stepped.draw_consequences(execution, plan, at);
        if !more_may_be_due || !stepped.has_room() {
            return Ok(stepped);
        }
    }
}

impl Stepped {
    fn draw_consequences(&mut self, execution: &mut Execution, plan: &Plan, at: Timestamp) {
        while self.has_room() {
            if execution.is_paused() {
                if execution.has_drained() {
                    self.apply(execution, vec![Event::ExecutionSuspended {}], at);
                }
                return;
            }
            let Some(item) = execution.unsettled.first().cloned() else {
                return;
            };
            let events = settle(execution, plan, &item);
            if events.is_empty() {
                execution.unsettled.remove(&item);
            } else {
                self.apply(execution, events, at);
            }
        }
    }

    fn apply(&mut self, execution: &mut Execution, events: Vec<Event>, at: Timestamp) {
        for event in events {
            self.bytes += event.weight();
            execution.evolve(&event, at);
            self.events.push(event);
        }
    }

    fn has_room(&self) -> bool {
        self.events.len() + EVENTS_PER_PORTION_MAX <= EVENTS_PER_STEP_MAX
            && self.bytes < BYTES_PER_STEP_MAX
    }
}

impl Event {
    /// About how many bytes it has in a record.
    pub fn weight(&self) -> usize {
        let inline = |value: &Value| match value {
            Value::Inline(json) => json.as_str().len(),
            Value::Ref { .. } => 0,
        };
        let words = |error: &Problem| {
            let texts = [&error.title, &error.detail, &error.instance];
            let call = error.call.as_ref();
            let snippet = call.and_then(|call| call.response_snippet.as_ref());
            let texts = texts.into_iter().flatten().chain(snippet);
            error.kind.len() + texts.map(String::len).sum::<usize>()
        };
        EVENT_OVERHEAD_BYTES
            + self.values().map(inline).sum::<usize>()
            + self.error().map_or(0, words)
    }
}

impl From<Value> for Content {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}
