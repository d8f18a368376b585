//! Registering and reading definitions.

use std::fmt;

use async_trait::async_trait;
use eventflow_domain::Tenant;

use super::{Fault, Refusal};
use crate::Definition;

/// Definitions, from outside: texts go in, whoever reads them is inside.
///
/// 1. `register` MUST refuse an invalid document with `Invalid` and all of its faults, and store nothing.
/// 2. The same document again, in whatever format and however it is spelt, MUST be `Registered` with `created: false`;
///    another document under the same version MUST be refused with `Contradiction`.
/// 3. `validate` MUST give the faults that `register` would, and store nothing.
/// 4. `get` and `list` MUST see what was registered, of this tenant only.
/// 5. A text that cannot be read MUST be refused with `Malformed`, one that goes beyond a bound with `Invalid` or
///    `TooLarge`; every fault that `register` or `validate` gives MUST have its place in the text.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Workflows: Send + Sync {
    /// Reads, compiles and stores a document.
    async fn register(
        &self,
        tenant: &Tenant,
        text: &[u8],
        format: Format,
    ) -> Result<Registered, Refusal>;
    /// Every fault of a document.
    fn validate(&self, text: &[u8], format: Format) -> Vec<Fault>;
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

/// What a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// YAML 1.2 with strict booleans, one document.
    Yaml,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Yaml => "YAML",
        })
    }
}

/// A definition that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// As stored.
    pub definition: Definition,
    /// Whether this call stored it.
    pub created: bool,
}
