//! The agent protocol: what is asked, and what an answer means for whoever asked.

use std::time::Duration;

use eventflow_domain::{AgentName, Capability, DurationMs};
use eventflow_wire::v1::{
    Problem, Span,
    tasks::{BeginBody, LeaseBody},
};

/// Why a request was not answered as hoped: one variant per decision of the agent.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// Maybe done; the same again, later.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// Never: the request itself is wrong.
    Never(Box<Problem>),
}

impl Refused {
    /// Not answered, or not so that it can be understood.
    pub(crate) fn unheard(why: impl Into<String>) -> Self {
        Self::Later {
            why: why.into(),
            after: None,
        }
    }

    /// Answered by a problem.
    pub(crate) fn by(problem: Problem, after: Option<Duration>) -> Self {
        match problem.status {
            408 | 425 | 429 | 500.. => Self::Later {
                why: said(&problem),
                after,
            },
            _ => Self::Never(Box::new(problem)),
        }
    }
}

/// Who asks for what, the same in every lease and every begin.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) agent: AgentName,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) lease: Duration,
}

impl Asking {
    pub(crate) fn body(&self, max: usize, wait: Option<Duration>) -> LeaseBody {
        LeaseBody {
            agent: self.agent.clone(),
            capabilities: self.capabilities.clone(),
            max,
            wait: wait.map(span),
            lease_for: Some(span(self.lease)),
        }
    }

    pub(crate) fn begin(&self) -> BeginBody {
        BeginBody {
            agent: self.agent.clone(),
            lease_for: Some(span(self.lease)),
        }
    }
}

/// What became of a result.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Durable.
    Accepted,
    /// Nobody wants it any more (404, 409): the attempt was stopped, superseded or ended in another way.
    Unwanted(Problem),
}

impl Settled {
    /// Sorts the status of a result that was not accepted.
    pub(crate) fn refused(
        status: u16,
        problem: impl FnOnce() -> Problem,
        after: Option<Duration>,
    ) -> Result<Self, Refused> {
        match status {
            404 | 409 => Ok(Self::Unwanted(problem())),
            400 | 413 | 415 | 422 => Err(Refused::Never(Box::new(problem()))),
            _ => Err(Refused::Later {
                why: said(&problem()),
                after,
            }),
        }
    }
}

/// A problem in one line.
pub(crate) fn said(problem: &Problem) -> String {
    let title = problem.title.as_deref().unwrap_or("refused");
    match &problem.detail {
        Some(detail) => format!("{} {title}: {detail}", problem.status),
        None => format!("{} {title}", problem.status),
    }
}

fn span(duration: Duration) -> Span {
    DurationMs(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).into()
}
