//! Leases: agents' time-limited holds on attempts, in the writer's memory only (DESIGN section 5).

use std::collections::{BTreeSet, HashMap};

use eventflow_domain::{Attempt, DurationMs, TaskReference, Timestamp};

use super::message::Key;

/// One hold.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) attempt: Attempt,
    pub(crate) until: Timestamp,
    pub(crate) span: DurationMs,
}

/// All holds of a partition, and in what order they pass.
#[derive(Default)]
pub(crate) struct Leases {
    by_task: HashMap<(Key, TaskReference), Lease>,
    order: BTreeSet<(Timestamp, Key, TaskReference)>,
}

impl Leases {
    pub(crate) fn grant(&mut self, key: &Key, task: &TaskReference, lease: Lease) {
        self.end(key, task);
        self.order.insert((lease.until, key.clone(), task.clone()));
        self.by_task.insert((key.clone(), task.clone()), lease);
    }

    /// Extends the hold of this attempt from now on and tells until when.
    pub(crate) fn extend(
        &mut self,
        key: &Key,
        task: &TaskReference,
        attempt: Attempt,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let lease = self.by_task.get_mut(&(key.clone(), task.clone()))?;
        if lease.attempt != attempt {
            return None;
        }
        let until = now.after(lease.span).max(lease.until);
        let old = std::mem::replace(&mut lease.until, until);
        self.order.remove(&(old, key.clone(), task.clone()));
        self.order.insert((until, key.clone(), task.clone()));
        Some(until)
    }

    pub(crate) fn end(&mut self, key: &Key, task: &TaskReference) {
        if let Some(lease) = self.by_task.remove(&(key.clone(), task.clone())) {
            self.order.remove(&(lease.until, key.clone(), task.clone()));
        }
    }

    /// Until when this task is held.
    pub(crate) fn until(&self, key: &Key, task: &TaskReference) -> Option<Timestamp> {
        let lease = self.by_task.get(&(key.clone(), task.clone()))?;
        Some(lease.until)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_task.len()
    }

    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.order.first().map(|(until, _, _)| *until)
    }

    /// Takes a hold that has passed.
    pub(crate) fn take_expired(&mut self, now: Timestamp) -> Option<(Key, TaskReference, Lease)> {
        let (until, _, _) = self.order.first()?;
        if *until > now {
            return None;
        }
        let (_, key, task) = self.order.pop_first()?;
        let lease = self.by_task.remove(&(key.clone(), task.clone()))?;
        Some((key, task, lease))
    }
}
