//! Every outbound port in memory, with a hand-moved clock and a fault-injecting decorator.
//!
//! [`MemoryTaskQueue`] is the real queue of the embedded mode; the rest serves the `memory:` store and tests. Every
//! store is a handle: a clone is another instance on the same store, which is what a restart of the engine sees.

mod blob_store;
mod clock;
mod definition_store;
mod event_publisher;
mod faulty;
mod http_client;
mod ids;
mod journal;
mod key_store;
mod leadership;
mod peers;
mod task_queue;
mod view;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use blob_store::{BLOBS_BYTES_MAX, MemoryBlobStore};
pub use clock::{EPOCH, ManualClock};
pub use definition_store::MemoryDefinitionStore;
pub use event_publisher::{MemoryEventPublisher, PUBLISHED_EVENTS_MAX};
pub use faulty::{Faults, Faulty, Injected, When};
pub use http_client::{REQUESTS_KEPT_MAX, Script, ScriptedHttpClient};
pub use ids::SequentialIds;
pub use journal::{JOURNAL_BYTES_MAX, MemoryJournal, RECORD_BYTES_MAX};
pub use key_store::MemoryKeyStore;
pub use leadership::MemoryLeadership;
pub use peers::MemoryPeers;
pub use task_queue::{MemoryTaskQueue, QUEUED_TASKS_MAX};
pub use view::MemoryView;

/// Locks, also after a panic elsewhere: nothing here is left half-changed by one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
