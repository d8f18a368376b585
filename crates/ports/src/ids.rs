//! Fresh identities.

use eventflow_domain::ExecutionId;

/// Makes ids that nobody has used.
///
/// 1. Two calls MUST never give the same id.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Ids: Send + Sync {
    /// For an execution whose start named neither an id nor an idempotency key: a random UUID v7.
    fn execution_id(&self) -> ExecutionId;
}
