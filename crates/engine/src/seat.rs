//! A partition as this node sees it: led here, led by another node, or by nobody.

use std::sync::Arc;

use eventflow_domain::{Epoch, NodeName, PartitionId, Position};
use eventflow_ports::Mark;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::partition::Partition;

/// The place of a partition's leader, and what is known of whoever has it.
pub(crate) struct Seat {
    pub(crate) id: PartitionId,
    led: watch::Sender<Option<Arc<Partition>>>,
    told: watch::Sender<Told>,
}

/// What is known of a partition that is not led here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// A live node that has it, as the roll says.
    pub(crate) leader: Option<NodeName>,
    /// Another one each time it is taken, be it by the same node.
    pub(crate) mark: Mark,
    /// What that node has said last; nothing before it has answered.
    pub(crate) standing: Option<Standing>,
    /// Why this node gave it up or could not lead it.
    pub(crate) reason: Option<String>,
}

/// What a leader says of its partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) epoch: Epoch,
    pub(crate) position: Position,
    /// Why it does not write, where it does not.
    pub(crate) reason: Option<String>,
}

impl Seat {
    pub(crate) fn vacant(id: PartitionId) -> Self {
        Self {
            id,
            led: watch::channel(None).0,
            told: watch::channel(Told::default()).0,
        }
    }

    pub(crate) fn taken(partition: Partition) -> Self {
        let seat = Self::vacant(partition.id);
        seat.take(Arc::new(partition));
        seat
    }

    /// The partition, where it is led here.
    pub(crate) fn led(&self) -> Option<Arc<Partition>> {
        self.led.borrow().clone()
    }

    /// It is led here from now on.
    pub(crate) fn take(&self, partition: Arc<Partition>) {
        self.led.send_replace(Some(partition));
    }

    /// It is not led here any more.
    pub(crate) fn vacate(&self) {
        self.led.send_replace(None);
    }

    pub(crate) fn told(&self) -> Told {
        self.told.borrow().clone()
    }

    /// Notes something about the partition.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Told)) {
        self.told.send_if_modified(|told| {
            let before = told.clone();
            change(told);
            *told != before
        });
    }

    /// Resolves once it is led anew, here or elsewhere.
    pub(crate) async fn succession(&self) {
        let (mut led, mut told) = (self.led.subscribe(), self.told.subscribe());
        let mark = told.borrow_and_update().mark;
        let is_other = |told: &Told| told.leader.is_some() && told.mark != mark;
        // Neither sender goes before `self`.
        tokio::select! {
            biased;
            _ = led.wait_for(Option::is_some) => {}
            _ = told.wait_for(is_other) => {}
        }
    }

    /// Resolves once it is led here, or a moment has passed.
    pub(crate) async fn await_change(&self, within: std::time::Duration) {
        let mut led = self.led.subscribe();
        led.mark_unchanged();
        if led.borrow().is_none() {
            let _ = tokio::time::timeout(within, led.changed()).await;
        } else {
            tokio::time::sleep(within).await;
        }
    }
}
