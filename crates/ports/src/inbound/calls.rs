//! Service calls: one HTTP request, one outcome (requirement S1).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::Tenant;

use super::Refusal;

/// Service calls.
///
/// A call is an execution of the workflow [`eventflow_domain::service_call::NAME`]: what comes of it stands in that
/// execution, and in its public events.
///
/// 1. `call` MUST answer only after the call is durable; it does not wait for its outcome.
/// 2. The same call id again MUST perform nothing and be accepted where it is the same request; with another request
///    it MUST be refused with `Contradiction`.
/// 3. A request that cannot be sent as it is (its method, URL or a header) MUST be accepted: its outcome is a failure of
///    kind `invalid`.
/// 4. At most one request MUST be sent, whatever crashes: a call that was interrupted ends as failed, of kind `network`.
/// 5. A response of status 2xx MUST complete the call with status, headers, the beginning of the body and the latency.
/// 6. Any other response MUST fail it as `http`, with its status and the beginning of its body; none in time MUST fail
///    it as `timeout`, a connection that fails as `network`.
/// 7. A call id that is empty or longer than 256 bytes MUST be refused with `Malformed`.
/// 8. The public events of a call MUST name its id, correlation and causation, and nothing of the request.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Calls: Send + Sync {
    /// Accepts a call.
    async fn call(&self, tenant: &Tenant, call: ServiceCall) -> Result<(), Refusal>;
}

/// What to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCall {
    /// The caller's own id, of any characters, at most 256 bytes.
    pub id: Arc<str>,
    /// `GET`, `POST`, …
    pub method: String,
    /// Absolute.
    pub url: String,
    /// In any order.
    pub headers: Vec<(String, String)>,
    /// As it is sent.
    pub body: Option<String>,
    /// Over all; the service's own limit where nothing is said.
    pub timeout: Option<Duration>,
    /// Carried on.
    pub correlation: Option<Arc<str>>,
    /// The id of the message that asked for it.
    pub causation: Option<Arc<str>>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
}
