//! Orders in the words of a test: commands whose task is still a name.

use eventflow_domain::{
    AgentName, Attempt, DurationMs, Json, Problem, Value,
    error::ErrorKind,
    execution::{Command, Control},
    plan::Plan,
};

use super::reference;

/// A command whose task is still a name.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Begin(String, u32, String),
    Complete(String, u32, Value),
    Fail(String, u32, Failure),
    Expire(String, u32),
    Pause,
    Resume,
    Stop,
    FireTimers,
    Advance,
}

/// How an attempt failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: Problem,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<DurationMs>,
}

pub(crate) fn begin(task: &str, attempt: u32, agent: &str) -> Order {
    Order::Begin(task.to_owned(), attempt, agent.to_owned())
}

pub(crate) fn complete(task: &str, attempt: u32, output: serde_json::Value) -> Order {
    Order::Complete(task.to_owned(), attempt, Value::new(Json::of(&output)))
}

/// A failure that another try may mend.
pub(crate) fn fail(task: &str, attempt: u32, title: &str) -> Order {
    let failure = Failure {
        error: problem(title),
        retryable: true,
        retry_after: None,
    };
    Order::Fail(task.to_owned(), attempt, failure)
}

/// A failure that no other try mends.
pub(crate) fn fail_for_good(task: &str, attempt: u32, title: &str) -> Order {
    let failure = Failure {
        error: problem(title),
        retryable: false,
        retry_after: None,
    };
    Order::Fail(task.to_owned(), attempt, failure)
}

/// A failure whose next try should not come before so many milliseconds.
pub(crate) fn fail_until(task: &str, attempt: u32, title: &str, milliseconds: u64) -> Order {
    let failure = Failure {
        error: problem(title),
        retryable: true,
        retry_after: Some(DurationMs(milliseconds)),
    };
    Order::Fail(task.to_owned(), attempt, failure)
}

pub(crate) fn expire(task: &str, attempt: u32) -> Order {
    Order::Expire(task.to_owned(), attempt)
}

pub(crate) fn pause() -> Order {
    Order::Pause
}

pub(crate) fn resume() -> Order {
    Order::Resume
}

pub(crate) fn stop() -> Order {
    Order::Stop
}

pub(crate) fn fire_timers() -> Order {
    Order::FireTimers
}

pub(crate) fn advance() -> Order {
    Order::Advance
}

/// An agent's own error.
pub(crate) fn problem(title: &str) -> Problem {
    Problem::new(ErrorKind::Runtime, title, "the agent says so")
}

impl Order {
    /// The command, with the task's reference in this plan.
    pub(crate) fn command(&self, plan: &Plan) -> Command {
        let task = |name: &str| reference(plan, name);
        match self {
            Self::Begin(name, attempt, agent) => Command::BeginAttempt {
                task: task(name),
                attempt: Attempt(*attempt),
                agent: AgentName::parse(agent).expect("a name"),
            },
            Self::Complete(name, attempt, output) => Command::CompleteAttempt {
                task: task(name),
                attempt: Attempt(*attempt),
                output: output.clone(),
            },
            Self::Fail(name, attempt, failure) => Command::FailAttempt {
                task: task(name),
                attempt: Attempt(*attempt),
                error: failure.error.clone(),
                retryable: failure.retryable,
                retry_after: failure.retry_after,
            },
            Self::Expire(name, attempt) => Command::ExpireLease {
                task: task(name),
                attempt: Attempt(*attempt),
            },
            Self::Pause => Command::Pause(Control::default()),
            Self::Resume => Command::Resume(Control::default()),
            Self::Stop => Command::Stop(Control::default()),
            Self::FireTimers => Command::FireTimers,
            Self::Advance => Command::Advance,
        }
    }
}
