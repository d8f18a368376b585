//! The workflow of the service's own behind service calls (requirement S1): one task, which is one HTTP request.

use std::sync::LazyLock;

use eventflow_domain::{
    Digest, Json, WorkflowId,
    limits::START_WITHIN,
    plan::{Invoke, Performer},
    retry::RetryPolicy,
    service_call::is_service_call,
};

use crate::{fault::Faults, site::Site};

/// The function of its one task. Only this document may call it: its input is the request as it is sent.
pub(crate) const FUNCTION: &str = "service-call:1.0.0@eventflow";

/// Executions are pinned to its digest: what is changed here needs a new version.
const DOCUMENT: &str = r#"{"document":{"dsl":"1.0.3","namespace":"eventflow","name":"service-call","version":"1.0.0"},"do":[{"request":{"call":"service-call:1.0.0@eventflow"}}]}"#;

static PARSED: LazyLock<(Json, Digest)> = LazyLock::new(|| {
    let document = Json::parse(DOCUMENT).expect("the constant document is JSON");
    let digest = crate::digest(&document);
    (document, digest)
});

/// The document. The input of its executions is an [`HttpCall`](eventflow_domain::plan::HttpCall).
pub fn service_call() -> Json {
    PARSED.0.clone()
}

/// Whether a document is this one.
pub(crate) fn is_own(digest: &Digest) -> bool {
    *digest == PARSED.1
}

/// One request per attempt, and one attempt.
pub(crate) fn invoke() -> Invoke {
    Invoke {
        performer: Performer::ServiceCall,
        retry: RetryPolicy::NEVER,
        start_within: START_WITHIN,
    }
}

/// A fault where a document is named as this one: what its executions tell would be taken for the outcomes of calls.
pub(crate) fn check_name(
    workflow: Option<&WorkflowId>,
    digest: &Digest,
    header: &Site<'_>,
    faults: &mut Faults,
) {
    if workflow.is_some_and(is_service_call) && !is_own(digest) {
        let detail = "this name is the service's own in this namespace: choose another";
        faults.below(header, "/name", detail);
    }
}
