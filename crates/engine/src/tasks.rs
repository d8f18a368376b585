//! The `Tasks` port: leasing attempts and bringing their results.

use std::collections::BTreeMap;

use async_trait::async_trait;
use eventflow_domain::{
    PartitionId, Tenant, Timestamp, Value,
    execution::{Rejection, decide},
};
use eventflow_ports::{
    TaskOffer,
    inbound::{
        LeaseRequest, LeasedTask, Refusal, ResultOutcome, TaskFailure, TaskResult, TaskToken,
        TaskVerdict, Tasks,
    },
};
use tokio::time::Instant;

use crate::{
    config::RESULTS_PER_MESSAGE_MAX,
    engine::{Engine, Inner},
    partition::{AttemptResult, AttemptVerdict, Key, Message, Partition, ResultAnswer},
    token::Named,
};

#[async_trait]
impl Tasks for Engine {
    async fn lease(
        &self,
        tenant: &Tenant,
        request: LeaseRequest,
    ) -> Result<Vec<LeasedTask>, Refusal> {
        self.inner.accept_leases()?;
        let since = Instant::now();
        loop {
            let wait = request.wait.saturating_sub(since.elapsed());
            let offers = self
                .inner
                .backend
                .queue
                .take(tenant, &request.capabilities, request.max, wait)
                .await;
            let offers = offers.map_err(|error| Refusal::unavailable(error.to_string()))?;
            if offers.is_empty() {
                return Ok(Vec::new());
            }
            // In a task of its own, so that a caller who goes away takes nothing along: what was begun for nobody comes
            // back when its lease passes. What nobody wants any more is left out; where nothing remains, there may be
            // more in the queue.
            let (inner, owner, asked) = (self.inner.clone(), tenant.clone(), request.clone());
            let begun =
                tokio::spawn(async move { inner.begin(&owner, &asked, offers).await }).await;
            let leased = begun.map_err(|_| Refusal::unavailable("the lease was interrupted"))??;
            if !leased.is_empty() || wait.is_zero() {
                return Ok(leased);
            }
        }
    }

    async fn results(&self, tenant: &Tenant, results: Vec<TaskResult>) -> Vec<ResultOutcome> {
        let mut outcomes: Vec<Option<ResultOutcome>> = vec![None; results.len()];
        let mut by_partition: BTreeMap<PartitionId, Vec<(usize, AttemptResult)>> = BTreeMap::new();
        for (index, result) in results.into_iter().enumerate() {
            match self.inner.read(tenant, result) {
                Ok(result) => {
                    let home = self.inner.partition(&result.key).id;
                    by_partition.entry(home).or_default().push((index, result));
                }
                Err(refusal) => outcomes[index] = Some(ResultOutcome::Refused(refusal)),
            }
        }
        // All are sent before any is waited for, so that they share a record.
        let mut sent = Vec::new();
        for (home, results) in by_partition {
            for portion in results.chunks(RESULTS_PER_MESSAGE_MAX) {
                let orders: Vec<_> = portion.iter().map(|(_, result)| result.clone()).collect();
                let partition = &self.inner.partitions[usize::from(home.0)];
                sent.push((
                    partition,
                    portion.to_vec(),
                    partition.send(|reply| Message::Results(orders, reply)),
                ));
            }
        }
        for (partition, portion, answer) in sent {
            let answers = match answer {
                Ok(answer) => answer.await.map_err(|_| partition.lost()),
                Err(refusal) => Err(refusal),
            };
            for (place, (index, result)) in portion.iter().enumerate() {
                outcomes[*index] = Some(match &answers {
                    Ok(answers) => self.inner.outcome(result, answers.get(place)).await,
                    Err(refusal) => ResultOutcome::Refused(refusal.clone()),
                });
            }
        }
        let unanswered = || ResultOutcome::Refused(Refusal::unavailable("no answer came"));
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(unanswered))
            .collect()
    }
}

impl Inner {
    /// A partition that stalls may take back what it offered, so all have to accept; one that has stopped offers nothing,
    /// and must not keep agents from the others.
    fn accept_leases(&self) -> Result<(), Refusal> {
        let (stopped, others): (Vec<_>, Vec<_>) =
            (self.partitions.iter()).partition(|partition| partition.is_stopped());
        let asked = if others.is_empty() { stopped } else { others };
        asked.into_iter().try_for_each(Partition::accepts)
    }

    async fn begin(
        &self,
        tenant: &Tenant,
        request: &LeaseRequest,
        offers: Vec<TaskOffer>,
    ) -> Result<Vec<LeasedTask>, Refusal> {
        let mut by_partition: BTreeMap<PartitionId, Vec<TaskOffer>> = BTreeMap::new();
        for offer in offers {
            by_partition.entry(offer.partition).or_default().push(offer);
        }
        let mut leased = Vec::new();
        for (home, offers) in by_partition {
            let partition = &self.partitions[usize::from(home.0)];
            let granted = partition
                .ask(|reply| Message::Begin {
                    offers: offers.clone(),
                    agent: request.agent.clone(),
                    lease_for: request.lease_for,
                    reply,
                })
                .await;
            match granted {
                Ok(granted) => leased.extend(
                    offers
                        .into_iter()
                        .zip(granted)
                        .filter_map(|(offer, until)| self.leased(tenant, offer, until?)),
                ),
                // After a recovery they come again.
                Err(_) if partition.is_stopped() => {}
                Err(refusal) => {
                    // They go back to the queue, or come again after a recovery.
                    if let Err(error) = self.backend.queue.offer(offers).await {
                        tracing::warn!(%error, "tasks that were taken could not be put back");
                    }
                    if leased.is_empty() {
                        return Err(refusal);
                    }
                }
            }
        }
        Ok(leased)
    }

    fn leased(&self, tenant: &Tenant, offer: TaskOffer, until: Timestamp) -> Option<LeasedTask> {
        let input = offer.input.json()?.clone();
        let named = Named {
            execution: offer.execution,
            task: offer.task,
            attempt: offer.attempt,
        };
        Some(LeasedTask {
            token: self.tokens.sign(tenant, &named),
            execution: named.execution,
            workflow: offer.workflow,
            task: named.task,
            capability: offer.capability,
            attempt: named.attempt,
            input,
            deadline: until,
            traceparent: offer.traceparent,
        })
    }

    /// A result with its token read.
    fn read(&self, tenant: &Tenant, result: TaskResult) -> Result<AttemptResult, Refusal> {
        let TaskResult { token, verdict } = result;
        let named = self
            .tokens
            .read(tenant, &token)
            .ok_or_else(|| unknown(&token))?;
        let verdict = match verdict {
            TaskVerdict::Complete(output) => AttemptVerdict::Complete(Value::new(output)),
            TaskVerdict::Fail(TaskFailure {
                error,
                retryable,
                retry_after,
            }) => AttemptVerdict::Fail {
                error,
                retryable,
                retry_after,
            },
            TaskVerdict::Heartbeat => AttemptVerdict::Heartbeat,
        };
        let key = Key {
            tenant: tenant.clone(),
            id: named.execution,
        };
        Ok(AttemptResult {
            key,
            task: named.task,
            attempt: named.attempt,
            verdict,
        })
    }

    async fn outcome(
        &self,
        result: &AttemptResult,
        answer: Option<&ResultAnswer>,
    ) -> ResultOutcome {
        match answer {
            Some(ResultAnswer::Accepted) => ResultOutcome::Accepted,
            Some(ResultAnswer::Alive(heartbeat)) => ResultOutcome::Alive(*heartbeat),
            Some(ResultAnswer::Rejected(rejection)) => ResultOutcome::Refused(refused(rejection)),
            Some(ResultAnswer::NotResident) | None => self.late(result).await,
        }
    }

    /// A result for an execution that has left memory: its end decides, as it would have in memory.
    async fn late(&self, result: &AttemptResult) -> ResultOutcome {
        let now = self.backend.clock.now();
        let snapshot = match self.find_in_view(&result.key).await {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => {
                let detail = format!("there is no execution {}", result.key.id);
                return ResultOutcome::Refused(Refusal::NotFound(detail));
            }
            Err(refusal) => return ResultOutcome::Refused(refusal),
        };
        let Some(command) = result.command() else {
            let gone = eventflow_ports::inbound::Heartbeat {
                cancelled: true,
                lease_until: now,
            };
            return ResultOutcome::Alive(gone);
        };
        match decide(&snapshot.execution, &snapshot.plan, &command, now) {
            Ok(_) => ResultOutcome::Accepted,
            Err(rejection) => ResultOutcome::Refused(refused(&rejection)),
        }
    }
}

fn unknown(token: &TaskToken) -> Refusal {
    let shown: String = token.0.chars().take(32).collect();
    Refusal::NotFound(format!("task token `{shown}…` was not given out here"))
}

pub(crate) fn refused(rejection: &Rejection) -> Refusal {
    match rejection {
        Rejection::UnknownTask(_) => Refusal::NotFound(rejection.to_string()),
        Rejection::OtherResult { .. }
        | Rejection::Superseded { .. }
        | Rejection::NotScheduled { .. }
        | Rejection::Ended(_)
        | Rejection::Stopping
        | Rejection::Paused { .. }
        | Rejection::Held { .. } => Refusal::Contradiction(rejection.to_string()),
    }
}
