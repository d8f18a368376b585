//! What was offered through one instance and is not settled, so that it can tell what got lost.

use std::collections::HashMap;

use eventflow_domain::PartitionId;
use eventflow_ports::{OfferedAttempt, TaskOffer};

/// Attempts that are watched, each with whether it was missing when the last look was taken.
///
/// An attempt is lost where it is missing in two looks in a row: whoever took it has the time between them to begin it.
#[derive(Debug, Default)]
pub(super) struct Watched(HashMap<PartitionId, HashMap<OfferedAttempt, bool>>);

impl Watched {
    pub(super) fn watch(&mut self, task: &TaskOffer) {
        let partition = self.0.entry(task.partition).or_default();
        partition.insert(task.offered(), false);
    }

    pub(super) fn settle(&mut self, attempt: &OfferedAttempt) {
        if let Some(partition) = self.0.get_mut(&attempt.partition) {
            partition.remove(attempt);
        }
    }

    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.0.remove(&partition);
    }

    /// Takes a look; what is lost is not watched any more.
    pub(super) fn lost(
        &mut self,
        partition: PartitionId,
        is_here: impl Fn(&OfferedAttempt) -> bool,
    ) -> Vec<OfferedAttempt> {
        let Some(attempts) = self.0.get_mut(&partition) else {
            return Vec::new();
        };
        let mut lost = Vec::new();
        attempts.retain(|attempt, was_missing| {
            let is_missing = !is_here(attempt);
            let is_lost = is_missing && *was_missing;
            if is_lost {
                lost.push(attempt.clone());
            }
            *was_missing = is_missing;
            !is_lost
        });
        lost.sort_unstable();
        lost
    }
}
