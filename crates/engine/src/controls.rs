//! The `Controls` port: pause, resume, stop, and what an execution waits for.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_domain::{
    ExecutionId, Tenant,
    execution::{Command, Control, decide},
};
use eventflow_ports::inbound::{Action, Controls, ExecutionView, Explanation, Refusal};

use crate::{
    engine::Engine,
    explain::explain,
    partition::{ControlAnswer, Key, Message},
    tasks::refused,
};

#[async_trait]
impl Controls for Engine {
    async fn control(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
        action: Action,
        reason: Option<Arc<str>>,
    ) -> Result<ExecutionView, Refusal> {
        let inner = &self.inner;
        let key = Key {
            tenant: tenant.clone(),
            id: execution.clone(),
        };
        let control = Control { reason };
        let command = match action {
            Action::Pause => Command::Pause(control),
            Action::Resume => Command::Resume(control),
            Action::Stop => Command::Stop(control),
        };
        let asked = |reply| Message::Control {
            key: key.clone(),
            command: command.clone(),
            reply,
        };
        // Twice, since it may move from memory to the view between the two questions.
        for _ in 0..2 {
            match inner.partition(&key).ask(asked).await? {
                ControlAnswer::Accepted(snapshot) => return Ok(inner.render(&snapshot)),
                ControlAnswer::Rejected(rejection) => return Err(refused(&rejection)),
                ControlAnswer::NotResident => {}
            }
            // It has left memory, so it has ended: its end decides, as it would have in memory.
            if let Some(ended) = inner.find_in_view(&key).await? {
                let now = inner.backend.clock.now();
                decide(&ended.execution, &ended.plan, &command, now)
                    .map_err(|rejection| refused(&rejection))?;
                return Ok(inner.render(&ended));
            }
        }
        Err(Refusal::NotFound(format!(
            "there is no execution {}",
            key.id
        )))
    }

    async fn explain(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Explanation, Refusal> {
        let inner = &self.inner;
        let key = Key {
            tenant: tenant.clone(),
            id: execution.clone(),
        };
        let asked = |reply| Message::Holds {
            key: key.clone(),
            reply,
        };
        let (snapshot, holds) = match inner.partition(&key).ask(asked).await? {
            Some(in_memory) => in_memory,
            None => (inner.find(&key, false).await?, Vec::new()),
        };
        Ok(explain(&snapshot.execution, &snapshot.plan, &holds))
    }
}
