//! The stream of one execution: its history after a point, then what follows, up to its end, wherever it is led.

use std::sync::Arc;

use eventflow_domain::{PartitionId, Position, Sequence, Timestamp, execution::Event};
use eventflow_ports::{LifecycleEvent, inbound::Refusal};
use tokio::sync::{broadcast, mpsc};

use crate::{
    engine::Inner,
    folded::Folding,
    follow::{POLL_WAIT, Patience},
    history,
    lifecycle::{is_terminal, lifecycle},
    partition::{Committed, Key, Partition, Tail},
    questions,
};

/// A stream of one execution: its history after a point, then what follows, up to its end.
pub(crate) struct Watch {
    inner: Arc<Inner>,
    key: Key,
    sent: Sequence,
    events: mpsc::Sender<Result<LifecycleEvent, Refusal>>,
}

/// Why a watch does not go on as it did, other than that nobody answers for the partition.
enum Turn {
    /// The stream is over, or nobody listens any more.
    Over,
    /// It begins again from the history, after what was sent.
    Again,
}

impl Watch {
    pub(crate) fn new(
        inner: Arc<Inner>,
        key: Key,
        sent: Sequence,
        events: mpsc::Sender<Result<LifecycleEvent, Refusal>>,
    ) -> Self {
        Self {
            inner,
            key,
            sent,
            events,
        }
    }

    pub(crate) async fn run(mut self) {
        let home = self.inner.home(&self.key);
        let mut patience = Patience::of(&self.inner);
        loop {
            let sent = self.sent;
            let turn = match self.inner.led(home) {
                Some(partition) => self.follow_here(&partition).await,
                None => self.follow_elsewhere(home).await,
            };
            if self.sent > sent {
                patience.renew();
            }
            match turn {
                Ok(Turn::Over) => return,
                Ok(Turn::Again) => {}
                Err(refusal) => {
                    if !patience.bears(&refusal).await {
                        let _ = self.events.send(Err(refusal)).await;
                        return;
                    }
                }
            }
        }
    }

    /// Follows the writer in this process.
    async fn follow_here(&mut self, partition: &Partition) -> Result<Turn, Refusal> {
        let mut live = partition.follow();
        let mut folding = Folding::default();
        let history = self.inner.events_of(&self.key).await?;
        if !self.pass_history(&mut folding, &history).await? {
            return Ok(Turn::Over);
        }
        loop {
            let tail = tokio::select! {
                biased;
                tail = live.recv() => tail,
                () = self.events.closed() => return Ok(Turn::Over),
            };
            match tail {
                Ok(tail) => {
                    if !self.pass_record(&mut folding, &tail).await? {
                        return Ok(Turn::Over);
                    }
                }
                // Fell behind.
                Err(broadcast::error::RecvError::Lagged(_)) => return Ok(Turn::Again),
                Err(broadcast::error::RecvError::Closed) => return Err(partition.lost()),
            }
        }
    }

    /// Asks whoever leads the partition which records to read, until it is led here.
    async fn follow_elsewhere(&mut self, home: PartitionId) -> Result<Turn, Refusal> {
        let mut folding = Folding::default();
        let mut passed = Position(0);
        while self.inner.led(home).is_none() {
            let trace = questions::Trace {
                key: self.key.clone(),
                after: passed,
                wait: POLL_WAIT,
            };
            let asked = tokio::select! {
                biased;
                asked = self.inner.ask(home, trace) => asked,
                () = self.events.closed() => return Ok(Turn::Over),
            };
            let positions = asked?;
            passed = positions.last().copied().unwrap_or(passed);
            let events = history::events(&self.inner.backend, home, &self.key, &positions).await?;
            if !self.pass_history(&mut folding, &events).await? {
                return Ok(Turn::Over);
            }
        }
        Ok(Turn::Again)
    }

    async fn pass_history(
        &mut self,
        folding: &mut Folding,
        history: &[history::Written],
    ) -> Result<bool, Refusal> {
        for history::Written {
            sequence,
            time,
            event,
            ..
        } in history
        {
            if !self.pass(folding, *sequence, event, *time).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn pass_record(&mut self, folding: &mut Folding, tail: &Tail) -> Result<bool, Refusal> {
        let key = self.key.clone();
        for committed in tail.events.iter().filter(|committed| committed.key == key) {
            for (sequence, event) in (committed.first.0..).map(Sequence).zip(&committed.events) {
                if !self.pass(folding, sequence, event, tail.time).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Folds the next event and sends its public form; false when the stream is over.
    async fn pass(
        &mut self,
        folding: &mut Folding,
        sequence: Sequence,
        event: &Event,
        time: Timestamp,
    ) -> Result<bool, Refusal> {
        let known = folding
            .get(&self.key)
            .map_or(Sequence(0), |folded| folded.execution.sequence);
        if sequence <= known {
            return Ok(true);
        }
        let definitions = &self.inner.definitions;
        let folded = folding.fold(definitions, &self.key, event, time).await?;
        let public = folded.and_then(|folded| lifecycle(folded, sequence, event, time));
        let Some(public) = public else {
            return Ok(true);
        };
        let is_last = is_terminal(public.kind);
        if sequence > self.sent {
            self.sent = sequence;
            if self.events.send(Ok(public)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(!is_last)
    }
}

impl Inner {
    /// The records of an execution of this partition after one, as soon as there are any, or none after a while.
    pub(crate) async fn trace(
        &self,
        partition: &Partition,
        trace: &questions::Trace,
    ) -> Result<Vec<Position>, Refusal> {
        let mut live = partition.follow();
        let mut positions = self.find(partition, &trace.key, true).await?.positions;
        positions.retain(|position| *position > trace.after);
        if !positions.is_empty() {
            return Ok(positions);
        }
        let next = async {
            loop {
                match live.recv().await {
                    Ok(tail) => {
                        let is_in_it = |committed: &Committed| committed.key == trace.key;
                        if tail.position > trace.after && tail.events.iter().any(is_in_it) {
                            return Ok(vec![tail.position]);
                        }
                    }
                    // Fell behind: whoever asks, asks again.
                    Err(broadcast::error::RecvError::Lagged(_)) => return Ok(Vec::new()),
                    Err(broadcast::error::RecvError::Closed) => return Err(partition.lost()),
                }
            }
        };
        let waited = tokio::time::timeout(trace.wait, next).await;
        waited.unwrap_or_else(|_| Ok(Vec::new()))
    }
}
