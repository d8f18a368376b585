//! Ready attempts on their way to agents: offered to the task queue, watched there, and offered again where they got
//! lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
};

use eventflow_domain::{
    Attempt, Capability, PartitionId, Sequence, TaskReference,
    execution::{Dispatch, Event, Execution, Work},
};
use eventflow_ports::{OfferedAttempt, QueueError, TaskOffer};
use futures::FutureExt;

use super::{
    message::Key,
    writer::{Offering, Writer},
};
use crate::{
    config::RETRY_PAUSE,
    token::{Named, Tokens},
};

impl Writer {
    /// Offers what is ready, beside whatever else the writer does: a queue may be slow.
    pub(crate) fn offer(&mut self) {
        if self.unoffered.is_empty()
            || self.offering.is_some()
            || self.backend.clock.now() < self.next_offer
        {
            return;
        }
        let tasks = std::mem::take(&mut self.unoffered);
        let (queue, offers) = (self.backend.queue.clone(), tasks.clone());
        let mut offered: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(async move { queue.offer(offers).await });
        // One that is not slow has it at once.
        let at_once = (&mut offered).now_or_never();
        self.offering = Some(Offering { tasks, offered });
        if let Some(outcome) = at_once {
            self.offered(outcome);
        }
    }

    /// The queue has answered: what it did not take stays for later, before what has become ready since.
    pub(crate) fn offered(&mut self, outcome: Result<(), QueueError>) {
        let Some(Offering { mut tasks, .. }) = self.offering.take() else {
            return;
        };
        if let Err(error) = outcome {
            tracing::warn!(partition = %self.partition, %error, "ready tasks could not be queued, trying again");
            tasks.append(&mut self.unoffered);
            self.unoffered = tasks;
            self.next_offer = self.backend.clock.now().after(RETRY_PAUSE);
        }
    }

    /// Offers again what has got lost, as far as it is still wanted.
    pub(crate) fn offer_again(&mut self, lost: Vec<OfferedAttempt>) {
        let mut by_execution: BTreeMap<Key, BTreeSet<(TaskReference, Attempt)>> = BTreeMap::new();
        for attempt in lost {
            let key = Key::new(&attempt.tenant, &attempt.execution);
            let attempts = by_execution.entry(key).or_default();
            attempts.insert((attempt.task, attempt.attempt));
        }
        for (key, mut lost) in by_execution {
            let offers = self.wanted(&key, &mut lost);
            self.unoffered.extend(offers);
            for (task, attempt) in lost {
                self.settle(&key, &task, attempt);
            }
        }
    }

    /// Offers of the attempts that are still owed and that nobody has begun; what is not stays in `lost`.
    fn wanted(&self, key: &Key, lost: &mut BTreeSet<(TaskReference, Attempt)>) -> Vec<TaskOffer> {
        let Some(resident) = self.residents.get(key) else {
            return Vec::new();
        };
        let execution = &resident.execution;
        // What comes after has not been offered yet.
        let offered =
            (execution.owed(Sequence(0))).take_while(|owed| owed.sequence <= resident.performed);
        let mut offers = Vec::new();
        for owed in offered {
            if let Some(Work::Agent { capability, .. }) = &owed.task.work
                && owed.task.agent.is_none()
                && lost.remove(&(owed.reference.clone(), owed.task.attempt))
            {
                let tokens = &self.links.tokens;
                offers.push(task_offer(
                    tokens,
                    self.partition,
                    execution,
                    &owed,
                    capability,
                ));
            }
        }
        offers
    }

    /// The queue need not watch this attempt any more. Alone on its store, a node's queue is its own memory, in which
    /// nothing gets lost.
    pub(crate) fn settle(&self, key: &Key, task: &TaskReference, attempt: Attempt) {
        if self.backend.cluster.is_none() {
            return;
        }
        self.backend.queue.settle(&OfferedAttempt {
            partition: self.partition,
            tenant: key.tenant.clone(),
            execution: key.id.clone(),
            task: task.clone(),
            attempt,
        });
    }

    /// Attempts that ended without having been begun are wanted no more.
    pub(crate) fn settle_ended(&self, key: &Key, events: &[Event]) {
        if self.backend.cluster.is_none() {
            return;
        }
        for event in events {
            match event {
                Event::RetryScheduled { task, attempt, .. } => self.settle(key, task, *attempt),
                Event::TaskCancelled { task }
                | Event::TaskTimedOut { task, .. }
                | Event::TaskFaulted { task, .. } => {
                    let resident = self.residents.get(key);
                    let tasks = resident.map(|resident| &resident.execution.tasks);
                    if let Some(state) = tasks.and_then(|tasks| tasks.get(task)) {
                        self.settle(key, task, state.attempt);
                    }
                }
                // Those that go on, and those whose attempt somebody has begun.
                _ => {}
            }
        }
    }
}

/// What agents are offered.
pub(crate) fn task_offer(
    tokens: &Tokens,
    partition: PartitionId,
    execution: &Execution,
    owed: &Dispatch<'_>,
    capability: &Capability,
) -> TaskOffer {
    let named = Named {
        execution: execution.id.clone(),
        task: owed.reference.clone(),
        attempt: owed.task.attempt,
    };
    TaskOffer {
        token: tokens.sign(&execution.tenant, &named).0,
        tenant: execution.tenant.clone(),
        capability: capability.clone(),
        partition,
        execution: execution.id.clone(),
        task: owed.reference.clone(),
        attempt: owed.task.attempt,
        workflow: execution.requested.workflow.clone(),
        input: owed.task.work_input().clone(),
        ready_at: owed.task.ready_at.unwrap_or_default(),
        traceparent: execution.requested.traceparent.clone(),
    }
}
