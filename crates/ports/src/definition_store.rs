//! Registered definitions: immutable documents by digest, and by name and version.

use async_trait::async_trait;
use eventflow_domain::{Digest, Json, Tenant, WorkflowId};

use crate::Source;

/// Keeps documents; compiles none.
///
/// 1. `put` of a new name and version MUST store the document and answer `Created`.
/// 2. `put` of the same name, version and digest MUST change nothing and answer `Same`.
/// 3. `put` of another digest under a stored name and version MUST change nothing and answer `Different` with the stored
///    digest.
/// 4. `keep` MUST make a document findable by digest only, and repeat harmlessly.
/// 5. `by_digest` MUST find every document that was put or kept, of this tenant only.
/// 6. `by_name` MUST find a version; without one, the highest by semantic-version order.
/// 7. `list` MUST give every put definition of the tenant, of one namespace where one is named, in order of namespace,
///    name and version.
/// 8. What was acknowledged MUST be found by a new instance on the same store.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait DefinitionStore: Send + Sync {
    /// Registers a definition under its name and version.
    async fn put(&self, tenant: &Tenant, definition: Definition) -> Result<Put, DefinitionError>;
    /// Keeps a document that an execution is pinned to, without a name.
    async fn keep(&self, tenant: &Tenant, definition: Definition) -> Result<(), DefinitionError>;
    /// A document by its digest.
    async fn by_digest(
        &self,
        tenant: &Tenant,
        digest: &Digest,
    ) -> Result<Option<Definition>, DefinitionError>;
    /// A definition by name; the latest version where none is given.
    async fn by_name<'a>(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        version: Option<&'a str>,
    ) -> Result<Option<Definition>, DefinitionError>;
    /// All definitions, of one namespace where one is given.
    async fn list<'a>(
        &self,
        tenant: &Tenant,
        namespace: Option<&'a str>,
    ) -> Result<Vec<Definition>, DefinitionError>;
}

/// A document and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Namespace, name and version.
    pub workflow: WorkflowId,
    /// SHA-256 of the document's canonical JSON (RFC 8785).
    pub digest: Digest,
    /// The document as JSON.
    pub document: Json,
}

/// What `put` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Stored.
    Created,
    /// Was there.
    Same,
    /// Another document has this name and version.
    Different {
        /// The digest of that one.
        stored: Digest,
    },
}

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Try again later; a `put` may have been done.
    #[error("the definition store did not answer: {0}")]
    Unavailable(#[source] Source),
}
