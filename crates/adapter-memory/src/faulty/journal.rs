//! The journal's decorator: an append is handed over before the call returns, and what builds on a failed one fails.

use std::future;

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{AppendError, Appending, Journal, JournalEntry, ReadError, ReadLimit};

use super::{Faults, Faulty, Injected};
use crate::lock;

#[async_trait]
impl<T: Journal + ?Sized + 'static> Journal for Faulty<T> {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        let pass = match self.faults.call("Journal", "append") {
            Ok(pass) if pass.fails.is_some() => {
                self.faults.break_after(partition, expected);
                pass
            }
            Ok(pass) if self.faults.is_broken(partition, expected) => {
                return refused(pass.injected);
            }
            Ok(pass) => pass,
            Err(injected) => {
                self.faults.break_after(partition, expected);
                return refused(injected);
            }
        };
        let appending = self.inner.append(partition, expected, record);
        Box::pin(async move {
            let outcome = appending.await;
            pass.done()
                .map_err(|injected| AppendError::Unavailable(injected.into()))?;
            outcome
        })
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        self.faults.mend(partition);
        let read = self.inner.read(partition, after, limit);
        self.faults
            .run(("Journal", "read"), ReadError::Unavailable, read)
            .await
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        self.faults.mend(partition);
        let head = self.inner.head(partition);
        self.faults
            .run(("Journal", "head"), ReadError::Unavailable, head)
            .await
    }
}

fn refused(injected: Injected) -> Appending {
    Box::pin(future::ready(Err(AppendError::Unavailable(
        injected.into(),
    ))))
}

/// Clause 5 of the port: whoever lost an answer hands over nothing more that builds on it.
impl Faults {
    /// The append that named `expected` failed.
    fn break_after(&self, partition: PartitionId, expected: Position) {
        lock(&self.0.state)
            .broken
            .insert(partition, expected.next());
    }

    /// Whether this append builds on one that failed; if so, the next one builds on this one. An append anywhere else
    /// is a writer that began again.
    fn is_broken(&self, partition: PartitionId, expected: Position) -> bool {
        let mut state = lock(&self.0.state);
        let is_broken = state.broken.remove(&partition) == Some(expected);
        if is_broken {
            state.broken.insert(partition, expected.next());
        }
        is_broken
    }

    /// The writer looks what became of it.
    fn mend(&self, partition: PartitionId) {
        lock(&self.0.state).broken.remove(&partition);
    }
}
