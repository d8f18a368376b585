//! The `Controls` port: pause, resume, stop, and what an execution waits for.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_domain::{
    ExecutionId, Tenant,
    execution::{self, Command, decide},
};
use eventflow_ports::inbound::{Action, Controls, ExecutionView, Explanation, Refusal};

use crate::{
    engine::{Engine, Inner},
    explain::explain,
    partition::{ControlAnswer, Key, Message, Partition},
    questions,
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
        let key = Key::new(tenant, execution);
        let home = self.inner.home(&key);
        let control = questions::Control {
            key,
            action,
            reason,
        };
        self.inner.ask(home, control).await
    }

    async fn explain(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<Explanation, Refusal> {
        let key = Key::new(tenant, execution);
        let home = self.inner.home(&key);
        self.inner.ask(home, questions::Explain(key)).await
    }
}

impl Inner {
    /// Pauses, resumes or stops an execution of this partition.
    pub(crate) async fn control(
        &self,
        partition: &Partition,
        control: questions::Control,
    ) -> Result<ExecutionView, Refusal> {
        let questions::Control {
            key,
            action,
            reason,
        } = control;
        let control = execution::Control { reason };
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
            match partition.ask(asked).await? {
                ControlAnswer::Accepted(snapshot) => return Ok(self.render(&snapshot)),
                ControlAnswer::Rejected(rejection) => return Err(refused(&rejection)),
                ControlAnswer::NotResident => {}
            }
            // It has left memory, so it has ended: its end decides, as it would have in memory.
            if let Some(ended) = self.find_in_view(partition.id, &key).await? {
                let now = self.backend.clock.now();
                decide(&ended.execution, &ended.plan, &command, now)
                    .map_err(|rejection| refused(&rejection))?;
                return Ok(self.render(&ended));
            }
        }
        Err(Refusal::NotFound(format!(
            "there is no execution {}",
            key.id
        )))
    }

    /// What an execution of this partition waits for.
    pub(crate) async fn explain(
        &self,
        partition: &Partition,
        key: &Key,
    ) -> Result<Explanation, Refusal> {
        let asked = |reply| Message::Holds {
            key: key.clone(),
            reply,
        };
        let (snapshot, holds) = match partition.ask(asked).await? {
            Some(in_memory) => in_memory,
            None => (self.find(partition, key, false).await?, Vec::new()),
        };
        Ok(explain(&snapshot.execution, &snapshot.plan, &holds))
    }
}
