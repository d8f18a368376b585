//! What is sent at most once, whatever crashes: service calls (requirement S1, DESIGN section 9).

use eventflow_domain::{
    AgentName, Attempt, TaskReference, Timestamp, Value,
    execution::{Command, Dispatch},
};

use super::{commit::HTTP_AGENT, message::Key, writer::Writer};
use crate::outcome;

/// The one attempt of a service call.
pub(super) struct ServiceCall {
    task: TaskReference,
    attempt: Attempt,
    call: Value,
    deadline: Option<Timestamp>,
    /// When it was begun, where it was: by a writer before this one, since this one dispatches it only once.
    begun_at: Option<Timestamp>,
}

impl ServiceCall {
    pub(super) fn of(owed: &Dispatch<'_>) -> Self {
        let task = owed.task;
        Self {
            task: owed.reference.clone(),
            attempt: task.attempt,
            call: task.work_input().clone(),
            deadline: task.deadline(),
            begun_at: task.agent.as_ref().and(task.started_at),
        }
    }
}

impl Writer {
    /// Begins a service call, and sends its request once that it began is durable: whoever recovers it then knows that
    /// it may have been sent. One that was begun before is over.
    pub(super) fn perform_once(&mut self, key: &Key, owed: ServiceCall) {
        let ServiceCall {
            task,
            attempt,
            call,
            deadline,
            begun_at,
        } = owed;
        self.begin_batch();
        if let Some(begun_at) = begun_at {
            let error = outcome::interrupted(self.batch.time.since(begun_at));
            let interrupted = Command::FailAttempt {
                task,
                attempt,
                error,
                retryable: false,
                retry_after: None,
            };
            // Refused where the execution is being stopped: then nobody waits for an outcome.
            let _ = self.apply(key, &interrupted);
            return;
        }
        let begin = Command::BeginAttempt {
            task: task.clone(),
            attempt,
            agent: AgentName::parse(HTTP_AGENT).expect("a constant name"),
        };
        // Refused where somebody paused or stopped it meanwhile.
        if self.apply(key, &begin).is_ok() {
            let (performer, key) = (self.performer.clone(), key.clone());
            self.when_durable(Box::new(move || {
                performer.perform(&key, &task, attempt, call, deadline);
            }));
        }
    }
}
