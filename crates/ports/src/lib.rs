//! What the inside asks of the outside, and what the outside may ask of the inside: traits and their arguments, no
//! logic.
//!
//! Each trait's documentation is a numbered list of clauses. `eventflow-contracts` has one test per clause, and every
//! adapter, decorator and fake runs them.

#![cfg_attr(
    feature = "mocks",
    allow(
        clippy::ref_option_ref,
        reason = "mockall writes it where an argument is an optional reference"
    )
)]

pub mod inbound;

mod blob_store;
mod clock;
mod definition_store;
mod event_publisher;
mod http_client;
mod ids;
mod journal;
mod key_store;
mod leadership;
mod peers;
mod task_queue;
mod view;
mod view_copies;

pub use blob_store::{BlobError, BlobStore};
pub use clock::Clock;
pub use definition_store::{Definition, DefinitionError, DefinitionStore, Put};
pub use event_publisher::{EventPublisher, LifecycleEvent, PublishError};
pub use http_client::{HttpClient, HttpFailure, HttpFailureKind, HttpRequest, HttpResponse};
pub use ids::Ids;
pub use journal::{AppendError, Appending, Journal, JournalEntry, ReadError, ReadLimit};
pub use key_store::{KeyError, KeyStore};
pub use leadership::{Held, Leadership, LeadershipError, Mark, Roll};
pub use peers::{Answering, MESSAGE_BYTES_MAX, PeerError, Peers, Responder};
pub use task_queue::{OfferedAttempt, QueueError, TaskOffer, TaskQueue};
pub use view::{ListQuery, View, ViewBatch, ViewError, ViewPosition, ViewRow};
pub use view_copies::{ViewCopies, ViewCopyError};

#[cfg(feature = "mocks")]
pub use {
    blob_store::MockBlobStore, clock::MockClock, definition_store::MockDefinitionStore,
    event_publisher::MockEventPublisher, http_client::MockHttpClient, ids::MockIds,
    journal::MockJournal, key_store::MockKeyStore, leadership::MockLeadership, peers::MockPeers,
    task_queue::MockTaskQueue, view::MockView, view_copies::MockViewCopies,
};

/// Why an adapter could not do what it was asked: the cause below a port's error, for logs and people.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;
