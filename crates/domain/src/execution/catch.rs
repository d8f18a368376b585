//! What a `try` does about an error: tries again, hands over to its handler, or passes it on (OWS, "Try").

use super::{
    Event, Execution, Task,
    activate::{bounded, expression_problem},
    scope::{Dot, TaskScope},
};
use crate::{
    error::Problem,
    expression::{EvaluationError, Expression},
    ids::TaskReference,
    plan::{Catch, Kind, Plan, Retrying},
    time::Timestamp,
    value::Json,
};

/// The event that an error in the tasks of a `try` brings at the time `at`. Nothing below it is under way any more.
pub(crate) fn caught(
    execution: &Execution,
    plan: &Plan,
    reference: &TaskReference,
    error: Problem,
    at: Timestamp,
) -> Event {
    let task = &execution.tasks[reference];
    let passed_on = |error| Event::TaskFaulted {
        task: reference.clone(),
        within: task.within.clone(),
        attempt: task.attempt,
        error,
        result: None,
    };
    let Some(Kind::Try(attempt)) = plan.find(&reference.pointer).map(|id| &plan.node(id).kind)
    else {
        return passed_on(error);
    };
    let asked = Asked {
        execution,
        plan,
        reference,
        task,
        catch: &attempt.catch,
        error: Json::of(&error),
    };
    match asked.answer(&error, at) {
        Ok(Answer::TryAgain(due)) => Event::RetryScheduled {
            task: reference.clone(),
            attempt: task.attempt,
            error,
            at: due,
        },
        Ok(Answer::Handle) => Event::ErrorCaught {
            task: reference.clone(),
            attempt: task.attempt,
            error,
        },
        Ok(Answer::PassOn) => passed_on(error),
        Err(failed) => passed_on(bounded(
            expression_problem(&failed).at(reference.to_string()),
        )),
    }
}

/// What is done about an error.
enum Answer {
    TryAgain(Timestamp),
    Handle,
    PassOn,
}

/// A `catch` that is asked about an error.
struct Asked<'a> {
    execution: &'a Execution,
    plan: &'a Plan,
    reference: &'a TaskReference,
    task: &'a Task,
    catch: &'a Catch,
    error: Json,
}

impl Asked<'_> {
    fn answer(&self, error: &Problem, at: Timestamp) -> Result<Answer, EvaluationError> {
        let catch = self.catch;
        if !catch.errors.matches(error)
            || !self.holds(catch.when.as_ref(), catch.except_when.as_ref())?
        {
            return Ok(Answer::PassOn);
        }
        let Some(retry) = &catch.retry else {
            return Ok(Answer::Handle);
        };
        Ok(match self.due(retry, at)? {
            Some(due) => Answer::TryAgain(due),
            // Tried in vain, and nobody to handle it: an error is swallowed only where that is all that was asked for.
            None if catch.tasks.is_empty() => Answer::PassOn,
            None => Answer::Handle,
        })
    }

    /// When the next try is due, if there is one.
    fn due(&self, retry: &Retrying, at: Timestamp) -> Result<Option<Timestamp>, EvaluationError> {
        if !self.holds(retry.when.as_ref(), retry.except_when.as_ref())? {
            return Ok(None);
        }
        let task = self.task;
        let delay = retry.policy.delay_before(
            task.next_retry(),
            &self.execution.id,
            self.reference,
            task.attempt,
        );
        let due = delay.map(|delay| at.after(delay));
        let last = retry.within.map(|within| task.scheduled_at.after(within));
        Ok(due.filter(|due| last.is_none_or(|last| *due <= last)))
    }

    /// Whether one condition holds and the other does not. `.` is the error, which has its name besides.
    fn holds(
        &self,
        when: Option<&Expression>,
        except_when: Option<&Expression>,
    ) -> Result<bool, EvaluationError> {
        let (execution, within) = (self.execution, self.task.within.as_ref());
        let scope = TaskScope {
            execution,
            plan: self.plan,
            node: self
                .plan
                .find(&self.reference.pointer)
                .map(|id| self.plan.node(id)),
            within,
            context: execution.context_within(Some(self.reference)),
            error: Some((&self.catch.variable, &self.error)),
            dot: Dot::Value(self.error.clone()),
            input: Some(super::scope::text(&self.task.input)),
            output: None,
        };
        Ok(when.map_or(Ok(true), |when| when.evaluate_bool(&scope))?
            && !except_when.map_or(Ok(false), |except| except.evaluate_bool(&scope))?)
    }
}
