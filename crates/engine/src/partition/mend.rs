//! When the journal or the blob store does not answer: state is never unwound, the truth is read back.

use std::collections::BTreeMap;

use bytes::Bytes;
use eventflow_domain::{Digest, PartitionId, Position, Tenant};
use eventflow_ports::{AppendError, ReadError, ReadLimit};
use tokio::sync::watch;

use super::{
    State, Status,
    writer::{Stop, Writer},
};
use crate::{backend::Backend, config::RETRY_PAUSE};

/// What the journal holds where a record should be.
enum Found {
    Mine,
    Nothing,
    Anothers,
}

impl Writer {
    /// An append was not acknowledged: closes the intake and settles every record under way, in order.
    pub(crate) async fn mend(&mut self, error: &AppendError) -> Result<(), Stop> {
        if let AppendError::TooLarge { limit } = error {
            return Err(Stop::Fatal(format!(
                "a record is larger than the journal's limit of {limit} bytes"
            )));
        }
        tracing::warn!(partition = %self.partition, %error, "an append was not acknowledged, reading back");
        self.set_state(State::Stalled(format!(
            "the journal does not answer: {error}"
        )));
        let read_back = ReadBack {
            backend: self.backend.clone(),
            partition: self.partition,
        };
        while let Some(record) = self.in_flight.pop_front() {
            read_back.settle(record.position, &record.bytes).await?;
            self.commit(record);
        }
        Ok(())
    }
}

/// Finds out what became of records whose append was not acknowledged.
struct ReadBack {
    backend: Backend,
    partition: PartitionId,
}

impl ReadBack {
    /// Returns once the record is durable at its position.
    async fn settle(&self, position: Position, record: &Bytes) -> Result<(), Stop> {
        let expected = Position(position.0 - 1);
        loop {
            match self.found(expected, record).await? {
                Found::Mine => return Ok(()),
                Found::Anothers => return Err(Stop::Fenced),
                Found::Nothing => {}
            }
            match self
                .backend
                .journal
                .append(self.partition, expected, record.clone())
                .await
            {
                Ok(_) => return Ok(()),
                // Perhaps our own first try: look again.
                Err(AppendError::Conflict | AppendError::Unavailable(_)) => {
                    pause(&self.backend).await;
                }
                Err(error @ (AppendError::Fatal(_) | AppendError::TooLarge { .. })) => {
                    return Err(Stop::Fatal(error.to_string()));
                }
            }
        }
    }

    async fn found(&self, before: Position, record: &Bytes) -> Result<Found, Stop> {
        loop {
            match self
                .backend
                .journal
                .read(self.partition, before, ReadLimit::ONE)
                .await
            {
                Ok(entries) => {
                    return Ok(match entries.first() {
                        Some(entry) if entry.record == *record => Found::Mine,
                        Some(_) => Found::Anothers,
                        None => Found::Nothing,
                    });
                }
                Err(ReadError::Unavailable(_)) => pause(&self.backend).await,
                Err(ReadError::Fatal(source)) => return Err(Stop::Fatal(source.to_string())),
            }
        }
    }
}

/// Stores large values, for as long as it takes: nothing that mentions them is appended before.
/// Meanwhile the intake is closed; the commit of the batch opens it again.
pub(crate) async fn store(
    backend: Backend,
    blobs: BTreeMap<(Tenant, Digest), Bytes>,
    status: watch::Sender<Status>,
) {
    for ((tenant, digest), bytes) in blobs {
        while let Err(error) = backend.blobs.put(&tenant, &digest, bytes.clone()).await {
            let reason = format!("a large value cannot be stored: {error}");
            status.send_if_modified(|status| {
                let is_news = status.state == State::Leading;
                if is_news {
                    tracing::warn!(%digest, %error, "a large value could not be stored, trying again");
                    status.state = State::Stalled(reason);
                }
                is_news
            });
            pause(&backend).await;
        }
    }
}

/// A moment, before a store is asked again.
pub(crate) async fn pause(backend: &Backend) {
    let at = backend.clock.now().after(RETRY_PAUSE);
    backend.clock.sleep_until(at).await;
}
