//! Which partitions must not be written any more, and why: told by whatever has failed, heard by everybody.

use std::{collections::BTreeMap, io, sync::Arc};

use eventflow_domain::PartitionId;
use tokio::sync::watch;

use crate::failure::{Failure, Severity};

/// Why partitions have failed, by partition.
pub(crate) type Failures = BTreeMap<PartitionId, String>;

/// Shared by everything that writes to a store. What has failed stays failed: only another opening may find it well.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    partitions: u16,
    failures: Arc<watch::Sender<Failures>>,
}

impl Health {
    /// With what had failed before.
    pub(crate) fn new(partitions: u16, failures: Failures) -> Self {
        Self {
            partitions,
            failures: Arc::new(watch::Sender::new(failures)),
        }
    }

    /// This partition has failed; its first reason stays.
    pub(crate) fn fail(&self, partition: PartitionId, failure: &Failure) {
        self.fail_each([partition], failure);
    }

    /// What all partitions share has failed.
    pub(crate) fn fail_all(&self, failure: &Failure) {
        self.fail_each((0..self.partitions).map(PartitionId), failure);
    }

    /// The same for an error of the operating system, where it is one to stop at.
    pub(crate) fn note(&self, doing: &str, error: &io::Error) {
        let failure = Failure::io(doing, error);
        if failure.severity() == Severity::Broken {
            self.fail_all(&failure);
        }
    }

    /// Why the partition must not be written any more, if so.
    pub(crate) fn of(&self, partition: PartitionId) -> Option<Failure> {
        let failures = self.failures.borrow();
        failures
            .get(&partition)
            .map(|reason| Failure::broken(reason))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Failures> {
        self.failures.subscribe()
    }

    fn fail_each(&self, partitions: impl IntoIterator<Item = PartitionId>, failure: &Failure) {
        self.failures.send_if_modified(|failures| {
            let before = failures.len();
            for partition in partitions {
                let reason = || failure.to_string();
                failures.entry(partition).or_insert_with(reason);
            }
            failures.len() > before
        });
    }
}
