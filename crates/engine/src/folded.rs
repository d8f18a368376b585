//! Executions folded from their events as a stream of public events passes them, with the plans that name their tasks.

use std::{collections::HashMap, sync::Arc};

use eventflow_domain::{
    Timestamp,
    execution::{Event, Execution},
    plan::Plan,
};
use eventflow_ports::inbound::Refusal;

use crate::{definitions::Definitions, partition::Key};

/// Executions that are kept; further ones are folded again when they move.
const FOLDED_MAX: usize = 16_384;

/// An execution right after an event of its.
pub(crate) struct Folded {
    pub(crate) execution: Execution,
    pub(crate) plan: Arc<Plan>,
}

/// Executions by key, each as far as its events have come by.
#[derive(Default)]
pub(crate) struct Folding(HashMap<Key, Folded>);

impl Folding {
    pub(crate) fn get(&self, key: &Key) -> Option<&Folded> {
        self.0.get(key)
    }

    /// Adds the next event of an execution; none where its first one did not come by.
    pub(crate) async fn fold(
        &mut self,
        definitions: &Definitions,
        key: &Key,
        event: &Event,
        time: Timestamp,
    ) -> Result<Option<&Folded>, Refusal> {
        if let Event::ExecutionRequested(requested) = event {
            let plan = definitions.plan_of(&key.tenant, &requested.digest).await?;
            if self.0.len() >= FOLDED_MAX {
                self.0.clear();
            }
            let (tenant, id) = (key.tenant.clone(), key.id.clone());
            let execution = Execution::requested(tenant, id, requested.clone(), time);
            self.0.insert(key.clone(), Folded { execution, plan });
        } else if let Some(folded) = self.0.get_mut(key) {
            folded.execution.evolve(event, time);
        }
        Ok(self.0.get(key))
    }

    /// Nothing follows its end.
    pub(crate) fn forget_ended(&mut self, key: &Key) {
        if self.get(key).is_some_and(|it| it.execution.is_ended()) {
            self.0.remove(key);
        }
    }
}
