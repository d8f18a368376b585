//! A server or a cluster of a test's own.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use eventflow_nats_server::{NatsCluster, NatsServer, Options};

/// How many servers keep what a test stores.
pub(crate) enum Servers {
    One(NatsServer),
    Three(NatsCluster),
}

impl Servers {
    /// One server with the default durability.
    pub(crate) fn single() -> Self {
        Self::One(NatsServer::start(Options { sync_always: false }))
    }

    /// One server that syncs each message before it acknowledges.
    pub(crate) fn synced() -> Self {
        Self::One(NatsServer::start(Options { sync_always: true }))
    }

    /// Three servers, each with a copy of everything.
    pub(crate) fn replicated() -> Self {
        Self::Three(NatsCluster::start(3))
    }

    pub(crate) fn replicas(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Three(_) => 3,
        }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        match self {
            Self::One(server) => vec![server.url()],
            Self::Three(cluster) => cluster.urls(),
        }
    }

    /// The single server.
    pub(crate) fn server(&mut self) -> &mut NatsServer {
        match self {
            Self::One(server) => server,
            Self::Three(_) => panic!("there are three servers"),
        }
    }

    /// A new connection to all servers, that keeps trying to reconnect.
    pub(crate) async fn connect(&self) -> Client {
        ConnectOptions::new()
            .reconnect_delay_callback(|_| Duration::from_millis(20))
            .connect(&self.urls()[..])
            .await
            .expect("connected")
    }
}
