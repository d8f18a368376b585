//! The independent checker: reads the journal of a store record by record and says which invariants do not hold
//! (DESIGN section 12).
//!
//! It keeps its own books. **Nothing here calls `step`, `decide`, `settle` or `record::Chain`**, so that a fault of the
//! machine cannot hide itself; `Execution::evolve` is called for I11 and I12 alone, where the folded state is what is
//! being checked. It does no I/O: whoever calls it reads the store.
//!
//! ```
//! use eventflow_checker::{Checker, Settings, Store};
//! # use std::sync::Arc;
//! # use eventflow_domain::{Digest, PartitionId, Tenant, plan::Plan};
//! struct Empty;
//! impl Store for Empty {
//!     fn plan(&mut self, _: &Tenant, _: &Digest) -> Option<Arc<Plan>> {
//!         None
//!     }
//! }
//!
//! let mut checker = Checker::new(Empty, Settings::default());
//! checker.partition(PartitionId(0), None);
//! // checker.record(position, &bytes) for each record
//! assert!(checker.finish().is_clean());
//! ```
//!
//! **Memory.** An open execution costs what the engine holds of it (its folded state) and the books beside it; one that
//! has ended costs its 32-byte identity and three words. Findings are capped ([`FINDINGS_MAX`]). So a store with a
//! million finished executions takes some 100 MB.

mod account;
mod chain;
mod checker;
mod compare;
mod evidence;
mod fact;
mod report;
mod violation;

pub use checker::{Checker, Settings, Store};
pub use compare::{Row, View};
pub use evidence::Evidence;
pub use fact::Order;
pub use report::{Lateness, PartitionReport, Report};
pub use violation::{FINDINGS_MAX, Invariant, Violation};
