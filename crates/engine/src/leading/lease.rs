//! A leader's lease: how long this node may answer for what it leads, by its own monotonic clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use eventflow_ports::Clock;

use super::plan::LEASE;

/// A lease ends so much before anybody else can take this node for dead: clocks run at slightly different speeds, and
/// an answer takes its time to leave.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// Valid from the sending of an announcement that was acknowledged. Nobody can have seen its mark any earlier.
pub(crate) struct Lease {
    clock: Arc<dyn Clock>,
    /// Of the clock's `elapsed`.
    until_ms: AtomicU64,
}

impl Lease {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            until_ms: AtomicU64::new(0),
        }
    }

    /// An announcement that was sent then has been acknowledged.
    pub(crate) fn renew(&self, sent: Duration) {
        let until = sent + LEASE.saturating_sub(LEASE_MARGIN);
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until_ms.fetch_max(until, Ordering::SeqCst);
    }

    /// Whether this node may still answer for what it leads.
    pub(crate) fn holds(&self) -> bool {
        let until = Duration::from_millis(self.until_ms.load(Ordering::SeqCst));
        self.clock.elapsed() < until
    }
}
