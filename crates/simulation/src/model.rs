//! An undisturbed run: the domain's `step` driven directly, with the same answers to the same attempts, nothing lost and
//! nothing late. Whatever the engine went through, the end must be this one.

use std::collections::BTreeMap;

use eventflow_domain::{
    AgentName, Attempt, Digest, Json, Problem, Sequence, TaskReference, Timestamp, Value,
    execution::{Command, Content, Event, Execution, Status, step},
    plan::Plan,
};

use crate::ledger::{History, Key};

/// An undisturbed run takes fewer rounds; more is one that never ends.
const ROUNDS_MAX: usize = 5_000;

/// How an execution ended, as far as it does not depend on when what happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    status: Status,
    output: Option<Digest>,
    error: Option<Problem>,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
enum Came {
    Done(Value),
    Failed(Problem, bool),
}

/// What agents and the site have brought for an attempt, to find what only a digest is left of.
pub(crate) type Known<'a> = &'a dyn Fn(&TaskReference, Attempt) -> Vec<Json>;

impl End {
    pub(crate) fn of(execution: &Execution) -> Self {
        let digest = |value: &Value| match value {
            Value::Inline(json) => Digest::of(json.as_str().as_bytes()),
            Value::Ref { digest, .. } => *digest,
        };
        Self {
            status: execution.status,
            output: execution.output.as_ref().map(digest),
            error: execution.error.clone(),
        }
    }
}

/// Whether this history ended as it did whatever the order and the times were: nobody stopped it, nothing took too long,
/// nothing was given up because something else was faster.
pub(crate) fn is_comparable(history: &History) -> bool {
    let depends_on_time = |event: &Event| {
        let timed_out = |error: &Problem| error.title.as_deref() == Some("Attempt timed out");
        match event {
            Event::TaskTimedOut { .. }
            | Event::ExecutionTimedOut { .. }
            | Event::TaskCancelled { .. }
            | Event::ExecutionStopRequested(_)
            | Event::ForkEntered { compete: true, .. } => true,
            Event::ErrorCaught { error, .. } | Event::RetryScheduled { error, .. } => {
                timed_out(error)
            }
            _ => false,
        }
    };
    let count = |is_it: fn(&Event) -> bool| {
        let events = history.events.iter();
        events.filter(|written| is_it(&written.event)).count()
    };
    // While it is paused several branches may fail, which of them first is told by the time alone.
    let failed_in_pause = count(|event| matches!(event, Event::ExecutionPauseRequested(_))) > 0
        && count(|event| matches!(event, Event::TaskFaulted { .. })) > 1;
    history.has_ended()
        && !failed_in_pause
        && !history
            .events
            .iter()
            .any(|written| depends_on_time(&written.event))
}

/// The end of the undisturbed run.
pub(crate) fn undisturbed(
    key: &Key,
    plan: &Plan,
    history: &History,
    known: Known<'_>,
) -> Result<End, String> {
    let Some(Event::ExecutionRequested(requested)) =
        history.events.first().map(|first| &first.event)
    else {
        return Err("its history does not begin with a request".to_owned());
    };
    let came = outcomes(history, known)?;
    let mut requested = requested.clone();
    if requested.input.missing().is_some() {
        let input = known(&TaskReference::at(""), Attempt(0)).pop();
        requested.input = Value::new(input.ok_or("its input is not known")?);
    }
    let start = history.events[0].time;
    let (tenant, id) = key.clone();
    let mut model = Model {
        plan,
        execution: Execution::requested(tenant, id, requested, start),
        now: start,
        performed: Sequence(0),
        came,
    };
    model.finish()?;
    Ok(End::of(&model.execution))
}

struct Model<'p> {
    plan: &'p Plan,
    execution: Execution,
    now: Timestamp,
    performed: Sequence,
    came: BTreeMap<(TaskReference, Attempt), Came>,
}

impl Model<'_> {
    fn finish(&mut self) -> Result<(), String> {
        self.advance()?;
        for _ in 0..ROUNDS_MAX {
            if self.execution.is_ended() {
                return Ok(());
            }
            if self.perform()? {
                continue;
            }
            let Some(deadline) = self.execution.next_deadline() else {
                return Err("the undisturbed run waits for nothing".to_owned());
            };
            self.now = self.now.max(deadline);
            self.order(&Command::FireTimers)?;
        }
        Err("the undisturbed run never ends".to_owned())
    }

    fn order(&mut self, command: &Command) -> Result<(), String> {
        step(&mut self.execution, self.plan, command, self.now)
            .map_err(|rejection| format!("the undisturbed run refuses {command:?}: {rejection}"))?;
        self.advance()
    }

    fn advance(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            if !self.execution.owes_advance() {
                return Ok(());
            }
            let stepped = step(&mut self.execution, self.plan, &Command::Advance, self.now);
            stepped.map_err(|rejection| rejection.to_string())?;
        }
        Err("consequences never end".to_owned())
    }

    fn perform(&mut self) -> Result<bool, String> {
        let next = self.execution.owed(self.performed).next();
        let next = next.map(|owed| (owed.sequence, owed.reference.clone(), owed.task.attempt));
        let Some((sequence, task, attempt)) = next else {
            return Ok(false);
        };
        self.performed = sequence;
        let Some(came) = self.came.get(&(task.clone(), attempt)).cloned() else {
            return Err(format!(
                "undisturbed it comes to attempt {attempt} of {task}, of which the journal knows no end"
            ));
        };
        let agent = AgentName::parse("undisturbed").expect("a name");
        self.order(&Command::BeginAttempt {
            task: task.clone(),
            attempt,
            agent,
        })?;
        self.order(&match came {
            Came::Done(output) => Command::CompleteAttempt {
                task,
                attempt,
                output,
            },
            Came::Failed(error, retryable) => Command::FailAttempt {
                task,
                attempt,
                error,
                retryable,
                retry_after: None,
            },
        })?;
        Ok(true)
    }
}

/// What came of every attempt that ended.
fn outcomes(
    history: &History,
    known: Known<'_>,
) -> Result<BTreeMap<(TaskReference, Attempt), Came>, String> {
    let mut came = BTreeMap::new();
    let mut scheduled = std::collections::BTreeSet::new();
    let find = |task: &TaskReference, attempt: Attempt, digest: Digest| {
        let brought = known(task, attempt).into_iter();
        let mut same = brought.filter(|json| Digest::of(json.as_str().as_bytes()) == digest);
        same.next().map(Value::new).ok_or_else(|| {
            format!("nobody has brought what attempt {attempt} of {task} is said to have brought")
        })
    };
    for written in &history.events {
        let (attempt, end) = match &written.event {
            Event::TaskScheduled { task, .. } => {
                scheduled.insert(task.clone());
                continue;
            }
            Event::TaskCompleted {
                task,
                attempt,
                output,
                result,
                ..
            } if scheduled.contains(task) => {
                let value = match (result, output) {
                    (Some(digest), _) | (None, Content::Value(Value::Ref { digest, .. })) => {
                        find(task, *attempt, *digest)?
                    }
                    (None, Content::Value(value)) => value.clone(),
                    (None, other) => {
                        return Err(format!("{task} brought {other:?} without a digest of it"));
                    }
                };
                ((task.clone(), *attempt), Came::Done(value))
            }
            Event::RetryScheduled {
                task,
                attempt,
                error,
                ..
            } if scheduled.contains(task) => {
                ((task.clone(), *attempt), Came::Failed(error.clone(), true))
            }
            Event::TaskFaulted {
                task,
                attempt,
                error,
                result,
                ..
            } if scheduled.contains(task) => {
                let end = match result {
                    Some(digest) => Came::Done(find(task, *attempt, *digest)?),
                    None => Came::Failed(error.clone(), false),
                };
                ((task.clone(), *attempt), end)
            }
            _ => continue,
        };
        came.insert(attempt, end);
    }
    Ok(came)
}
