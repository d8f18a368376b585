//! What was offered to the task queue and got lost on the way is offered again.

use std::sync::Arc;

use eventflow_domain::DurationMs;

use super::tick;
use crate::{engine::Inner, partition::Partition};

/// How often the queue is asked: an attempt that got lost is late by about as much.
const LOOK_EVERY: DurationMs = DurationMs(1_000);

/// Asks for what got lost of a partition for as long as its writer is there.
pub(super) async fn watch(inner: Arc<Inner>, partition: Arc<Partition>) {
    loop {
        tick(&*inner.backend.clock, LOOK_EVERY).await;
        match inner.backend.queue.lost(partition.id).await {
            Ok(lost) if lost.is_empty() => {}
            Ok(lost) => {
                tracing::info!(partition = %partition.id, tasks = lost.len(), "tasks got lost on their way to agents");
                if !partition.offer_again(lost).await {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(partition = %partition.id, %error, "the task queue does not tell what got lost, asking again");
            }
        }
        if partition.is_stopped() {
            return;
        }
    }
}
