//! Every outbound port in memory, with a hand-moved clock and a fault-injecting decorator.
//!
//! [`MemoryTaskQueue`] is the real queue of the embedded mode; the rest serves the `memory:` store and tests. Every
//! store is a handle: a clone is another instance on the same store, which is what a restart of the engine sees.

mod journal;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use journal::{JOURNAL_BYTES_MAX, MemoryJournal, RECORD_BYTES_MAX};

/// Locks, also after a panic elsewhere: nothing here is left half-changed by one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
