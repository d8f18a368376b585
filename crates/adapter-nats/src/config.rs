//! Where and how EventFlow keeps what it keeps on NATS.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{Context, context::ContextBuilder},
};
use eventflow_domain::NodeName;

/// Where and how everything is kept: one for all adapters of a service, the same on all its nodes but for their names.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// What subjects begin with, `eventflow.journal.<p>`, and in upper case what streams and buckets do,
    /// `EVENTFLOW_JOURNAL_<p>`.
    /// 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub prefix: String,
    /// Partitions `0..partitions` are there.
    pub partitions: u16,
    /// Copies of whatever is stored, on as many servers: 1 or 3.
    pub replicas: usize,
    /// The node that gives out tasks, which each of them names; nothing where this is none.
    pub node: Option<NodeName>,
    /// How long the server may take over one request before it counts as unavailable.
    pub answer_within: Duration,
    /// How long a server that does not answer is asked again when something is opened.
    pub open_within: Duration,
}

/// An answer of a few bytes that takes longer is lost, mostly with a stream's leader: it is asked for again, or what was
/// published looked for, sooner than anything is given up. Far above what a write of three servers takes.
const LOST_AFTER: Duration = Duration::from_secs(2);

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            prefix: "eventflow".to_owned(),
            partitions: 4,
            replicas: 1,
            node: None,
            // Shorter than the patience of who waits for an HTTP answer.
            answer_within: Duration::from_secs(5),
            // A cluster that is starting loses requests while it elects its leaders, which takes up to 9 s where votes
            // are split.
            open_within: Duration::from_secs(20),
        }
    }
}

impl NatsConfig {
    /// What talks to `JetStream` while a service runs, which asks again.
    pub(crate) fn context(&self, client: &Client) -> Context {
        ContextBuilder::new()
            .timeout(self.lost_after())
            .ack_timeout(self.lost_after())
            .build(client.clone())
    }

    /// The same with all the patience of this configuration: for whoever asks once, or for megabytes.
    pub(crate) fn patient_context(&self, client: &Client) -> Context {
        ContextBuilder::new()
            .timeout(self.answer_within)
            .ack_timeout(self.answer_within)
            .build(client.clone())
    }

    /// When an answer of a few bytes is not waited for any more.
    pub(crate) fn lost_after(&self) -> Duration {
        self.answer_within.min(LOST_AFTER)
    }

    /// What the names of streams and buckets begin with.
    pub(crate) fn upper_prefix(&self) -> String {
        self.prefix.to_ascii_uppercase()
    }
}
