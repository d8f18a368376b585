//! The outside of the engine on NATS `JetStream` (server 2.15 or newer): so far the journal.
//!
//! The caller connects; an adapter is opened on the client and checks at once that the server holds what it needs:
//!
//! ```no_run
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! use eventflow_adapter_nats::{JournalConfig, NatsJournal};
//!
//! let client = async_nats::connect("nats://127.0.0.1:4222").await?;
//! let journal = NatsJournal::open(&client, JournalConfig::default()).await?;
//! # Ok(())
//! # }
//! ```

mod journal;

pub use journal::{Difference, JournalConfig, NatsJournal, OpenError};
