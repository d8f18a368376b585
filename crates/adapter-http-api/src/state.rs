//! What every handler shares: the ports, the bounds on what waits, and whether the service is draining.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eventflow_domain::Tenant;
use eventflow_ports::inbound::{Controls, Events, Executions, Refusal, System, Tasks, Workflows};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::trouble::Trouble;

/// Requests that are held back until something happens (leases and starts with `wait`), at once. Each is a connection
/// and a few kilobytes; agents beyond it are told to come back.
pub const WAITING_MAX: usize = 4_096;
/// Streams of live events at once. Each holds a subscription of the engine and a buffer.
pub const STREAMS_MAX: usize = 1_024;
/// Bodies on their way in, all together, bytes: more than a hundred of the largest, and less than a small machine has.
/// One that comes in one piece does not count.
const ARRIVING_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Starts that are carried out at once: as many as a writer decides in one turn. The rest of a burst does not stand before
/// agents that ask for what it began with.
pub const STARTING_MAX: usize = 64;
/// A start that has waited so long for its turn goes on without: something else holds the others up.
const TURN_WITHIN: Duration = Duration::from_millis(200);
/// How long a caller should stay away who found every place to wait taken.
const PLACES_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The inbound ports that the API is a face of.
#[derive(Clone)]
pub struct Api {
    /// Starting, watching and reading executions.
    pub executions: Arc<dyn Executions>,
    /// Steering them.
    pub controls: Arc<dyn Controls>,
    /// Registering and reading definitions.
    pub workflows: Arc<dyn Workflows>,
    /// Leasing attempts and bringing their results.
    pub tasks: Arc<dyn Tasks>,
    /// Taking events from outside.
    pub events: Arc<dyn Events>,
    /// Readiness, partitions, limits, metrics.
    pub system: Arc<dyn System>,
}

/// Cheap to clone, as every request does.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

struct Inner {
    api: Api,
    tenant: Tenant,
    waiting: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    arriving: Arc<Semaphore>,
    starting: Arc<Semaphore>,
    draining: watch::Sender<bool>,
    openapi: Bytes,
}

impl Shared {
    pub(crate) fn new(api: Api, openapi: Bytes) -> Self {
        Self(Arc::new(Inner {
            api,
            tenant: Tenant::default_tenant(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            arriving: Arc::new(Semaphore::new(ARRIVING_BYTES_MAX)),
            starting: Arc::new(Semaphore::new(STARTING_MAX)),
            draining: watch::Sender::new(false),
            openapi,
        }))
    }

    pub(crate) fn executions(&self) -> &dyn Executions {
        &*self.0.api.executions
    }

    pub(crate) fn controls(&self) -> &dyn Controls {
        &*self.0.api.controls
    }

    pub(crate) fn workflows(&self) -> &dyn Workflows {
        &*self.0.api.workflows
    }

    pub(crate) fn tasks(&self) -> &dyn Tasks {
        &*self.0.api.tasks
    }

    pub(crate) fn events(&self) -> &dyn Events {
        &*self.0.api.events
    }

    pub(crate) fn system(&self) -> &dyn System {
        &*self.0.api.system
    }

    pub(crate) fn openapi(&self) -> Bytes {
        self.0.openapi.clone()
    }

    /// Whose request it is: everybody's, while there is no authentication (INTERFACES section 7).
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.0.tenant
    }

    /// A place to wait for something to happen; given back when dropped.
    pub(crate) fn place_to_wait(&self) -> Result<OwnedSemaphorePermit, Trouble> {
        place(
            &self.0.waiting,
            "too many requests are waiting",
            WAITING_MAX,
        )
    }

    /// A place for a stream of events; given back when dropped.
    pub(crate) fn place_to_stream(&self) -> Result<OwnedSemaphorePermit, Trouble> {
        place(
            &self.0.streams,
            "too many event streams are open",
            STREAMS_MAX,
        )
    }

    /// Room for so many bytes of a body on its way in; given back when dropped.
    pub(crate) fn room_to_arrive(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Trouble> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0.arriving).try_acquire_many_owned(bytes);
        room.map_err(|_| {
            busy(format!(
                "requests with more than {ARRIVING_BYTES_MAX} bytes are on their way: try again later"
            ))
        })
    }

    /// A turn to start an execution, given back when dropped; none after a while, which is no reason not to start.
    pub(crate) async fn turn_to_start(&self) -> Option<OwnedSemaphorePermit> {
        let starting = &self.0.starting;
        if let Ok(turn) = Arc::clone(starting).try_acquire_owned() {
            return Some(turn);
        }
        let turn = Arc::clone(starting).acquire_owned();
        tokio::time::timeout(TURN_WITHIN, turn).await.ok()?.ok()
    }

    /// Whoever waits stops waiting, every stream ends.
    pub(crate) fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    /// Returns once `drain` was called.
    pub(crate) async fn drained(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.0.draining.subscribe().wait_for(|drain| *drain).await;
    }
}

fn place(
    places: &Arc<Semaphore>,
    what: &str,
    limit: usize,
) -> Result<OwnedSemaphorePermit, Trouble> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        busy(format!(
            "{what} (at most {limit}): try again later, or without waiting"
        ))
    })
}

fn busy(detail: String) -> Trouble {
    Trouble::from(Refusal::Busy {
        detail,
        retry_after: PLACES_RETRY_AFTER,
    })
}
