//! Published events in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{EventPublisher, LifecycleEvent, PublishError};

use crate::lock;

/// The newest events that are kept to be looked at: a test's worth; older ones are forgotten.
pub const PUBLISHED_EVENTS_MAX: usize = 100_000;

/// Keeps what was published. A clone is another instance on the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryEventPublisher(Arc<Mutex<Published>>);

#[derive(Debug, Default)]
struct Published {
    events: VecDeque<LifecycleEvent>,
    positions: HashMap<PartitionId, Position>,
}

impl MemoryEventPublisher {
    /// What was published, in order, repeats included.
    pub fn published(&self) -> Vec<LifecycleEvent> {
        lock(&self.0).events.iter().cloned().collect()
    }
}

#[async_trait]
impl EventPublisher for MemoryEventPublisher {
    async fn publish(
        &self,
        partition: PartitionId,
        through: Position,
        events: Vec<LifecycleEvent>,
    ) -> Result<(), PublishError> {
        let mut published = lock(&self.0);
        published.events.extend(events);
        let surplus = published.events.len().saturating_sub(PUBLISHED_EVENTS_MAX);
        published.events.drain(..surplus);
        let position = published.positions.entry(partition).or_default();
        *position = through.max(*position);
        Ok(())
    }

    async fn position(&self, partition: PartitionId) -> Result<Position, PublishError> {
        let published = lock(&self.0);
        Ok(published
            .positions
            .get(&partition)
            .copied()
            .unwrap_or_default())
    }
}
