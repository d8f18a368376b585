//! Requests between nodes in memory: for several engines in one process.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::PartitionId;
use eventflow_ports::{Answering, MESSAGE_BYTES_MAX, PeerError, Peers, Responder};

use tokio::{sync::watch, time::Instant};

use crate::lock;

/// Who answers for which partition, in one table for the process. A clone is another node.
#[derive(Clone, Default)]
pub struct MemoryPeers(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    last: u64,
    /// In the order in which they began: the last one is asked, for whoever was there before it has been replaced.
    answering: HashMap<PartitionId, Vec<Answerer>>,
    /// Those that nothing reaches.
    cut_off: HashSet<u64>,
}

/// Whoever answers, by a number of its own.
#[derive(Clone)]
struct Answerer {
    id: u64,
    responder: Arc<dyn Responder>,
    /// Its sender goes with the place.
    place: watch::Receiver<()>,
}

impl Answerer {
    /// Resolves once its place is given up.
    async fn gone(&mut self) {
        while self.place.changed().await.is_ok() {}
    }
}

impl MemoryPeers {
    /// From now on no request reaches whoever answers for the partition now, nor does an answer come from there: who
    /// asks waits in vain, until another node answers for it or [`MemoryPeers::reconnect`] is called.
    pub fn cut_off(&self, partition: PartitionId) {
        let table = &mut *lock(&self.0);
        let answering = table.answering.get(&partition).into_iter().flatten();
        table.cut_off.extend(answering.map(|answerer| answerer.id));
    }

    /// Everybody is reached again.
    pub fn reconnect(&self) {
        lock(&self.0).cut_off.clear();
    }

    fn is_cut_off(&self, id: u64) -> bool {
        lock(&self.0).cut_off.contains(&id)
    }
}

#[async_trait]
impl Peers for MemoryPeers {
    async fn ask(
        &self,
        partition: PartitionId,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, PeerError> {
        bounded(&request)?;
        let last = lock(&self.0)
            .answering
            .get(&partition)
            .and_then(|answering| answering.last().cloned());
        let mut asked = last.ok_or(PeerError::Nobody)?;
        if self.is_cut_off(asked.id) {
            tokio::time::sleep(within).await;
            return Err(silence());
        }
        // A task of its own: who asked may go, the request is carried out.
        let responder = asked.responder.clone();
        let answering = tokio::spawn(async move { responder.respond(request).await });
        let since = Instant::now();
        let answered = tokio::select! {
            biased;
            () = asked.gone() => Err(PeerError::Gone),
            answered = tokio::time::timeout(within, answering) => answered.map_err(|_| silence()),
        };
        // Who was cut off meanwhile says nothing any more, not even that.
        if self.is_cut_off(asked.id) {
            tokio::time::sleep(within.saturating_sub(since.elapsed())).await;
            return Err(silence());
        }
        let answer = answered?.map_err(|panicked| PeerError::Unavailable(panicked.into()))?;
        bounded(&answer)?;
        Ok(answer)
    }

    async fn answer(
        &self,
        partition: PartitionId,
        responder: Arc<dyn Responder>,
    ) -> Result<Answering, PeerError> {
        let table = &mut *lock(&self.0);
        table.last += 1;
        let id = table.last;
        let (held, place) = watch::channel(());
        let answering = table.answering.entry(partition).or_default();
        answering.push(Answerer {
            id,
            responder,
            place,
        });
        Ok(Answering(Box::new(Place {
            peers: self.clone(),
            partition,
            id,
            _held: held,
        })))
    }
}

fn silence() -> PeerError {
    PeerError::Unavailable("no answer came in time".into())
}

fn bounded(message: &Bytes) -> Result<(), PeerError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(PeerError::TooLarge {
            limit: MESSAGE_BYTES_MAX,
        });
    }
    Ok(())
}

/// A responder's place in the table, given up when it is dropped.
struct Place {
    peers: MemoryPeers,
    partition: PartitionId,
    id: u64,
    _held: watch::Sender<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let table = &mut *lock(&self.peers.0);
        if let Some(answering) = table.answering.get_mut(&self.partition) {
            answering.retain(|answerer| answerer.id != self.id);
            if answering.is_empty() {
                table.answering.remove(&self.partition);
            }
        }
    }
}
