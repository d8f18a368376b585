//! Events from outside that start executions (requirement E5).

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_domain::{ExecutionId, Json, Tenant};

use super::Refusal;

/// External events.
///
/// 1. `accept` MUST start every workflow of the tenant that is bound to the event, in its latest version, with the
///    event's data as input, and answer their executions only after all of the starts are durable.
/// 2. The same `source` and `id` again, whatever else the event says then, MUST start nothing twice and answer the same
///    executions, for as long as they are kept and their workflows are bound to it.
/// 3. An event that nothing is bound to MUST be accepted and start nothing.
/// 4. An `automation_trigger_requested` without an `automation_id` MUST be refused with `Malformed`.
/// 5. The executions MUST carry the event's correlation and trace context, and its id as causation.
/// 6. Where a start is refused, `accept` MUST be refused as well, and the same event again MUST complete what is missing.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Events: Send + Sync {
    /// Takes an event; the executions that it started, in order of their workflows' names.
    async fn accept(
        &self,
        tenant: &Tenant,
        event: ExternalEvent,
    ) -> Result<Vec<ExecutionId>, Refusal>;
}

/// An event from outside, whatever envelope it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalEvent {
    /// Who says so; with `id` it is unique.
    pub source: Arc<str>,
    /// Which of the source's events.
    pub id: Arc<str>,
    /// What happened: `automation_trigger_requested`, …
    pub kind: Arc<str>,
    /// Its payload.
    pub data: Json,
    /// Carried on.
    pub correlation: Option<Arc<str>>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
}
