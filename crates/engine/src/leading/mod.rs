//! A node among others on one store: it announces itself, leads its share of the partitions and asks others for the
//! rest (ADR 16).
//!
//! The roll decides who *should* lead, the journal's fence who *can*, and the lease who may *answer*.

mod copies;
mod lease;
mod offers;
mod plan;
mod rebalancer;
mod reign;

use std::{sync::Arc, time::Duration};

use eventflow_domain::{DurationMs, NodeName};
use eventflow_ports::{Clock, inbound::Refusal};
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use lease::Lease;

use crate::{
    backend::{Backend, Cluster},
    config::Config,
    engine::Inner,
    error::StartError,
    partition::Part,
    questions,
    seat::{Seat, Told},
};

/// How often a node says that it is alive, and how long it waits to be heard: twice and a half within a lease.
const ANNOUNCE_EVERY: DurationMs = DurationMs(1_000);
/// How often a leader elsewhere is asked how it stands, for `/v1/system`.
const STAND_EVERY: DurationMs = DurationMs(1_000);
/// The same, while one has not answered yet.
const STAND_SOON: DurationMs = DurationMs(50);

/// This node's place among the others.
pub(crate) struct Membership {
    pub(crate) cluster: Cluster,
    pub(crate) node: NodeName,
    pub(crate) lease: Lease,
    /// Why the others do not hear of this node.
    trouble: watch::Sender<Option<String>>,
}

/// Tells a node's rebalancer to go.
pub(crate) struct Departure(mpsc::Sender<oneshot::Sender<()>>);

impl Departure {
    /// Resolves once everything that was led here is handed over, and the node is off the roll.
    pub(crate) async fn go(&self) {
        let (gone, going) = oneshot::channel();
        if self.0.send(gone).await.is_ok() {
            // Fails where it has been aborted meanwhile.
            let _ = going.await;
        }
    }
}

impl Membership {
    /// None for a node that is alone on its store.
    pub(crate) fn of(backend: &Backend, config: &Config) -> Option<Self> {
        let cluster = backend.cluster.clone()?;
        Some(Self {
            cluster,
            node: config.node.clone(),
            lease: Lease::new(backend.clock.clone()),
            trouble: watch::channel(None).0,
        })
    }

    /// Refuses where the others have not heard of this node for so long that they may have taken over.
    pub(crate) fn accepts(&self) -> Result<(), Refusal> {
        match self.cut_off() {
            None => Ok(()),
            Some(reason) => Err(Refusal::unavailable(reason)),
        }
    }

    /// Why nothing is answered here, where it is so.
    pub(crate) fn cut_off(&self) -> Option<String> {
        if self.lease.holds() {
            return None;
        }
        let trouble = self.trouble.borrow().clone();
        Some(format!(
            "this node is out of touch with the others: {}",
            trouble.as_deref().unwrap_or("it is coming back")
        ))
    }

    /// Says once that this node is alive.
    async fn announce(&self, clock: &dyn Clock) -> Result<(), String> {
        let sent = clock.elapsed();
        let announcing = self.cluster.leadership.announce(&self.node);
        let within = Duration::from_millis(ANNOUNCE_EVERY.0);
        let outcome = match tokio::time::timeout(within, announcing).await {
            Ok(announced) => announced.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} ms", within.as_millis())),
        };
        if outcome.is_ok() {
            self.lease.renew(sent);
        }
        self.trouble.send_replace(outcome.clone().err());
        outcome
    }
}

/// Announces this node and begins to lead what falls to it. What is returned ends with the node.
pub(crate) async fn join(inner: &Arc<Inner>) -> Result<(Departure, Vec<Part>), StartError> {
    let Some(membership) = &inner.membership else {
        return Err(StartError::NotAnnounced("it is alone".to_owned()));
    };
    let announced = membership.announce(&*inner.backend.clock).await;
    announced.map_err(StartError::NotAnnounced)?;
    let (orders, ordered) = mpsc::channel(1);
    let rebalancer = rebalancer::Rebalancer::new(inner.clone(), ordered);
    let parts = vec![
        Part::start(announce(inner.clone())),
        Part::start(rebalancer.run()),
        Part::start(ask_around(inner.clone())),
    ];
    Ok((Departure(orders), parts))
}

/// Says that this node is alive, for ever.
async fn announce(inner: Arc<Inner>) {
    let (clock, Some(membership)) = (&*inner.backend.clock, &inner.membership) else {
        return;
    };
    loop {
        tick(clock, ANNOUNCE_EVERY).await;
        if let Err(error) = membership.announce(clock).await {
            tracing::warn!(node = %membership.node, error, "the others do not hear of this node, trying again");
        }
    }
}

/// Asks the leaders of what is not led here how they stand, for ever.
async fn ask_around(inner: Arc<Inner>) {
    loop {
        let asked = inner
            .seats
            .iter()
            .map(|seat| ask_how_it_stands(&inner, seat));
        let is_known = join_all(asked).await.into_iter().all(|is_known| is_known);
        let every = if is_known { STAND_EVERY } else { STAND_SOON };
        tick(&*inner.backend.clock, every).await;
    }
}

/// Whether it is known how a partition stands, as far as anybody leads it.
async fn ask_how_it_stands(inner: &Arc<Inner>, seat: &Seat) -> bool {
    let Told {
        leader: Some(leader),
        standing: before,
        ..
    } = seat.told()
    else {
        return true;
    };
    if seat.led().is_some() {
        return true;
    }
    let standing = inner.ask(seat.id, questions::Stand).await.ok().or(before);
    let is_known = standing.is_some();
    seat.tell(|told| {
        if told.leader.as_ref() == Some(&leader) {
            told.standing = standing;
        }
    });
    is_known
}

/// Waits for a moment by the clock, and no longer than that where somebody sets it back.
async fn tick(clock: &dyn Clock, span: DurationMs) {
    tokio::select! {
        biased;
        () = clock.sleep_until(clock.now().after(span)) => {}
        () = tokio::time::sleep(Duration::from_millis(span.0)) => {}
    }
}
