//! What the world outside was told: the journal must have all of it.

use std::collections::{BTreeMap, BTreeSet};

use eventflow_domain::{Attempt, Digest, Json, Sequence, TaskReference, Timestamp};
use eventflow_ports::inbound::{Action, LeasedTask, TaskFailure, TaskVerdict};

use crate::ledger::Key;

/// One attempt of one task.
pub(crate) type AttemptKey = (Key, TaskReference, Attempt);

/// Everything that was acknowledged, and everything that was tried.
#[derive(Default)]
pub(crate) struct Evidence {
    /// Starts that were answered.
    pub(crate) started: BTreeSet<Key>,
    /// What agents brought, and whether they heard that it was accepted.
    pub(crate) brought: BTreeMap<AttemptKey, Vec<Brought>>,
    /// Orders that were answered, by when, and at which event the execution stood in the answer.
    pub(crate) controls: Vec<Ordered>,
    /// What was leased, and the event up to which it must have begun, where a pause or stop had been acknowledged.
    pub(crate) leased: Vec<Leased>,
    /// The last event that anybody was shown.
    pub(crate) seen: BTreeMap<Key, Sequence>,
    /// What is wrong already.
    pub(crate) findings: Vec<String>,
}

/// A result on its way, or accepted.
pub(crate) struct Brought {
    pub(crate) verdict: Said,
    pub(crate) is_accepted: bool,
}

/// What an agent says of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Done(Json),
    Failed(TaskFailure),
}

/// An order that was acknowledged.
pub(crate) struct Ordered {
    pub(crate) key: Key,
    pub(crate) action: Action,
    pub(crate) by: Timestamp,
}

/// An attempt that was handed to somebody.
pub(crate) struct Leased {
    pub(crate) attempt: AttemptKey,
    pub(crate) input: Digest,
    /// It may be handed out only if it had begun by then.
    pub(crate) begun_by: Option<Sequence>,
}

impl Said {
    pub(crate) fn verdict(&self) -> TaskVerdict {
        match self {
            Self::Done(output) => TaskVerdict::Complete(output.clone()),
            Self::Failed(failure) => TaskVerdict::Fail(failure.clone()),
        }
    }
}

impl Evidence {
    pub(crate) fn find(&mut self, finding: String) {
        self.findings.push(finding);
    }

    /// Somebody brings this.
    pub(crate) fn bring(&mut self, attempt: &AttemptKey, said: &Said) {
        let brought = self.brought.entry(attempt.clone()).or_default();
        if !brought.iter().any(|earlier| earlier.verdict == *said) {
            brought.push(Brought {
                verdict: said.clone(),
                is_accepted: false,
            });
        }
    }

    /// It was accepted.
    pub(crate) fn accept(&mut self, attempt: &AttemptKey, said: &Said) {
        let brought = self.brought.get_mut(attempt).into_iter().flatten();
        for earlier in brought.filter(|earlier| earlier.verdict == *said) {
            earlier.is_accepted = true;
        }
    }

    pub(crate) fn lease(&mut self, key: &Key, task: &LeasedTask, begun_by: Option<Sequence>) {
        self.leased.push(Leased {
            attempt: (key.clone(), task.task.clone(), task.attempt),
            input: Digest::of(task.input.as_str().as_bytes()),
            begun_by,
        });
    }

    /// Somebody was shown an execution at this event.
    pub(crate) fn see(&mut self, key: &Key, at: Sequence) {
        let seen = self.seen.entry(key.clone()).or_default();
        *seen = at.max(*seen);
    }

    pub(crate) fn seen(&self, key: &Key) -> Sequence {
        self.seen.get(key).copied().unwrap_or_default()
    }
}
