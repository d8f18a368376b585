//! Who waits for tasks, in the order they came.

use std::collections::{BTreeSet, HashMap};

use eventflow_domain::Capability;
use eventflow_ports::TaskOffer;
use tokio::sync::oneshot;

/// A taker's number; a lower one has waited longer.
pub(super) type TakerId = u64;

/// One tenant's takers: as many as there are open requests, which who opens them bounds.
#[derive(Debug, Default)]
pub(super) struct Takers {
    /// Those that were not served yet.
    lines: HashMap<Capability, BTreeSet<TakerId>>,
    /// Those, and those that were served and did not fetch it yet.
    all: HashMap<TakerId, Taker>,
    last: TakerId,
}

/// What somebody waits for.
#[derive(Debug)]
pub(super) struct Taker {
    pub(super) capabilities: Vec<Capability>,
    pub(super) max: usize,
    pub(super) handed_over: Vec<TaskOffer>,
    /// `None` once served.
    wake: Option<oneshot::Sender<()>>,
}

impl Takers {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Joins the line of each capability, at the end.
    pub(super) fn join(
        &mut self,
        capabilities: &[Capability],
        max: usize,
    ) -> (TakerId, oneshot::Receiver<()>) {
        self.last += 1;
        let id = self.last;
        for capability in capabilities {
            let line = self.lines.entry(capability.clone()).or_default();
            line.insert(id);
        }
        let (wake, woken) = oneshot::channel();
        let taker = Taker {
            capabilities: capabilities.to_vec(),
            max,
            handed_over: Vec::new(),
            wake: Some(wake),
        };
        self.all.insert(id, taker);
        (id, woken)
    }

    /// The one to be served next with tasks of a capability.
    pub(super) fn longest_waiting(&self, capability: &Capability) -> Option<(TakerId, &Taker)> {
        let id = *self.lines.get(capability)?.first()?;
        self.all.get(&id).map(|taker| (id, taker))
    }

    /// Serves a taker: it is in no line any more, and what comes back wakes it.
    pub(super) fn hand_over(
        &mut self,
        id: TakerId,
        tasks: Vec<TaskOffer>,
    ) -> Option<oneshot::Sender<()>> {
        let taker = self.all.get_mut(&id)?;
        taker.handed_over = tasks;
        let wake = taker.wake.take();
        remove(&mut self.lines, &taker.capabilities, id);
        wake
    }

    /// The taker goes, with what was handed over to it.
    pub(super) fn leave(&mut self, id: TakerId) -> Option<Taker> {
        let taker = self.all.remove(&id)?;
        remove(&mut self.lines, &taker.capabilities, id);
        Some(taker)
    }
}

fn remove(
    lines: &mut HashMap<Capability, BTreeSet<TakerId>>,
    capabilities: &[Capability],
    id: TakerId,
) {
    for capability in capabilities {
        if let Some(line) = lines.get_mut(capability) {
            line.remove(&id);
            if line.is_empty() {
                lines.remove(capability);
            }
        }
    }
}
