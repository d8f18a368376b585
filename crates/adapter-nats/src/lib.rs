//! The outside of the engine on NATS `JetStream` (server 2.15 or newer).
//!
//! [`connect`] refuses a server that EventFlow cannot be kept on; each adapter is opened on the client and checks at once
//! that the server holds what it needs, or makes it there:
//!
//! ```no_run
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! use eventflow_adapter_nats::{ConnectOptions, Findings, NatsConfig, NatsJournal, connect};
//!
//! let client = connect(&ConnectOptions::default()).await?;
//! let config = NatsConfig::default();
//! let journal = NatsJournal::open(&client, config.clone()).await?;
//! println!("{}", Findings::look(&client, &config, None).await?);
//! # Ok(())
//! # }
//! ```

mod blobs;
mod bucket;
mod config;
mod connect;
mod definitions;
mod headers;
mod inbound;
mod journal;
mod keys;
mod leadership;
mod objects;
mod peers;
mod publisher;
mod quarantine;
mod reader;
mod removal;
mod server;
mod stream;
mod subject;
mod tasks;
mod view_copies;

/// What [`connect`] gives, and everything else is opened with.
pub use async_nats::Client;
pub use blobs::NatsBlobs;
pub use config::NatsConfig;
pub use connect::{ConnectError, ConnectOptions, connect, connect_system};
pub use definitions::NatsDefinitions;
pub use inbound::{INBOUND_DRAIN_MAX, InboundPorts, NatsInbound};
pub use journal::NatsJournal;
pub use keys::NatsKeys;
pub use leadership::NatsLeadership;
pub use peers::NatsPeers;
pub use publisher::NatsPublisher;
pub use quarantine::{NatsQuarantineError, NatsQuarantined, SetAside};
pub use reader::{NatsReader, StoreReadError, StoredMessage, StreamFound};
pub use removal::remove_store;
pub use server::{Findings, SyncInterval};
pub use stream::{Difference, OpenError};
pub use tasks::NatsTaskQueue;
pub use view_copies::NatsViewCopies;
