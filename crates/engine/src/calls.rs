//! The `Calls` port: a service call is an execution of the service's own workflow (requirement S1).

use std::collections::BTreeMap;

use async_trait::async_trait;
use eventflow_domain::{
    DurationMs, ExecutionId, Json, Tenant,
    plan::{HttpCall, HttpOutput},
    service_call::CALL_ID,
};
use eventflow_ports::inbound::{
    Calls, Executions, Refusal, ServiceCall, StartExecution, WorkflowRef,
};

use crate::engine::Engine;

/// The longest call id, bytes: a label of each call, and part of its public events.
const CALL_ID_BYTES_MAX: usize = 256;

#[async_trait]
impl Calls for Engine {
    async fn call(&self, tenant: &Tenant, call: ServiceCall) -> Result<(), Refusal> {
        if !(1..=CALL_ID_BYTES_MAX).contains(&call.id.len()) {
            return Err(Refusal::malformed(format!(
                "a service call's id must have 1 to {CALL_ID_BYTES_MAX} bytes, not {}",
                call.id.len()
            )));
        }
        let id = ExecutionId::derived(tenant, "service-call", &[&call.id]);
        let input = Json::of(&request(&call));
        let start = StartExecution {
            tenant: tenant.clone(),
            // Inline, so that every node finds the document that the call is pinned to, also one of another version.
            workflow: WorkflowRef::Inline(eventflow_dsl::service_call()),
            input: input.clone(),
            execution: Some(id.clone()),
            idempotency_key: None,
            correlation: call.correlation,
            labels: BTreeMap::from([(CALL_ID.to_owned(), call.id.to_string())]),
            traceparent: call.traceparent,
            causation: call.causation,
        };
        match self.start(start).await {
            // The same request, asked for with other words around it, is the same call.
            Err(Refusal::Contradiction(_)) if self.view(tenant, &id).await?.input == input => {
                Ok(())
            }
            Err(Refusal::Contradiction(_)) => Err(Refusal::Contradiction(format!(
                "service call `{}` was asked for with another request: repeat that, or choose another id",
                call.id
            ))),
            started => started.map(drop),
        }
    }
}

/// What the execution is given, and its one task sends.
fn request(call: &ServiceCall) -> HttpCall {
    let millis = |timeout: std::time::Duration| {
        DurationMs(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
    };
    HttpCall {
        method: call.method.as_str().into(),
        endpoint: call.url.clone(),
        headers: call.headers.clone(),
        query: Vec::new(),
        body: call.body.as_ref().map(Json::of),
        output: HttpOutput::Outcome,
        redirect: false,
        timeout: call.timeout.map(millis),
    }
}
