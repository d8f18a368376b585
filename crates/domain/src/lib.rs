//! The pure core of EventFlow: what a workflow is, how an execution moves, and what a record holds.
//!
//! **Nothing here does I/O, reads a clock, draws a random number or logs.** Time and ids are arguments, effects are
//! state (`owed`), and the same history always folds to the same execution. Start at [`execution`] for the state
//! machine, [`plan`] for what it runs and [`record`] for how it is stored.

pub mod duration;
pub mod error;
pub mod execution;
pub mod expression;
pub mod ids;
pub mod limits;
pub mod plan;
pub mod record;
pub mod retry;
pub mod service_call;
pub mod time;
pub mod value;

pub use error::Problem;
pub use ids::{
    AgentName, Attempt, Capability, CorrelationId, Digest, Epoch, ExecutionId, InvalidName,
    NodeName, PartitionId, Position, Sequence, TaskReference, Tenant, WorkflowId, event_id,
};
pub use time::{DurationMs, Timestamp};
pub use value::{Json, Value};
