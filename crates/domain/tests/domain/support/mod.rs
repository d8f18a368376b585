//! A small given / when / then harness, so that a test reads like a sentence:
//!
//! ```ignore
//! given(&order()).history([begin("charge", 1, "worker-1")])
//!     .when(complete("charge", 1, json!({"paid": true})))
//!     .then([completed("charge"), scheduled("ship")]);
//! ```
//!
//! Tasks go by their names, which are unique in the plans of these tests.

pub(crate) mod generate;
pub(crate) mod laws;
pub(crate) mod orders;
pub(crate) mod plans;
pub(crate) mod run;
pub(crate) mod seen;

use eventflow_domain::{
    DurationMs, Json, TaskReference,
    execution::{Execution, Rejection, Status, Task},
    plan::Plan,
};

pub(crate) use orders::*;
pub(crate) use run::{Outcome, Run};
pub(crate) use seen::*;

/// An execution of this plan, started with the input `{}`, its first tasks activated.
pub(crate) fn given(plan: &Plan) -> Given<'_> {
    given_input(plan, serde_json::json!({}))
}

/// The same with another input.
pub(crate) fn given_input(plan: &Plan, input: serde_json::Value) -> Given<'_> {
    let mut run = Run::requested(plan, Json::of(&input));
    run.advance();
    Given { run }
}

/// What happened so far.
pub(crate) struct Given<'p> {
    pub(crate) run: Run<'p>,
}

impl<'p> Given<'p> {
    /// Orders that were accepted, each brought to its end.
    pub(crate) fn history(mut self, orders: impl IntoIterator<Item = Order>) -> Self {
        for order in orders {
            self.run
                .order(&order)
                .unwrap_or_else(|rejection| panic!("{order:?} is history: {rejection}"));
            self.run.advance();
        }
        self
    }

    /// So much time has passed, and nobody came back yet.
    pub(crate) fn later(mut self, milliseconds: u64) -> Self {
        self.run.now = self.run.now.after(DurationMs(milliseconds));
        self
    }

    /// So much time has passed, and whatever became due has happened at its time.
    pub(crate) fn wait(mut self, milliseconds: u64) -> Self {
        self.run.wait(DurationMs(milliseconds));
        self
    }

    /// The order in question.
    pub(crate) fn when(mut self, order: Order) -> Answered<'p> {
        let before = self.run.execution.clone();
        let plan = self.run.plan;
        let answer = self.run.order(&order);
        let answer =
            answer.map(|events| events.iter().map(|event| Seen::of(plan, event)).collect());
        Answered {
            run: self.run,
            before,
            answer,
        }
    }

    /// The state itself.
    pub(crate) fn expect(&self) -> &Execution {
        &self.run.execution
    }
}

/// What came of an order.
pub(crate) struct Answered<'p> {
    pub(crate) run: Run<'p>,
    before: Execution,
    answer: Result<Vec<Seen>, Rejection>,
}

impl<'p> Answered<'p> {
    /// Exactly these events, in this order.
    #[track_caller]
    pub(crate) fn then(self, expected: impl IntoIterator<Item = Seen>) -> Given<'p> {
        let expected: Vec<Seen> = expected.into_iter().collect();
        assert_eq!(self.answer.as_ref(), Ok(&expected));
        Given { run: self.run }
    }

    /// Accepted, and nothing happened.
    #[track_caller]
    pub(crate) fn then_nothing(self) -> Given<'p> {
        assert_eq!(self.answer, Ok(Vec::new()));
        assert_eq!(self.run.execution, self.before, "a repeat changes nothing");
        Given { run: self.run }
    }

    /// Refused, and nothing happened.
    #[track_caller]
    pub(crate) fn refused(self, expected: &Refused) -> Given<'p> {
        let rejection = self.answer.expect_err("the order is refused");
        assert_eq!(&Refused::of(&rejection), expected, "{rejection}");
        assert_eq!(self.run.execution, self.before, "a refusal changes nothing");
        Given { run: self.run }
    }
}

/// The kind of a rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    UnknownTask,
    OtherResult,
    Superseded(&'static str),
    NotScheduled,
    HeldBy(String),
    Ended(Status),
    Stopping,
    Paused,
}

impl Refused {
    pub(crate) fn of(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::UnknownTask(_) => Self::UnknownTask,
            Rejection::OtherResult { .. } => Self::OtherResult,
            Rejection::Superseded { reason, .. } => Self::Superseded(reason),
            Rejection::NotScheduled { .. } => Self::NotScheduled,
            Rejection::Held { agent, .. } => Self::HeldBy(agent.to_string()),
            Rejection::Ended(status) => Self::Ended(*status),
            Rejection::Stopping => Self::Stopping,
            Rejection::Paused { .. } => Self::Paused,
        }
    }
}

impl Given<'_> {
    /// The task of this name.
    #[track_caller]
    pub(crate) fn task(&self, name: &str) -> &Task {
        self.run.task(name)
    }

    /// Its output as JSON.
    #[track_caller]
    pub(crate) fn output_of(&self, name: &str) -> serde_json::Value {
        let output = self.task(name).output.as_ref();
        output
            .and_then(|output| output.json())
            .expect("the task has an output")
            .to_value()
    }

    /// What its current attempt is to work on.
    #[track_caller]
    pub(crate) fn work_of(&self, name: &str) -> serde_json::Value {
        let input = self.task(name).work_input().json();
        input.expect("the input is in memory").to_value()
    }

    /// The output of an execution that completed.
    #[track_caller]
    pub(crate) fn output(&self) -> serde_json::Value {
        assert_eq!(
            self.expect().status,
            Status::Completed,
            "error: {:?}",
            self.expect().error
        );
        let output = self
            .expect()
            .output
            .as_ref()
            .and_then(|output| output.json());
        output
            .expect("a completed execution has an output")
            .to_value()
    }

    /// The title and the task of the error that ended the execution.
    #[track_caller]
    pub(crate) fn fault(&self) -> (String, String) {
        assert_eq!(self.expect().status, Status::Faulted);
        let error = self
            .expect()
            .error
            .clone()
            .expect("a faulted execution has an error");
        (
            error.title.unwrap_or_default(),
            error.instance.unwrap_or_default(),
        )
    }

    /// Names of tasks whose attempts are owed, in order.
    pub(crate) fn owed(&self) -> Vec<String> {
        self.run.owed()
    }
}

/// The reference of the task of this name.
pub(crate) fn reference(plan: &Plan, name: &str) -> TaskReference {
    let mut named = plan
        .nodes()
        .filter(|(id, node)| *id != plan.root && &*node.name == name);
    match (named.next(), named.next()) {
        (Some((_, node)), None) => TaskReference::at(&node.pointer),
        (None, _) => TaskReference::at(&format!("/nowhere/{name}")),
        (Some(_), Some(_)) => panic!("two tasks are called {name}"),
    }
}
