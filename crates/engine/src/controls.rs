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
        let snapshot = match inner.partition(&key).ask(asked).await? {
            ControlAnswer::Accepted(snapshot) => snapshot,
            ControlAnswer::Rejected(rejection) => return Err(refused(&rejection)),
            // It has left memory, so it has ended: its end decides, as it would have in memory.
            ControlAnswer::NotResident => {
                let ended = inner.find(&key, false).await?;
                let now = inner.backend.clock.now();
                decide(&ended.execution, &ended.plan, &command, now)
                    .map_err(|rejection| refused(&rejection))?;
                ended
            }
        };
        Ok(inner.render(&snapshot))
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
