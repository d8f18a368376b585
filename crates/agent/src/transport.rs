//! The way to the service: the same protocol over HTTP and over NATS.

use eventflow_domain::NodeName;
use eventflow_wire::v1::tasks::{ResultItem, ResultsAnswer, ResultsBody};

use crate::{
    Nats, Server,
    calls::{Refused, Settled},
    http,
};

/// How an agent reaches its service; cheap to clone, clones share their connections.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Tasks are leased, and come with the answers to results.
    Http(Server),
    /// Tasks are pulled from queues, and begun along with results.
    Nats(Nats),
}

impl Transport {
    /// Where the service is.
    pub fn url(&self) -> &str {
        match self {
            Self::Http(server) => server.url(),
            Self::Nats(nats) => nats.url(),
        }
    }

    /// How many requests were sent so far.
    pub fn requests(&self) -> u64 {
        match self {
            Self::Http(server) => server.requests(),
            Self::Nats(nats) => nats.requests(),
        }
    }

    /// Brings what agents say of many attempts, answered one by one in order: to this node, or to any.
    pub(crate) async fn results(
        &self,
        body: &ResultsBody,
        node: Option<&NodeName>,
    ) -> Result<ResultsAnswer, Refused> {
        let answer = match self {
            Self::Http(server) => http::results(server, body).await?,
            Self::Nats(nats) => nats.results(body, node).await?,
        };
        if answer.results.len() != body.results.len() {
            return Err(Refused::unheard(format!(
                "{} results were answered by {}: is this EventFlow?",
                body.results.len(),
                answer.results.len()
            )));
        }
        Ok(answer)
    }

    /// Brings one result by its own request: to this node, or to any.
    pub(crate) async fn result(
        &self,
        item: &ResultItem,
        node: Option<&NodeName>,
    ) -> Result<Settled, Refused> {
        match self {
            Self::Http(server) => http::result(server, item).await,
            Self::Nats(nats) => nats.result(item, node).await,
        }
    }

    /// Whether the next tasks can come with the answers to results.
    pub(crate) fn leases(&self) -> bool {
        matches!(self, Self::Http(_))
    }

    /// What was said without waiting for an answer is on its way.
    pub(crate) async fn flush(&self) {
        if let Self::Nats(nats) = self {
            nats.flush().await;
        }
    }
}
