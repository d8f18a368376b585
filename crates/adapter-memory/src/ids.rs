//! Ids in sequence: the same run makes the same ids.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use eventflow_domain::ExecutionId;
use eventflow_ports::Ids;

/// Ids that count from 1, for tests that must be repeatable. Clones go on counting together.
#[derive(Debug, Clone, Default)]
pub struct SequentialIds(Arc<AtomicU64>);

impl Ids for SequentialIds {
    fn execution_id(&self) -> ExecutionId {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        ExecutionId::parse(&format!("execution-{number}")).expect("letters, a dash and digits")
    }
}
