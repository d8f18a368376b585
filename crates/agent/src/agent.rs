//! An agent: how it is set up, and how it runs and ends.

use std::{collections::HashMap, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use eventflow_domain::{AgentName, Capability, Tenant, ids::InvalidName};
use tokio::task::JoinSet;

use crate::{
    Handler, InvalidNats, InvalidServer, Nats, Server, Transport,
    calls::{Asking, said},
    exchange, held,
    nats::{self, Place},
    running::Running,
    task::Order,
};

/// Attempts performed at a time, where nothing is said: most handlers wait for somebody else.
const CONCURRENCY: u32 = 10;
/// More in one process would be bound by its memory and sockets long before.
const CONCURRENCY_MAX: u32 = 10_000;
/// As the service has it where nothing is said.
const LEASE: Duration = Duration::from_mins(1);
/// Below this, signs of life would be most of the traffic.
const LEASE_MIN: Duration = Duration::from_millis(300);
/// What is under way at the end may take so long, where nothing is said: what usual supervisors grant before they kill.
const DRAIN_WITHIN: Duration = Duration::from_secs(25);
/// A handler that was told to hurry gets so long to do so.
const HURRY_WITHIN: Duration = Duration::from_secs(2);
/// The failures of abandoned attempts get so long to be delivered.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(3);

/// Takes tasks, performs them and brings back the results, until it is told to end.
#[derive(Debug)]
pub struct Agent {
    running: Arc<Running>,
    concurrency: u32,
    drain_within: Duration,
}

/// Sets up an [`Agent`].
#[must_use]
pub struct AgentBuilder {
    url: String,
    token: Option<String>,
    creds: Option<PathBuf>,
    prefix: String,
    tenant: String,
    name: String,
    handlers: Vec<(String, Arc<dyn Handler>)>,
    concurrency: u32,
    batched: bool,
    lease: Duration,
    drain_within: Duration,
}

/// What is wrong with an agent's set-up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misconfigured {
    /// Where to go.
    #[error(transparent)]
    Server(#[from] InvalidServer),
    /// Where to go, over NATS.
    #[error(transparent)]
    Nats(#[from] InvalidNats),
    /// What it or one of its capabilities is called.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// What it can do.
    #[error("an agent needs at least one capability, and each only once")]
    Capabilities,
    /// How much at a time.
    #[error("an agent performs 1 to {CONCURRENCY_MAX} attempts at a time")]
    Concurrency,
    /// How long it holds a task.
    #[error("a lease lasts {} ms at least", LEASE_MIN.as_millis())]
    Lease,
}

/// Why an agent ended otherwise than it was told to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The service does not give tasks to this agent, and never will.
    #[error("the service refuses this agent: {0}")]
    Refused(String),
    /// Handlers that did not end, or results that could not be delivered, within the time to drain.
    #[error(
        "{tasks} tasks were not finished in time: their leases will expire, and their retry policies decide"
    )]
    Abandoned {
        /// How many.
        tasks: usize,
    },
}

impl Agent {
    /// An agent of the service at this URL: `http://host:port` or `https://host`; or of the service on these NATS
    /// servers: `nats://host:port` or `tls://host:port`, several with commas between them.
    pub fn builder(url: impl Into<String>) -> AgentBuilder {
        AgentBuilder {
            url: url.into(),
            token: None,
            creds: None,
            prefix: "eventflow".into(),
            tenant: "default".into(),
            name: "agent".into(),
            handlers: Vec::new(),
            concurrency: CONCURRENCY,
            batched: true,
            lease: LEASE,
            drain_within: DRAIN_WITHIN,
        }
    }

    /// The way to the service it works for, with its count of requests.
    pub fn transport(&self) -> &Transport {
        &self.running.transport
    }

    /// Works until `shutdown` is ready, then lets what is under way finish. Dropping the future ends everything at
    /// once.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let running = &self.running;
        let _tasks = AbortOnDrop(running);
        let mut background = JoinSet::new();
        background.spawn(held::keep_alive(Arc::clone(running)));
        for _ in 0..exchange::RUNS {
            background.spawn(exchange::run(Arc::clone(running)));
        }
        let mut polling = pin!(running.poll());
        let refused = tokio::select! {
            () = shutdown => {
                running.drain();
                polling.await
            }
            refused = &mut polling => refused,
        };
        let drained = self.drain().await;
        running.transport.flush().await;
        match refused {
            Some(problem) => Err(AgentError::Refused(said(&problem))),
            None => drained,
        }
    }

    async fn drain(&self) -> Result<(), AgentError> {
        let running = &self.running;
        running.drain();
        // Whoever performs or delivers holds a slot: all slots free means that nothing is left.
        for (order, within) in [
            (Order::GoOn, self.drain_within),
            (Order::Hurry, HURRY_WITHIN),
            (Order::Abandon, LAST_WORDS_WITHIN),
        ] {
            running.held.order_all(order);
            let all = running.slots.acquire_many(self.concurrency);
            if tokio::time::timeout(within, all).await.is_ok() {
                return Ok(());
            }
        }
        Err(AgentError::Abandoned {
            tasks: running.held.len(),
        })
    }
}

/// Handlers end with the agent, however it ends.
struct AbortOnDrop<'a>(&'a Running);

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AgentBuilder {
    /// Called this, in the history of what it performs: `[A-Za-z0-9_-]{1,64}`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// With this bearer token, where there is one. Over NATS the credentials or the URL say who it is.
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// With this NATS credentials file, where there is one.
    pub fn creds(mut self, file: Option<PathBuf>) -> Self {
        self.creds = file;
        self
    }

    /// Of the service whose NATS subjects begin with this; `eventflow` otherwise.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// For this tenant over NATS, `default` otherwise. Over HTTP the token says whose tasks it performs.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Able to do this, by this handler.
    pub fn capability(mut self, capability: impl Into<String>, handler: impl Handler) -> Self {
        self.handlers.push((capability.into(), Arc::new(handler)));
        self
    }

    /// At most so many attempts at a time, those whose results are on their way included; 10 otherwise.
    pub fn concurrency(mut self, attempts: u32) -> Self {
        self.concurrency = attempts;
        self
    }

    /// Whether results go in batches that also ask for the next tasks (the default, and much faster), or each by
    /// itself.
    pub fn batched(mut self, batched: bool) -> Self {
        self.batched = batched;
        self
    }

    /// Holding tasks for so long without a sign of life, 60 s otherwise: a crashed agent's tasks are retried after it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Waiting so long at the end for what is under way, 25 s otherwise.
    pub fn drain_within(mut self, drain_within: Duration) -> Self {
        self.drain_within = drain_within;
        self
    }

    /// The agent, or what is wrong with it.
    pub fn build(self) -> Result<Agent, Misconfigured> {
        let transport = self.transport()?;
        let agent = AgentName::parse(&self.name)?;
        let named = self.handlers.len();
        let handlers: HashMap<Capability, Arc<dyn Handler>> = self
            .handlers
            .into_iter()
            .map(|(name, handler)| Ok((Capability::parse(&name)?, handler)))
            .collect::<Result<_, InvalidName>>()?;
        if handlers.is_empty() || handlers.len() != named {
            return Err(Misconfigured::Capabilities);
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            return Err(Misconfigured::Concurrency);
        }
        if self.lease < LEASE_MIN {
            return Err(Misconfigured::Lease);
        }
        let asking = Asking {
            agent,
            capabilities: handlers.keys().cloned().collect(),
            lease: self.lease,
        };
        Ok(Agent {
            running: Arc::new(Running::new(
                transport,
                asking,
                handlers,
                self.concurrency,
                self.batched,
            )),
            concurrency: self.concurrency,
            drain_within: self.drain_within,
        })
    }

    fn transport(&self) -> Result<Transport, Misconfigured> {
        if !nats::is_nats(&self.url) {
            let server = Server::new(&self.url, self.token.as_deref())?;
            return Ok(Transport::Http(server));
        }
        let nats = Nats::new(Place {
            url: &self.url,
            creds: self.creds.as_deref(),
            prefix: &self.prefix,
            tenant: Tenant::parse(&self.tenant)?,
            name: &self.name,
        })?;
        Ok(Transport::Nats(nats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, Task};

    async fn nothing(_: Task) -> Result<(), Failure> {
        Ok(())
    }

    fn builder() -> AgentBuilder {
        Agent::builder("http://127.0.0.1:1").capability("work", nothing)
    }

    #[test]
    fn what_is_wrong_with_a_set_up_is_said() {
        let wrong = |builder: AgentBuilder| builder.build().unwrap_err();
        assert!(matches!(
            wrong(Agent::builder("nowhere")),
            Misconfigured::Server(_)
        ));
        assert!(matches!(
            wrong(builder().name("a b")),
            Misconfigured::Name(_)
        ));
        assert!(matches!(
            wrong(builder().capability("a b", nothing)),
            Misconfigured::Name(_)
        ));
        assert_eq!(
            wrong(builder().capability("work", nothing)),
            Misconfigured::Capabilities
        );
        assert_eq!(
            wrong(Agent::builder("http://a")),
            Misconfigured::Capabilities
        );
        assert_eq!(wrong(builder().concurrency(0)), Misconfigured::Concurrency);
        assert_eq!(wrong(builder().lease(Duration::ZERO)), Misconfigured::Lease);
        assert!(builder().build().is_ok());
    }
}
