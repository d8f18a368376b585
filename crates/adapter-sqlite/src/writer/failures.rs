//! Which failed appends the callers have been told of. What was handed over before its caller knew that an append ahead
//! of it failed must fail as well, even where the position that it names has become the end of the log: by another
//! writer's record, which it does not build on (clause 5 of the journal's port).

use std::sync::atomic::{AtomicU64, Ordering};

use eventflow_ports::AppendError;

/// How many appends of a partition have failed, and up to which one a caller has been told.
#[derive(Debug, Default)]
pub(super) struct Failures {
    happened: AtomicU64,
    told: AtomicU64,
}

/// The same as it was when an append was handed over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    happened: u64,
    told: u64,
}

/// An append that failed, with its number among those that did. What fails because of another one has that one's.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: AppendError,
    pub(super) number: u64,
}

impl Failures {
    pub(super) fn known(&self) -> Known {
        // In this order: a failure in between counts as one that the caller does not know.
        let told = self.told.load(Ordering::SeqCst);
        let happened = self.happened.load(Ordering::SeqCst);
        Known { happened, told }
    }

    /// Counts one more.
    pub(super) fn next(&self) -> u64 {
        self.happened.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A caller learns of this one.
    pub(super) fn tell(&self, number: u64) {
        self.told.fetch_max(number, Ordering::SeqCst);
    }
}

impl Known {
    /// The failure that the caller did not know of, if any: it happened before its append was handed over, or since then
    /// to one ahead of it, the last of which has this number.
    pub(super) fn missed(self, last_ahead: u64) -> Option<u64> {
        let last = self.happened.max(last_ahead);
        (self.told < last).then_some(last)
    }
}
