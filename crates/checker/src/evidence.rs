//! What somebody outside was told: the journal must have it.

use std::collections::HashMap;

use eventflow_domain::{
    Attempt, Digest, ExecutionId, Json, Tenant, Timestamp, Value, execution::Status,
};
use serde::{Deserialize, Serialize};

use crate::{
    Invariant,
    fact::{Begun, Order},
    violation::{Findings, Place},
};

/// Something that was acknowledged. As JSON, one a line:
///
/// ```text
/// {"start": {"executionId": "e-1", "status": "completed"}}
/// {"result": {"executionId": "e-1", "task": "/do/0/charge", "output": {"n": 1}}}
/// {"control": {"executionId": "e-1", "order": "pause", "at": 1700000000000}}
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Evidence {
    /// A start was answered with its id.
    #[serde(rename_all = "camelCase")]
    Start {
        /// Whose.
        #[serde(default = "Tenant::default_tenant")]
        tenant: Tenant,
        /// Which.
        execution_id: ExecutionId,
        /// How it must have ended; it may still be open where this is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<Status>,
    },
    /// A result was accepted.
    #[serde(rename_all = "camelCase")]
    Result {
        /// Whose.
        #[serde(default = "Tenant::default_tenant")]
        tenant: Tenant,
        /// Of which execution.
        execution_id: ExecutionId,
        /// Of which task, as leases name it.
        task: String,
        /// Of which try; any where this is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<Attempt>,
        /// What was brought, as it was written.
        output: Json,
    },
    /// A pause, resume or stop was accepted.
    #[serde(rename_all = "camelCase")]
    Control {
        /// Whose.
        #[serde(default = "Tenant::default_tenant")]
        tenant: Tenant,
        /// Of which execution.
        execution_id: ExecutionId,
        /// What was ordered.
        order: Order,
        /// When the answer came, by a clock that agrees with the service's.
        at: Timestamp,
    },
}

/// Evidence that waits to be found in the journal. Bounded by what the caller gives.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    executions: HashMap<(Tenant, ExecutionId), Awaited>,
}

#[derive(Debug, Default)]
struct Awaited {
    start: Option<AwaitedStart>,
    results: Vec<AwaitedResult>,
    controls: Vec<(Order, Timestamp)>,
}

#[derive(Debug, Clone, Copy)]
enum AwaitedStart {
    /// It is there, however it goes on.
    There,
    /// It has ended so.
    Ended(Status),
}

#[derive(Debug)]
struct AwaitedResult {
    task: String,
    attempt: Option<Attempt>,
    output: Json,
}

impl Expected {
    pub(crate) fn add(&mut self, evidence: Evidence) {
        match evidence {
            Evidence::Start {
                tenant,
                execution_id,
                status,
            } => {
                let start = status.map_or(AwaitedStart::There, AwaitedStart::Ended);
                self.of(tenant, execution_id).start = Some(start);
            }
            Evidence::Result {
                tenant,
                execution_id,
                task,
                attempt,
                output,
            } => self.of(tenant, execution_id).results.push(AwaitedResult {
                task,
                attempt,
                output,
            }),
            Evidence::Control {
                tenant,
                execution_id,
                order,
                at,
            } => self.of(tenant, execution_id).controls.push((order, at)),
        }
    }

    fn of(&mut self, tenant: Tenant, execution: ExecutionId) -> &mut Awaited {
        self.executions.entry((tenant, execution)).or_default()
    }

    /// The journal has the start.
    pub(crate) fn started(&mut self, key: &(Tenant, ExecutionId)) {
        if let Some(awaited) = self.executions.get_mut(key)
            && matches!(awaited.start, Some(AwaitedStart::There))
        {
            awaited.start = None;
        }
    }

    /// The journal has an end.
    pub(crate) fn ended(
        &mut self,
        key: &(Tenant, ExecutionId),
        status: Status,
        place: &Place,
        findings: &mut Findings,
    ) {
        let Some(awaited) = self.executions.get_mut(key) else {
            return;
        };
        if let Some(AwaitedStart::Ended(wanted)) = awaited.start.take()
            && wanted != status
        {
            let detail = format!(
                "it ended {}, where {} was to be expected",
                status.as_str(),
                wanted.as_str()
            );
            findings.add(place, Invariant::I1, detail);
        }
    }

    /// The journal has an order. A repeat of an order is no event, so one may answer for several acknowledgements.
    pub(crate) fn ordered(&mut self, key: &(Tenant, ExecutionId), order: Order, at: Timestamp) {
        if let Some(awaited) = self.executions.get_mut(key) {
            awaited
                .controls
                .retain(|(wanted, acknowledged)| *wanted != order || *acknowledged < at);
        }
    }

    /// The journal has a result.
    pub(crate) fn brought(
        &mut self,
        key: &(Tenant, ExecutionId),
        begun: Begun<'_>,
        output: Option<&Value>,
        result: Option<&Digest>,
        place: &Place,
        findings: &mut Findings,
    ) {
        let Some(awaited) = self.executions.get_mut(key) else {
            return;
        };
        let task = begun.task.to_string();
        awaited.results.retain(|wanted| {
            let is_it = wanted.task == task
                && (wanted.attempt.is_none() || wanted.attempt == begun.attempt);
            if is_it && !wanted.is(output, result) {
                let detail = format!(
                    "the result {} of {task} was accepted, but another one stands",
                    wanted.output.as_str()
                );
                findings.add(place, Invariant::I4, detail);
            }
            !is_it
        });
    }

    /// What the journal does not have.
    pub(crate) fn missing(&self, findings: &mut Findings) {
        let mut missing: Vec<_> = self.executions.iter().collect();
        missing.sort_by_key(|(key, _)| *key);
        for (key, awaited) in missing {
            let place = Place {
                owner: Some(key.clone()),
                ..Place::default()
            };
            if let Some(start) = awaited.start {
                let detail = match start {
                    AwaitedStart::There => {
                        "its start was acknowledged, and no record has it".to_owned()
                    }
                    AwaitedStart::Ended(status) => format!(
                        "its start was acknowledged, and it has not ended {}",
                        status.as_str()
                    ),
                };
                findings.add(&place, Invariant::I1, detail);
            }
            for result in &awaited.results {
                let detail = format!(
                    "the result {} of {} was accepted, and no record has it",
                    result.output.as_str(),
                    result.task
                );
                findings.add(&place, Invariant::I4, detail);
            }
            for (order, at) in &awaited.controls {
                let detail = format!(
                    "a {} was acknowledged at {}, and no record up to then has it",
                    order.as_str(),
                    at.0
                );
                findings.add(&place, Invariant::I10, detail);
            }
        }
    }
}

impl AwaitedResult {
    /// Whether this is what was brought. Where `output.as` made something else of it, only the digest of its text is left.
    fn is(&self, output: Option<&Value>, result: Option<&Digest>) -> bool {
        match (result, output) {
            (Some(digest), _) | (None, Some(Value::Ref { digest, .. })) => {
                *digest == Digest::of(self.output.as_str().as_bytes())
            }
            (None, Some(Value::Inline(json))) => *json == self.output,
            // It is what another task brought, word for word.
            (None, None) => true,
        }
    }
}
