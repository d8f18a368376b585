//! Names and ids that the suites share.

use eventflow_domain::{ExecutionId, Tenant, WorkflowId};

pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("a sample's name is one")
}

pub(crate) fn execution(name: &str) -> ExecutionId {
    ExecutionId::parse(name).expect("a sample's name is one")
}

pub(crate) fn workflow(name: &str) -> WorkflowId {
    WorkflowId {
        namespace: "default".into(),
        name: name.into(),
        version: "1.0.0".into(),
    }
}
