//! One executable contract suite per port: a test for each numbered clause of its documentation.
//!
//! An adapter (or decorator, or fake) gives a fixture and one line:
//!
//! ```text
//! eventflow_contracts::journal_contract!(sqlite, || async { SqliteFixture::new() });
//! ```
//!
//! That makes a module `sqlite` with one `#[tokio::test]` per clause. Every test makes a fixture of its own, which
//! stands for one store; each `open` of a fixture is a new instance on that same store.

#[macro_use]
mod suite;

mod samples;

pub mod blob_store;
pub mod clock;
pub mod definition_store;
pub mod event_publisher;
pub mod http_client;
pub mod http_site;
pub mod ids;
pub mod inbound;
pub mod journal;
pub mod key_store;
pub mod leadership;
pub mod peers;
pub mod task_queue;
pub mod view;
pub mod view_copies;
