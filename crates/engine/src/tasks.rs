//! The `Tasks` port: leasing attempts and bringing their results.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use eventflow_domain::{
    PartitionId, Tenant, Timestamp, Value,
    execution::{Rejection, decide},
};
use eventflow_ports::{
    TaskOffer,
    inbound::{
        Begin, LeaseRequest, LeasedTask, Refusal, ResultOutcome, TaskFailure, TaskResult,
        TaskToken, TaskVerdict, Tasks,
    },
};
use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    config::RESULTS_PER_MESSAGE_MAX,
    engine::{Engine, Inner},
    partition::{
        AttemptBegin, AttemptResult, AttemptVerdict, BeginAnswer, Key, Message, Partition,
        ResultAnswer,
    },
    questions,
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
            let (inner, asked) = (self.inner.clone(), request.clone());
            let begun = tokio::spawn(async move { inner.begin(&asked, offers).await }).await;
            let leased = begun.map_err(|_| Refusal::unavailable("the lease was interrupted"))??;
            if !leased.is_empty() || wait.is_zero() {
                return Ok(leased);
            }
        }
    }

    async fn begin(&self, tenant: &Tenant, begins: Vec<Begin>) -> Vec<Result<Timestamp, Refusal>> {
        let inner = &self.inner;
        let mut outcomes: Vec<Option<Result<Timestamp, Refusal>>> = vec![None; begins.len()];
        let mut by_partition: BTreeMap<PartitionId, Indexed<AttemptBegin>> = BTreeMap::new();
        for (index, begin) in begins.into_iter().enumerate() {
            match inner.read_begin(tenant, begin) {
                Ok(begin) => {
                    let home = inner.home(&begin.key);
                    by_partition.entry(home).or_default().push((index, begin));
                }
                Err(refusal) => outcomes[index] = Some(Err(refusal)),
            }
        }
        let asked = by_partition.into_iter().map(async |(home, begins)| {
            let (indices, attempts): (Vec<_>, Vec<_>) = begins.into_iter().unzip();
            (
                indices,
                inner.ask_soon(home, questions::Begin(attempts)).await,
            )
        });
        for (indices, answers) in join_all(asked).await {
            place(&mut outcomes, indices, answers, Err);
        }
        answered(outcomes, Err)
    }

    async fn results(&self, tenant: &Tenant, results: Vec<TaskResult>) -> Vec<ResultOutcome> {
        let inner = &self.inner;
        let mut outcomes: Vec<Option<ResultOutcome>> = vec![None; results.len()];
        let mut by_partition: BTreeMap<PartitionId, Vec<Indexed<AttemptResult>>> = BTreeMap::new();
        for (index, result) in results.into_iter().enumerate() {
            match inner.read(tenant, result) {
                Ok(result) => {
                    let portions = by_partition.entry(inner.home(&result.key)).or_default();
                    match portions.last_mut() {
                        Some(portion) if portion.len() < RESULTS_PER_MESSAGE_MAX => {
                            portion.push((index, result));
                        }
                        _ => portions.push(vec![(index, result)]),
                    }
                }
                Err(refusal) => outcomes[index] = Some(ResultOutcome::Refused(refusal)),
            }
        }
        // All are sent before any is waited for, so that they share a record.
        let portions = by_partition.into_iter().flat_map(|(home, portions)| {
            let with_home = move |portion| (home, portion);
            portions.into_iter().map(with_home)
        });
        let asked = portions.map(async |(home, portion): (_, Indexed<AttemptResult>)| {
            let (indices, results): (Vec<_>, Vec<_>) = portion.into_iter().unzip();
            (
                indices,
                inner.ask_soon(home, questions::Results(results)).await,
            )
        });
        for (indices, answers) in join_all(asked).await {
            place(&mut outcomes, indices, answers, ResultOutcome::Refused);
        }
        answered(outcomes, ResultOutcome::Refused)
    }
}

/// What belongs together, each with its place in the request.
type Indexed<T> = Vec<(usize, T)>;

/// Puts the answers of one partition where they belong.
fn place<T>(
    outcomes: &mut [Option<T>],
    indices: Vec<usize>,
    answers: Result<Vec<T>, Refusal>,
    refused: impl Fn(Refusal) -> T,
) {
    match answers {
        Ok(answers) => {
            for (index, answer) in indices.into_iter().zip(answers) {
                outcomes[index] = Some(answer);
            }
        }
        Err(refusal) => {
            for index in indices {
                outcomes[index] = Some(refused(refusal.clone()));
            }
        }
    }
}

fn answered<T>(outcomes: Vec<Option<T>>, refused: impl Fn(Refusal) -> T) -> Vec<T> {
    let unanswered = || refused(Refusal::unavailable("no answer came"));
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(unanswered))
        .collect()
}

impl Inner {
    /// Whether agents may take tasks here.
    fn accept_leases(&self) -> Result<(), Refusal> {
        // Whoever leads an attempt's partition is asked. A node that reaches nobody must not take what others could do.
        if let Some(membership) = &self.membership {
            return membership.accepts();
        }
        // A partition that stalls may take back what it offered, so all have to accept; one that has stopped offers
        // nothing, and must not keep agents from the others.
        let (stopped, others): (Vec<_>, Vec<_>) =
            (self.led_here()).partition(|partition| partition.is_stopped());
        let asked = if others.is_empty() { stopped } else { others };
        (asked.iter()).try_for_each(|partition| partition.accepts())
    }

    async fn begin(
        self: &Arc<Self>,
        request: &LeaseRequest,
        offers: Vec<TaskOffer>,
    ) -> Result<Vec<LeasedTask>, Refusal> {
        let mut by_partition: BTreeMap<PartitionId, Vec<TaskOffer>> = BTreeMap::new();
        for offer in offers {
            by_partition.entry(offer.partition).or_default().push(offer);
        }
        let asked = by_partition.into_iter().map(async |(home, offers)| {
            let attempts = offers.iter().map(|offer| AttemptBegin {
                key: Key::new(&offer.tenant, &offer.execution),
                task: offer.task.clone(),
                attempt: offer.attempt,
                agent: request.agent.clone(),
                lease_for: request.lease_for,
            });
            let begin = questions::Begin(attempts.collect());
            (home, self.ask(home, begin).await, offers)
        });
        let mut leased = Vec::new();
        let mut refused = None;
        for (home, granted, offers) in join_all(asked).await {
            match granted {
                Ok(granted) => {
                    let wanted = offers.into_iter().zip(granted);
                    leased.extend(
                        wanted.filter_map(|(offer, until)| leased_task(offer, until.ok()?)),
                    );
                }
                Err(refusal) => {
                    self.put_back(home, offers).await;
                    refused = refused.or(Some(refusal).filter(|_| !self.is_stopped(home)));
                }
            }
        }
        match refused {
            Some(refusal) if leased.is_empty() => Err(refusal),
            _ => Ok(leased),
        }
    }

    /// What was taken and could not be begun goes back to the queue. What is not led here its leader notices to be
    /// lost, and what has stopped comes again after a recovery.
    async fn put_back(&self, home: PartitionId, offers: Vec<TaskOffer>) {
        if self.led(home).is_none() || self.is_stopped(home) {
            return;
        }
        if let Err(error) = self.backend.queue.offer(offers).await {
            tracing::warn!(%error, "tasks that were taken could not be put back");
        }
    }

    fn is_stopped(&self, home: PartitionId) -> bool {
        self.led(home)
            .is_some_and(|partition| partition.is_stopped())
    }

    /// Brings results to this partition.
    pub(crate) async fn results(
        &self,
        partition: &Partition,
        results: Vec<AttemptResult>,
    ) -> Result<Vec<ResultOutcome>, Refusal> {
        let orders = results.clone();
        let answers = partition
            .ask(|reply| Message::Results(orders, reply))
            .await?;
        let mut outcomes = Vec::with_capacity(results.len());
        for (place, result) in results.iter().enumerate() {
            outcomes.push(self.outcome(partition, result, answers.get(place)).await);
        }
        Ok(outcomes)
    }

    /// Where a token leads.
    fn read_begin(&self, tenant: &Tenant, begin: Begin) -> Result<AttemptBegin, Refusal> {
        let Begin {
            token,
            agent,
            lease_for,
        } = begin;
        let named = self
            .tokens
            .read(tenant, &token)
            .ok_or_else(|| unknown(&token))?;
        Ok(AttemptBegin {
            key: Key::new(tenant, &named.execution),
            task: named.task,
            attempt: named.attempt,
            agent,
            lease_for,
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
        Ok(AttemptResult {
            key: Key::new(tenant, &named.execution),
            task: named.task,
            attempt: named.attempt,
            verdict,
        })
    }

    async fn outcome(
        &self,
        partition: &Partition,
        result: &AttemptResult,
        answer: Option<&ResultAnswer>,
    ) -> ResultOutcome {
        match answer {
            Some(ResultAnswer::Accepted) => ResultOutcome::Accepted,
            Some(ResultAnswer::Alive(heartbeat)) => ResultOutcome::Alive(*heartbeat),
            Some(ResultAnswer::Rejected(rejection)) => ResultOutcome::Refused(refused(rejection)),
            Some(ResultAnswer::NotResident) | None => self.late(partition, result).await,
        }
    }

    /// A result for an execution that has left memory: its end decides, as it would have in memory.
    async fn late(&self, partition: &Partition, result: &AttemptResult) -> ResultOutcome {
        let now = self.backend.clock.now();
        let snapshot = match self.find_in_view(partition.id, &result.key).await {
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

impl Partition {
    /// Begins attempts of this partition.
    pub(crate) async fn begin(
        &self,
        attempts: Vec<AttemptBegin>,
    ) -> Result<Vec<Result<Timestamp, Refusal>>, Refusal> {
        let asked = |reply| Message::Begin { attempts, reply };
        let answers = self.ask(asked).await?;
        Ok(answers.into_iter().map(begun).collect())
    }
}

fn begun(answer: BeginAnswer) -> Result<Timestamp, Refusal> {
    match answer {
        BeginAnswer::Granted(until) => Ok(until),
        BeginAnswer::Rejected(rejection) => Err(refused(&rejection)),
        BeginAnswer::NotResident => Err(Refusal::Contradiction(
            "the execution of this task has ended".to_owned(),
        )),
    }
}

fn leased_task(offer: TaskOffer, until: Timestamp) -> Option<LeasedTask> {
    let input = offer.input.json()?.clone();
    Some(LeasedTask {
        token: TaskToken(offer.token),
        execution: offer.execution,
        workflow: offer.workflow,
        task: offer.task,
        capability: offer.capability,
        attempt: offer.attempt,
        input,
        deadline: until,
        traceparent: offer.traceparent,
    })
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
