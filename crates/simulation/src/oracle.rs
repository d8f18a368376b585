//! What must hold in the end, of the journal and of everything that anybody was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eventflow_checker::{self as checker, Checker, Order, Settings, Store};
use eventflow_domain::{
    Attempt, Digest, PartitionId, Sequence, TaskReference, Tenant, Value,
    execution::{Event, Execution, Status},
    plan::Plan,
};
use eventflow_ports::inbound::{Action, ExecutionView};

use crate::{
    evidence::{AttemptKey, Brought, Evidence, Said},
    ledger::{Books, History, Key},
    model::{self, End},
    run::Run,
};

/// Judges a run that is over.
pub(crate) fn judge(run: &mut Run) {
    let ledger = run.world.ledger.clone();
    let mut found = ledger.look(|books| {
        let mut found = checked(books, run);
        found.extend(acknowledged(books, &run.evidence));
        found
    });
    let compared = ledger.look(|books| compare_undisturbed(books, run));
    found.extend(compared.findings);
    run.tally.compared = compared.count;
    run.tally.ends = compared.ends;
    run.evidence.findings.extend(found);
}

fn named(key: &Key) -> String {
    format!("{}/{}", key.0, key.1)
}

/// The plans of a world's executions.
struct Plans(BTreeMap<(Tenant, Digest), Arc<Plan>>);

impl Store for Plans {
    fn plan(&mut self, tenant: &Tenant, digest: &Digest) -> Option<Arc<Plan>> {
        self.0.get(&(tenant.clone(), *digest)).cloned()
    }
}

/// What the independent checker says of the journal, given everything that was acknowledged.
fn checked(books: &Books, run: &Run) -> Vec<String> {
    let plans = run.planned.iter().map(|planned| {
        let tenant = planned.key.0.clone();
        ((tenant, planned.plan.digest), planned.plan.clone())
    });
    let settings = Settings {
        partitions: Some(run.world.partitions),
        ..Settings::default()
    };
    let mut checker = Checker::new(Plans(plans.collect()), settings);
    for evidence in evidence(&run.evidence) {
        checker.evidence(evidence);
    }
    for id in (0..run.world.partitions).map(PartitionId) {
        checker.partition(id, None);
        let own = books
            .records
            .iter()
            .filter(|(partition, _)| *partition == id);
        for (_, entry) in own {
            checker.record(entry.position, &entry.record);
        }
    }
    let report = checker.finish();
    report.violations.iter().map(ToString::to_string).collect()
}

/// What was acknowledged, in the checker's words.
fn evidence(evidence: &Evidence) -> Vec<checker::Evidence> {
    let mut told = Vec::new();
    for (tenant, execution_id) in evidence.started.iter().cloned() {
        told.push(checker::Evidence::Start {
            tenant,
            execution_id,
            status: None,
        });
    }
    for (((tenant, execution_id), task, attempt), brought) in &evidence.brought {
        for brought in brought.iter().filter(|brought| brought.is_accepted) {
            let Said::Done(output) = &brought.verdict else {
                continue;
            };
            told.push(checker::Evidence::Result {
                tenant: tenant.clone(),
                execution_id: execution_id.clone(),
                task: task.to_string(),
                attempt: Some(*attempt),
                output: output.clone(),
            });
        }
    }
    for ordered in &evidence.controls {
        let order = match ordered.action {
            Action::Pause => Order::Pause,
            Action::Stop => Order::Stop,
            // Of one that is not paused there is nothing to write.
            Action::Resume => continue,
        };
        let (tenant, execution_id) = ordered.key.clone();
        told.push(checker::Evidence::Control {
            tenant,
            execution_id,
            order,
            at: ordered.by,
        });
    }
    told
}

/// What somebody was told beyond that, and the journal does not have.
fn acknowledged(books: &Books, evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for (key, seen) in &evidence.seen {
        let last = books
            .histories
            .get(key)
            .map_or(0, |history| history.events.len() as u64);
        if last < seen.0 {
            found.push(format!(
                "{} was shown at event {seen} and ends at {last}",
                named(key)
            ));
        }
    }
    for (attempt, brought) in &evidence.brought {
        let history = books.histories.get(&attempt.0);
        found.extend(accepted(attempt, brought, history));
    }
    for (key, history) in &books.histories {
        found.extend(handed_out(key, history, evidence));
    }
    found
}

/// Of an attempt, what was accepted and is not what stands.
fn accepted(
    attempt: &AttemptKey,
    brought: &[Brought],
    history: Option<&History>,
) -> Option<String> {
    let accepted: Vec<&Said> = brought
        .iter()
        .filter(|brought| brought.is_accepted)
        .map(|brought| &brought.verdict)
        .collect();
    let (key, task, number) = attempt;
    let name = format!("{}{task} attempt {number}", named(key));
    let said = match accepted[..] {
        [] => return None,
        [said] => said,
        [..] => return Some(format!("{name} was accepted with different results")),
    };
    let mut events = history.into_iter().flat_map(|history| &history.events);
    let stands = events.any(|written| stands(&written.event, task, *number, said));
    (!stands).then(|| format!("{name} was accepted and is lost: {said:?}"))
}

/// Whether this event is what somebody said of an attempt.
fn stands(event: &Event, of: &TaskReference, number: Attempt, said: &Said) -> bool {
    match (event, said) {
        (
            Event::TaskCompleted {
                task,
                attempt,
                output,
                result,
                ..
            },
            Said::Done(json),
        ) => {
            let own = output.value().map(digest);
            task == of
                && *attempt == number
                && result.or(own) == Some(Digest::of(json.as_str().as_bytes()))
        }
        (
            Event::TaskFaulted {
                task,
                attempt,
                result: Some(result),
                ..
            },
            Said::Done(json),
        ) => task == of && *attempt == number && *result == Digest::of(json.as_str().as_bytes()),
        (
            Event::RetryScheduled {
                task,
                attempt,
                error,
                ..
            }
            | Event::TaskFaulted {
                task,
                attempt,
                error,
                ..
            },
            Said::Failed(failure),
        ) => task == of && *attempt == number && error.detail == failure.error.detail,
        _ => false,
    }
}

fn digest(value: &Value) -> Digest {
    match value {
        Value::Inline(json) => Digest::of(json.as_str().as_bytes()),
        Value::Ref { digest, .. } => *digest,
    }
}

/// What agents were given, beside what the journal says they are given, and when it had begun.
fn handed_out(key: &Key, history: &History, evidence: &Evidence) -> Vec<String> {
    let leased: Vec<_> = evidence
        .leased
        .iter()
        .filter(|leased| leased.attempt.0 == *key)
        .collect();
    let mut found = Vec::new();
    let mut inputs: BTreeMap<(TaskReference, Attempt), Digest> = BTreeMap::new();
    let mut begun: BTreeMap<(TaskReference, Attempt), Sequence> = BTreeMap::new();
    let mut folded: Option<Execution> = None;
    for written in &history.events {
        match (&written.event, &mut folded) {
            (Event::ExecutionRequested(requested), None) => {
                let (tenant, id) = key.clone();
                let execution = Execution::requested(tenant, id, requested.clone(), written.time);
                folded = Some(execution);
            }
            (event, Some(execution)) => execution.evolve(event, written.time),
            (_, None) => {}
        }
        match &written.event {
            Event::TaskScheduled { task, attempt, .. } | Event::TimerFired { task, attempt } => {
                let state = folded
                    .as_ref()
                    .and_then(|execution| execution.tasks.get(task));
                if let Some(state) = state {
                    inputs.insert((task.clone(), *attempt), digest(state.work_input()));
                }
            }
            Event::TaskStarted { task, attempt, .. } => {
                begun.insert((task.clone(), *attempt), written.sequence);
            }
            _ => {}
        }
    }
    for leased in leased {
        let (_, task, number) = &leased.attempt;
        let attempt = (task.clone(), *number);
        let name = format!("{}{task} attempt {number}", named(key));
        if inputs.get(&attempt) != Some(&leased.input) {
            found.push(format!(
                "{name} was leased with another input than the journal's"
            ));
        }
        let Some(by) = leased.begun_by else { continue };
        if begun.get(&attempt).is_none_or(|begun| *begun > by) {
            found.push(format!(
                "{name} was leased though it was held back at event {by}"
            ));
        }
    }
    found
}

struct Compared {
    findings: Vec<String>,
    count: u64,
    ends: BTreeMap<&'static str, u64>,
}

fn compare_undisturbed(books: &Books, run: &Run) -> Compared {
    let mut compared = Compared {
        findings: Vec::new(),
        count: 0,
        ends: BTreeMap::new(),
    };
    for planned in &run.planned {
        let Some(history) = books.histories.get(&planned.key) else {
            continue;
        };
        let Some(execution) = fold(&planned.key, history) else {
            continue;
        };
        *compared.ends.entry(execution.status.as_str()).or_default() += 1;
        if !model::is_comparable(history) {
            continue;
        }
        let known = |task: &TaskReference, attempt: Attempt| {
            if attempt == Attempt(0) {
                return vec![planned.input()];
            }
            let key = (planned.key.clone(), task.clone(), attempt);
            let brought = run.evidence.brought.get(&key).into_iter().flatten();
            let brought = brought.filter_map(|brought| match &brought.verdict {
                Said::Done(json) => Some(json.clone()),
                Said::Failed(_) => None,
            });
            let mut known: Vec<_> = brought.collect();
            known.extend(run.world.site.given(&planned.key.1, task, attempt));
            known
        };
        let name = named(&planned.key);
        match model::undisturbed(&planned.key, &planned.plan, history, &known) {
            Err(why) => compared.findings.push(format!("{name}: {why}")),
            Ok(undisturbed) => {
                compared.count += 1;
                let end = End::of(&execution);
                if end != undisturbed {
                    compared.findings.push(format!(
                        "{name} ended as {end:?}, undisturbed it ends as {undisturbed:?}"
                    ));
                }
            }
        }
    }
    compared
}

fn fold(key: &Key, history: &History) -> Option<Execution> {
    let events = history
        .events
        .iter()
        .map(|written| (&written.event, written.time));
    Execution::fold(key.0.clone(), key.1.clone(), events)
}

/// What an engine shows, beside what the journal says.
pub(crate) fn compare_views(run: &mut Run, views: &[(Key, Result<ExecutionView, String>)]) {
    let ledger = run.world.ledger.clone();
    let found = ledger.look(|books| {
        let differences = views.iter().filter_map(|(key, view)| {
            let execution = fold(key, books.histories.get(key)?)?;
            let view = match view {
                Ok(view) => view,
                Err(why) => return Some(format!("{} is not shown: {why}", named(key))),
            };
            let output = view.output.as_ref();
            let shown = (
                view.status,
                output.map(|output| Digest::of(output.as_str().as_bytes())),
                view.error.as_ref(),
                view.sequence,
            );
            let stands = (
                execution.status,
                execution.output.as_ref().map(digest),
                execution.error.as_ref(),
                execution.sequence,
            );
            (shown != stands).then(|| {
                format!(
                    "{} is shown as {shown:?}, the journal says {stands:?}",
                    named(key)
                )
            })
        });
        differences.collect::<Vec<_>>()
    });
    run.evidence.findings.extend(found);
}

/// What was published of each execution: from its request to its end, in order, repeats aside.
pub(crate) fn compare_published(run: &mut Run) {
    let mut last: BTreeMap<Key, (Sequence, BTreeSet<Sequence>, &'static str)> = BTreeMap::new();
    let mut found = Vec::new();
    for event in run.world.publisher.published() {
        let key = (event.tenant.clone(), event.execution.clone());
        let (last, known, kind) = last.entry(key.clone()).or_default();
        if !known.insert(event.sequence) {
            continue;
        }
        if event.sequence < *last {
            found.push(format!(
                "event {} of {} was published after event {last}",
                event.sequence,
                named(&key)
            ));
        }
        (*last, *kind) = (event.sequence, event.kind);
    }
    for planned in &run.planned {
        let key = &planned.key;
        let (status, length) = run.world.ledger.look(|books| {
            let history = books.histories.get(key);
            let status = history.and_then(|history| Some(fold(key, history)?.status));
            (
                status,
                history.map_or(0, |history| history.events.len() as u64),
            )
        });
        let Some((at, known, kind)) = last.get(key) else {
            found.push(format!("nothing of {} was published", named(key)));
            continue;
        };
        let fits = match status {
            Some(Status::Completed) => *kind == "workflow_execution_completed",
            Some(Status::Cancelled) => *kind == "workflow_execution_cancelled",
            Some(Status::Faulted) => {
                matches!(
                    *kind,
                    "workflow_execution_failed" | "workflow_execution_timed_out"
                )
            }
            _ => false,
        };
        if !fits || at.0 != length || !known.contains(&Sequence(1)) {
            found.push(format!(
                "{} ended {status:?} with event {length}, the last published is {kind} {at}",
                named(key)
            ));
        }
    }
    run.evidence.findings.extend(found);
}
