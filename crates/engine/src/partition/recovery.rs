//! Recovery: the view's open executions, and the tail of the journal replayed on top of them.

use std::sync::Arc;

use eventflow_domain::{
    Digest, PartitionId, Position, Tenant,
    execution::{Event, Execution},
    plan::Plan,
    record::{Chain, Entry, ExecutionEvents},
};
use eventflow_ports::{BlobError, JournalEntry, ReadError, ReadLimit, ViewPosition};

use super::{
    mend::pause,
    message::Key,
    resident::{Resident, Residents},
};
use crate::{backend::Backend, definitions::Definitions, error::StartError, frozen};

/// Among nodes, how often a journal that ends before what the view has seen is read again, 100 ms apart: a server that leads
/// it no longer, and does not know that, tells less than there is. NATS gives such a server 10 s.
const READ_AGAIN_MAX: usize = 150;

/// A partition as its journal leaves it.
pub(crate) struct Recovered {
    pub(crate) residents: Residents,
    pub(crate) chain: Chain,
    pub(crate) position: Position,
}

/// Reads everything that is still open.
pub(crate) async fn recover(
    partition: PartitionId,
    backend: &Backend,
    definitions: &Arc<Definitions>,
) -> Result<Recovered, StartError> {
    let recovery = Recovery {
        partition,
        backend,
        definitions,
    };
    let view = recovery.view_position().await?;
    let mut recovered = Recovered {
        residents: Residents::default(),
        chain: Chain::start(partition),
        position: view.replay_after,
    };
    if !recovery.open_rows(&mut recovered).await? {
        tracing::warn!(%partition, "the view's snapshots cannot be used: all of the journal is replayed");
        recovered.residents = Residents::default();
        recovered.position = Position(0);
    }
    recovery.continue_chain(&mut recovered).await?;
    let mut replayed = 0_usize;
    loop {
        let entries = recovery
            .read_on(recovered.position, ReadLimit::REPLAY, view.through)
            .await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            recovery.replay(&mut recovered, &entry).await?;
            replayed += 1;
        }
    }
    if recovered.position < view.through {
        return Err(StartError::JournalBehindView {
            partition,
            head: recovered.position,
            view: view.through,
        });
    }
    recovery.ready(&mut recovered).await?;
    tracing::info!(%partition, replayed, open = recovered.residents.len(), "recovered");
    Ok(recovered)
}

struct Recovery<'a> {
    partition: PartitionId,
    backend: &'a Backend,
    definitions: &'a Arc<Definitions>,
}

impl Recovery<'_> {
    async fn view_position(&self) -> Result<ViewPosition, StartError> {
        self.backend
            .view
            .position(self.partition)
            .await
            .map_err(|error| self.unreadable(&error))
    }

    /// False where a snapshot is of another version or damaged: nothing of them can be used then.
    async fn open_rows(&self, recovered: &mut Recovered) -> Result<bool, StartError> {
        let rows = self
            .backend
            .view
            .open(self.partition)
            .await
            .map_err(|error| self.unreadable(&error))?;
        crate::meters::rows_read(rows.len());
        for row in rows {
            let Some(state) = &row.state else { continue };
            let Ok(thawed) = frozen::thaw(state) else {
                return Ok(false);
            };
            let execution = thawed.execution;
            let plan = self
                .plan(&execution.tenant, &execution.requested.digest)
                .await?;
            let key = Key {
                tenant: execution.tenant.clone(),
                id: execution.id.clone(),
            };
            let mut resident = Resident::new(execution, plan);
            resident.durable = resident.execution.sequence;
            resident.positions = thawed.positions;
            recovered.residents.insert(key, resident);
        }
        Ok(true)
    }

    /// Takes up the chain at the record before the first to be replayed.
    async fn continue_chain(&self, recovered: &mut Recovered) -> Result<(), StartError> {
        let Some(before) = recovered.position.0.checked_sub(1) else {
            return Ok(());
        };
        let entries = self
            .read_on(Position(before), ReadLimit::ONE, recovered.position)
            .await?;
        let Some(entry) = entries.first() else {
            let (partition, view) = (self.partition, recovered.position);
            return Err(StartError::JournalBehindView {
                partition,
                head: Position(before),
                view,
            });
        };
        recovered.chain = Chain::at(self.partition, &entry.record)
            .map_err(|fault| self.damaged(entry, &fault))?;
        Ok(())
    }

    async fn replay(
        &self,
        recovered: &mut Recovered,
        entry: &JournalEntry,
    ) -> Result<(), StartError> {
        if entry.position != recovered.position.next() {
            return Err(StartError::Hole {
                partition: self.partition,
                after: recovered.position,
            });
        }
        let record = recovered
            .chain
            .follow(&entry.record)
            .map_err(|fault| self.damaged(entry, &fault))?;
        recovered.position = entry.position;
        for part in record.entries {
            if let Entry::Execution(events) = part {
                self.fold(recovered, entry, &events).await?;
            }
        }
        Ok(())
    }

    async fn fold(
        &self,
        recovered: &mut Recovered,
        entry: &JournalEntry,
        written: &ExecutionEvents,
    ) -> Result<(), StartError> {
        let key = Key {
            tenant: written.tenant.clone(),
            id: written.execution.clone(),
        };
        let at = recovered.chain.time;
        let mut folded = None;
        for (sequence, event) in written
            .parse()
            .map_err(|fault| self.damaged(entry, &fault))?
        {
            if let Event::ExecutionRequested(requested) = &event {
                if recovered.residents.get(&key).is_none() {
                    let plan = self.plan(&key.tenant, &requested.digest).await?;
                    let (tenant, id) = (key.tenant.clone(), key.id.clone());
                    let execution = Execution::requested(tenant, id, requested.clone(), at);
                    recovered
                        .residents
                        .insert(key.clone(), Resident::new(execution, plan));
                    folded = Some(sequence);
                }
            } else if let Some(resident) = recovered.residents.get_mut(&key)
                && sequence > resident.execution.sequence
            {
                Arc::make_mut(&mut resident.execution).evolve(&event, at);
                folded = Some(sequence);
                crate::meters::events_folded(1);
            }
            // Otherwise its snapshot covers it, or it has ended and the view holds it.
        }
        if let Some(through) = folded {
            recovered
                .residents
                .committed(&key, through, entry.position, at);
        }
        Ok(())
    }

    /// Loads what expressions may look into, and marks whatever may have consequences.
    async fn ready(&self, recovered: &mut Recovered) -> Result<(), StartError> {
        for key in recovered.residents.keys() {
            let Some(resident) = recovered.residents.get_mut(&key) else {
                continue;
            };
            let execution = Arc::make_mut(&mut resident.execution);
            for digest in execution.missing() {
                let text = load(self.backend, &key.tenant, &digest)
                    .await
                    .map_err(|error| self.unreadable(&error))?;
                execution.load(&digest, &text);
            }
            execution.unsettle();
        }
        Ok(())
    }

    /// What follows. A record that the view has seen is there.
    async fn read_on(
        &self,
        after: Position,
        limit: ReadLimit,
        seen: Position,
    ) -> Result<Vec<JournalEntry>, StartError> {
        let mut again = match self.backend.cluster {
            Some(_) => READ_AGAIN_MAX,
            None => 0,
        };
        loop {
            let entries = self.read(after, limit).await?;
            if !entries.is_empty() || after >= seen || again == 0 {
                return Ok(entries);
            }
            if again == READ_AGAIN_MAX {
                tracing::warn!(partition = %self.partition, %after, %seen, "the journal tells less than the view has seen, reading again");
            }
            again -= 1;
            pause(self.backend).await;
        }
    }

    async fn read(
        &self,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, StartError> {
        loop {
            match self
                .backend
                .journal
                .read(self.partition, after, limit)
                .await
            {
                Ok(entries) => return Ok(entries),
                Err(ReadError::Unavailable(error)) => {
                    tracing::warn!(partition = %self.partition, %error, "the journal cannot be read, trying again");
                    pause(self.backend).await;
                }
                Err(ReadError::Fatal(error)) => {
                    let detail = format!("what follows record {after} cannot be read: {error}");
                    return Err(self.unreadable(&detail));
                }
            }
        }
    }

    async fn plan(&self, tenant: &Tenant, digest: &Digest) -> Result<Arc<Plan>, StartError> {
        self.definitions
            .plan_of(tenant, digest)
            .await
            .map_err(|refusal| self.unreadable(&refusal))
    }

    fn unreadable(&self, error: &impl std::fmt::Display) -> StartError {
        StartError::Unreadable {
            partition: self.partition,
            detail: error.to_string(),
        }
    }

    fn damaged(&self, entry: &JournalEntry, fault: &impl std::fmt::Display) -> StartError {
        StartError::Damaged {
            partition: self.partition,
            position: entry.position,
            detail: fault.to_string(),
        }
    }
}

/// The text of a large value.
pub(crate) async fn load(
    backend: &Backend,
    tenant: &Tenant,
    digest: &Digest,
) -> Result<eventflow_domain::Json, String> {
    loop {
        match backend.blobs.get(tenant, digest).await {
            Ok(Some(bytes)) => {
                let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
                return eventflow_domain::Json::parse(text).map_err(|error| error.to_string());
            }
            Ok(None) => {
                return Err(format!(
                    "blob {digest} is missing: restore it from a backup"
                ));
            }
            Err(BlobError::Unavailable(_)) => pause(backend).await,
            Err(error @ BlobError::Corrupt { .. }) => return Err(error.to_string()),
        }
    }
}
