//! What a writer does with each order.

use eventflow_domain::{
    Sequence,
    execution::{Command, Event, Execution, Work},
};
use eventflow_ports::{
    ListQuery,
    inbound::{Heartbeat, Refusal},
};
use tokio::sync::oneshot;

use super::{
    leases::Lease,
    message::{
        AttemptBegin, AttemptResult, AttemptVerdict, BeginAnswer, ControlAnswer, Hold, Key,
        Message, ResultAnswer, Snapshot, Start, StartAnswer,
    },
    resident::Resident,
    writer::Writer,
};
use crate::{config::RESIDENTS_MAX, render};

impl Writer {
    /// Carries out one order.
    pub(crate) fn handle(&mut self, order: Message) {
        self.batch.commands += order.commands();
        match order {
            Message::Start(start) => self.start(*start),
            Message::Results(results, reply) => self.results(&results, reply),
            Message::Performed(result) => {
                let _ = self.result(&result);
            }
            Message::Begin { attempts, reply } => {
                let granted = attempts.iter().map(|attempt| self.begin(attempt));
                let _ = reply.send(granted.collect());
            }
            Message::Read {
                key,
                with_positions: true,
                reply,
            } => self.answer_with_positions(&key, reply),
            Message::Read {
                key,
                with_positions: false,
                reply,
            } => {
                let snapshot = self
                    .residents
                    .get(&key)
                    .map(|resident| resident.snapshot(false));
                self.answer(reply, snapshot);
            }
            Message::Wait { key, reply } => match self.residents.get_mut(&key) {
                Some(resident) if !resident.has_ended() => {
                    // Those who gave up make room first.
                    if resident.waiting.len() == resident.waiting.capacity() {
                        resident.waiting.retain(|reply| !reply.is_closed());
                    }
                    resident.waiting.push(reply);
                }
                Some(resident) => {
                    let snapshot = resident.snapshot(false);
                    let _ = reply.send(Some(snapshot));
                }
                None => {
                    let _ = reply.send(None);
                }
            },
            Message::Control {
                key,
                command,
                reply,
            } => {
                let answer = self.control(&key, &command);
                self.answer(reply, answer);
            }
            Message::Holds { key, reply } => {
                let holds = self.holds(&key);
                self.answer(reply, holds);
            }
            Message::List { query, reply } => {
                let snapshots = self.list(&query);
                self.answer(reply, snapshots);
            }
            Message::Lost(attempts) => self.offer_again(attempts),
            Message::Close => self.is_closing = true,
        }
    }

    /// Sends an answer once what it shows is durable. Nobody may be waiting any more.
    fn answer<T: Send + 'static>(&mut self, reply: oneshot::Sender<T>, answer: T) {
        self.when_durable(Box::new(move || {
            let _ = reply.send(answer);
        }));
    }

    /// Answers where a history lies: once every event that memory shows now has its position.
    fn answer_with_positions(&mut self, key: &Key, reply: oneshot::Sender<Option<Snapshot>>) {
        match self.residents.get_mut(key) {
            Some(resident) if !resident.is_settled() => {
                let seen = resident.execution.sequence;
                resident.reading.push((seen, reply));
                self.batch.is_urgent |= !self.batch.is_empty();
            }
            Some(resident) => {
                let snapshot = resident.snapshot(true);
                let _ = reply.send(Some(snapshot));
            }
            None => {
                let _ = reply.send(None);
            }
        }
    }

    fn start(&mut self, start: Start) {
        let Start {
            key,
            requested,
            plan,
            absent_as_of,
            reply,
        } = start;
        if let Some(resident) = self.residents.get(&key) {
            let answer = if resident.execution.requested.fingerprint == requested.fingerprint {
                StartAnswer::Started {
                    snapshot: resident.snapshot(false),
                    repeated: true,
                }
            } else {
                StartAnswer::Refused(other_start(&key))
            };
            return self.answer(reply, answer);
        }
        if absent_as_of.is_some_and(|since| self.residents.may_have_left(&key, since)) {
            let _ = reply.send(StartAnswer::AskAgain);
            return;
        }
        if self.residents.len() >= RESIDENTS_MAX {
            let _ = reply.send(StartAnswer::Refused(Refusal::Busy {
                detail: format!(
                    "partition {} holds {RESIDENTS_MAX} executions",
                    self.partition
                ),
                retry_after: std::time::Duration::from_secs(5),
            }));
            return;
        }
        let time = self.batch.time;
        let execution =
            Execution::requested(key.tenant.clone(), key.id.clone(), requested.clone(), time);
        let first = execution.sequence;
        self.residents
            .insert(key.clone(), Resident::new(execution, plan));
        self.batch
            .push(&key, first, vec![Event::ExecutionRequested(requested)]);
        // The first advance of an execution is never rejected.
        let _ = self.apply(&key, &Command::Advance);
        if let Some(resident) = self.residents.get(&key) {
            let answer = StartAnswer::Started {
                snapshot: resident.snapshot(false),
                repeated: false,
            };
            self.answer(reply, answer);
        }
    }

    fn results(&mut self, results: &[AttemptResult], reply: oneshot::Sender<Vec<ResultAnswer>>) {
        let answers: Vec<_> = results.iter().map(|result| self.result(result)).collect();
        if results
            .iter()
            .all(|result| matches!(result.verdict, AttemptVerdict::Heartbeat))
        {
            let _ = reply.send(answers);
        } else {
            self.answer(reply, answers);
        }
    }

    fn result(&mut self, result: &AttemptResult) -> ResultAnswer {
        let Some(resident) = self.residents.get(&result.key) else {
            return ResultAnswer::NotResident;
        };
        let Some(command) = result.command() else {
            return self.heartbeat(result);
        };
        let is_current = resident
            .execution
            .tasks
            .get(&result.task)
            .is_some_and(|task| task.attempt == result.attempt);
        match self.apply(&result.key, &command) {
            Ok(()) => {
                if is_current {
                    self.leases.end(&result.key, &result.task);
                }
                ResultAnswer::Accepted
            }
            Err(rejection) => ResultAnswer::Rejected(rejection),
        }
    }

    fn control(&mut self, key: &Key, command: &Command) -> ControlAnswer {
        if self.residents.get(key).is_none() {
            return ControlAnswer::NotResident;
        }
        if let Err(rejection) = self.apply(key, command) {
            return ControlAnswer::Rejected(rejection);
        }
        match self.residents.get(key) {
            Some(resident) => ControlAnswer::Accepted(resident.snapshot(false)),
            None => ControlAnswer::NotResident,
        }
    }

    /// An execution in memory, and who holds its attempts until when.
    fn holds(&self, key: &Key) -> Option<(Snapshot, Vec<Hold>)> {
        let resident = self.residents.get(key)?;
        let execution = &resident.execution;
        let holds = execution.owed(Sequence(0)).filter_map(|owed| {
            let until = self.leases.until(key, owed.reference)?;
            Some((owed.reference.clone(), until))
        });
        Some((resident.snapshot(false), holds.collect()))
    }

    fn heartbeat(&mut self, result: &AttemptResult) -> ResultAnswer {
        let now = self.backend.clock.now();
        let AttemptResult {
            key, task, attempt, ..
        } = result;
        let is_wanted = self.residents.get(key).is_some_and(|resident| {
            let execution = &resident.execution;
            execution
                .tasks
                .get(task)
                .is_some_and(|state| state.attempt == *attempt)
                && execution.ready_since(task).is_some()
        });
        let until = if is_wanted {
            self.leases.extend(key, task, *attempt, now)
        } else {
            None
        };
        ResultAnswer::Alive(Heartbeat {
            cancelled: !is_wanted,
            lease_until: until.unwrap_or(now),
        })
    }

    /// Grants an attempt to an agent, where it is still wanted and nobody else's.
    fn begin(&mut self, begin: &AttemptBegin) -> BeginAnswer {
        let AttemptBegin { key, task, .. } = begin;
        // Whoever asks has it from the queue, and it need not come from there again.
        self.settle(key, task, begin.attempt);
        let Some(resident) = self.residents.get(key) else {
            return BeginAnswer::NotResident;
        };
        let state = resident.execution.tasks.get(task);
        let heartbeat = match state.and_then(|state| state.work.as_ref()) {
            Some(Work::Agent { heartbeat, .. }) => *heartbeat,
            Some(Work::Http { .. } | Work::ServiceCall {}) | None => None,
        };
        let ready_at = state.and_then(|state| state.ready_at);
        let command = Command::BeginAttempt {
            task: task.clone(),
            attempt: begin.attempt,
            agent: begin.agent.clone(),
        };
        if let Err(rejection) = self.apply(key, &command) {
            return BeginAnswer::Rejected(rejection);
        }
        let now = self.backend.clock.now();
        self.meters.routed(now.since(ready_at.unwrap_or(now)));
        let span = begin.lease_for.or(heartbeat).unwrap_or(self.config.lease);
        let until = now.after(span);
        let lease = Lease {
            attempt: begin.attempt,
            until,
            span,
        };
        self.leases.grant(key, task, lease);
        BeginAnswer::Granted(until)
    }

    /// Executions in memory that match, newest first. Those that have ended here are not in the view yet, or will be
    /// dropped as repeats by whoever merges both.
    fn list(&self, query: &ListQuery) -> Vec<Snapshot> {
        let mut matching: Vec<_> = self
            .residents
            .iter()
            .filter(|(key, resident)| {
                key.tenant == query.tenant && matches(query, &resident.execution)
            })
            .map(|(_, resident)| resident)
            .collect();
        matching.sort_unstable_by(|one, two| {
            let order = |resident: &Resident| {
                (resident.execution.created_at, resident.execution.id.clone())
            };
            order(two).cmp(&order(one))
        });
        matching
            .into_iter()
            .take(query.limit)
            .map(|resident| resident.snapshot(false))
            .collect()
    }
}

fn matches(query: &ListQuery, execution: &Execution) -> bool {
    let created = execution.created_at;
    let requested = &execution.requested;
    (query.statuses.is_empty() || query.statuses.contains(&render::status(execution)))
        && query
            .workflow
            .as_ref()
            .is_none_or(|name| **name == *requested.workflow.name)
        && query
            .labels
            .iter()
            .all(|(name, value)| requested.labels.get(name) == Some(value))
        && query.started_after.is_none_or(|after| created >= after)
        && query.started_before.is_none_or(|before| created < before)
        && query
            .before
            .as_ref()
            .is_none_or(|(at, id)| (created, &execution.id) < (*at, id))
}

/// The refusal of a start whose id names another one.
pub(crate) fn other_start(key: &Key) -> Refusal {
    Refusal::Contradiction(format!(
        "execution {} was started with other content: repeat that, or choose another id or key",
        key.id
    ))
}

impl Resident {
    /// Tells whoever waits for this execution, as far as it is durable.
    pub(crate) fn tell_waiting(&mut self) {
        let durable = self.durable;
        for (_, reply) in self
            .reading
            .extract_if(.., |(seen, _)| *seen <= durable)
            .collect::<Vec<_>>()
        {
            let _ = reply.send(Some(self.snapshot(true)));
        }
        if self.has_ended() {
            for reply in std::mem::take(&mut self.waiting) {
                let _ = reply.send(Some(self.snapshot(false)));
            }
        }
    }
}
