//! Definitions: what registering, validating and reading them answers. What is sent is the document itself.

use std::sync::Arc;

use eventflow_domain::{Digest, Json, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Fault;

/// A registered definition, without its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workflow {
    /// Groups definitions.
    #[schema(value_type = String, example = "default")]
    pub namespace: Arc<str>,
    /// Unique within its namespace.
    #[schema(value_type = String, example = "order")]
    pub name: Arc<str>,
    /// A semantic version.
    #[schema(value_type = String, example = "1.0.0")]
    pub version: Arc<str>,
    /// SHA-256 of the document's canonical JSON (RFC 8785), in hex.
    #[schema(value_type = String)]
    pub digest: Digest,
}

impl Workflow {
    /// A definition by its name and digest.
    pub fn new(workflow: WorkflowId, digest: Digest) -> Self {
        Self {
            namespace: workflow.namespace,
            name: workflow.name,
            version: workflow.version,
            digest,
        }
    }
}

/// A registered definition with its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkflowDocument {
    /// Groups definitions.
    #[schema(value_type = String, example = "default")]
    pub namespace: Arc<str>,
    /// Unique within its namespace.
    #[schema(value_type = String, example = "order")]
    pub name: Arc<str>,
    /// A semantic version.
    #[schema(value_type = String, example = "1.0.0")]
    pub version: Arc<str>,
    /// SHA-256 of the document's canonical JSON (RFC 8785), in hex.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The document as JSON, whatever it was written in.
    #[schema(value_type = serde_json::Value)]
    pub document: Json,
}

/// All definitions, in order of namespace, name and version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkflowList {
    /// Without their documents.
    pub workflows: Vec<Workflow>,
}

/// Whether a document could be registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Validation {
    /// Whether it has no fault.
    pub valid: bool,
    /// All of its faults.
    pub errors: Vec<Fault>,
}
