//! Registering and reading definitions.

use async_trait::async_trait;
use eventflow_domain::{Json, Tenant};

use super::{Fault, Refusal};
use crate::Definition;

/// Definitions, from outside.
///
/// 1. `register` MUST refuse an invalid document with `Invalid` and all of its faults, and store nothing.
/// 2. The same document again MUST be `Registered` with `created: false`; another document under the same version MUST
///    be refused with `Contradiction`.
/// 3. `validate` MUST give the faults that `register` would, and store nothing.
/// 4. `get` and `list` MUST see what was registered, of this tenant only.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Workflows: Send + Sync {
    /// Compiles and stores a document.
    async fn register(&self, tenant: &Tenant, document: Json) -> Result<Registered, Refusal>;
    /// Every fault of a document.
    fn validate(&self, document: &Json) -> Vec<Fault>;
    /// One definition; the latest version where none is given.
    async fn get<'a>(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        version: Option<&'a str>,
    ) -> Result<Definition, Refusal>;
    /// All definitions, of one namespace where one is given.
    async fn list<'a>(
        &self,
        tenant: &Tenant,
        namespace: Option<&'a str>,
    ) -> Result<Vec<Definition>, Refusal>;
}

/// A definition that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// As stored.
    pub definition: Definition,
    /// Whether this call stored it.
    pub created: bool,
}
