//! The roll of nodes in memory: for several engines in one process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use eventflow_domain::{NodeName, PartitionId};
use eventflow_ports::{Held, Leadership, LeadershipError, Mark, Roll};
use tokio::sync::watch;

use crate::lock;

/// A roll in memory, a line per node and partition. A clone is another instance on the same store.
#[derive(Debug, Default)]
pub struct MemoryLeadership {
    shared: Arc<Shared>,
    /// The last change that this instance's `changed` has told of.
    told: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Counts the changes that are worth a look: all but the marks of nodes that are on the roll anyway.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    last_mark: u64,
    nodes: BTreeMap<NodeName, Mark>,
    partitions: BTreeMap<PartitionId, (Option<NodeName>, Mark)>,
}

impl State {
    fn next_mark(&mut self) -> Mark {
        self.last_mark += 1;
        Mark(self.last_mark)
    }

    /// Changes a partition's leader where its mark is still `seen`.
    fn lead(
        &mut self,
        partition: PartitionId,
        leader: Option<NodeName>,
        seen: Mark,
    ) -> Result<Mark, LeadershipError> {
        let held = self.partitions.get(&partition);
        if held.map_or(Mark::NONE, |(_, mark)| *mark) != seen {
            return Err(LeadershipError::Conflict);
        }
        let mark = self.next_mark();
        self.partitions.insert(partition, (leader, mark));
        Ok(mark)
    }
}

impl MemoryLeadership {
    fn tell(&self) {
        self.shared.changes.send_modify(|changes| *changes += 1);
    }
}

impl Clone for MemoryLeadership {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            told: AtomicU64::new(self.told.load(Ordering::Relaxed)),
        }
    }
}

#[async_trait]
impl Leadership for MemoryLeadership {
    async fn announce(&self, node: &NodeName) -> Result<(), LeadershipError> {
        let is_new = {
            let mut state = lock(&self.shared.state);
            let mark = state.next_mark();
            state.nodes.insert(node.clone(), mark).is_none()
        };
        if is_new {
            self.tell();
        }
        Ok(())
    }

    async fn leave(&self, node: &NodeName) -> Result<(), LeadershipError> {
        let was_there = lock(&self.shared.state).nodes.remove(node).is_some();
        if was_there {
            self.tell();
        }
        Ok(())
    }

    async fn roll(&self) -> Result<Roll, LeadershipError> {
        let state = lock(&self.shared.state);
        let nodes = state.nodes.iter();
        let partitions = state.partitions.iter();
        Ok(Roll {
            nodes: nodes.map(|(node, mark)| (node.clone(), *mark)).collect(),
            partitions: partitions
                .map(|(partition, (leader, mark))| Held {
                    partition: *partition,
                    leader: leader.clone(),
                    mark: *mark,
                })
                .collect(),
        })
    }

    async fn take(
        &self,
        partition: PartitionId,
        node: &NodeName,
        seen: Mark,
    ) -> Result<Mark, LeadershipError> {
        let mark = lock(&self.shared.state).lead(partition, Some(node.clone()), seen)?;
        self.tell();
        Ok(mark)
    }

    async fn release(&self, partition: PartitionId, held: Mark) -> Result<(), LeadershipError> {
        // What was never taken is not released.
        if held == Mark::NONE {
            return Err(LeadershipError::Conflict);
        }
        lock(&self.shared.state).lead(partition, None, held)?;
        self.tell();
        Ok(())
    }

    /// A change between two calls is told by the second one; one instance serves one waiter.
    async fn changed(&self) {
        let told = self.told.load(Ordering::Relaxed);
        let mut changes = self.shared.changes.subscribe();
        // Fails only where the sender is gone, which `self` holds.
        let news = changes.wait_for(|changes| *changes > told).await;
        self.told
            .store(news.map_or(told, |changes| *changes), Ordering::Relaxed);
    }
}
