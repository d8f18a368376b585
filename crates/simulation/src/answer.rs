//! Requests to an engine and what comes back, some turns later or never.

use std::{future::Future, sync::Arc};

use eventflow_adapter_memory::Faults;
use eventflow_domain::Sequence;
use eventflow_engine::{Engine, StartError};
use eventflow_ports::inbound::{
    Action, ExecutionView, HistoryPage, LeasedTask, ListPage, Refusal, ResultOutcome, Started,
};
use tokio::sync::Semaphore;

use crate::{
    agents::Sent,
    ledger::Key,
    lives::Life,
    run::{Request, Run},
};

/// What the driver hears.
pub(crate) enum Answer {
    Born(u32, Result<Engine, StartError>),
    Ended(u32),
    Started {
        by: Asked,
        start: usize,
        /// The same id with something else in it.
        is_impostor: bool,
        /// Whether its start had been acknowledged before.
        was_known: bool,
        answer: Result<Started, Refusal>,
    },
    Leased {
        by: Asked,
        agent: usize,
        /// What that engine had acknowledged to hold back.
        held: Vec<(Key, Sequence)>,
        answer: Result<Vec<LeasedTask>, Refusal>,
    },
    Brought {
        by: Asked,
        agent: usize,
        sent: Vec<Sent>,
        answer: Vec<ResultOutcome>,
    },
    Controlled {
        by: Asked,
        key: Key,
        action: Action,
        /// How often this engine had been asked to resume it; none while it was being asked.
        round: Option<u32>,
        answer: Result<ExecutionView, Refusal>,
    },
    Viewed {
        by: Asked,
        key: Key,
        /// Where it stood at least, as somebody was told.
        seen: Sequence,
        answer: Result<ExecutionView, Refusal>,
    },
    Listed {
        by: Asked,
        tenant: usize,
        known: Vec<Key>,
        answer: Result<ListPage, Refusal>,
    },
    Read {
        by: Asked,
        key: Key,
        seen: Sequence,
        answer: Result<HistoryPage, Refusal>,
    },
}

/// Who was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) life: u32,
    /// Whether it led when it was asked; what another one says may be old.
    pub(crate) led: bool,
}

/// A way to ask one engine.
pub(crate) struct Line {
    pub(crate) by: Asked,
    pub(crate) engine: Arc<Engine>,
    faults: Faults,
    gone: Arc<Semaphore>,
}

/// What is heard of a request: the dead tell nobody anything, not even that they are dead.
async fn heard<T>(
    faults: Faults,
    gone: Arc<Semaphore>,
    asking: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let answer = tokio::select! {
        biased;
        answer = asking => answer,
        _ = gone.acquire() => Err(Refusal::unavailable("the process is gone")),
    };
    if faults.tripped() {
        return Err(Refusal::unavailable("the connection broke"));
    }
    answer
}

impl Run {
    /// A line to whoever leads; at times to somebody who thinks so.
    pub(crate) fn line(&mut self) -> Option<Line> {
        let to_zombie = self.lives.zombie.is_some() && self.draw.happens(250);
        let line = |life: &Life, led| Line {
            by: Asked {
                life: life.number,
                led,
            },
            engine: life.engine.clone(),
            faults: life.faults.clone(),
            gone: life.gone.clone(),
        };
        match (&self.lives.zombie, &self.lives.leader) {
            (Some(zombie), _) if to_zombie => Some(line(zombie, false)),
            (_, Some(leader)) => Some(line(leader, true)),
            (_, None) => None,
        }
    }

    /// Asks meanwhile; the driver hears the answer in a later turn.
    pub(crate) fn ask<T: Send + 'static>(
        &mut self,
        line: Line,
        what: &'static str,
        asking: impl Future<Output = Result<T, Refusal>> + Send + 'static,
        answer: impl FnOnce(Asked, Result<T, Refusal>) -> Answer + Send + 'static,
    ) {
        let answers = self.answers.clone();
        self.last_request += 1;
        let number = self.last_request;
        let since = self.trace.turn();
        let request = Request {
            what,
            by: line.by,
            since,
        };
        self.under_way.insert(number, request);
        tokio::spawn(async move {
            let heard = heard(line.faults, line.gone, asking).await;
            let _ = answers.send((number, answer(line.by, heard)));
        });
    }
}
