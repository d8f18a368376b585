//! What the outside may ask of the inside: start and watch executions, register workflows, perform tasks.

mod calls;
mod controls;
mod events;
mod executions;
mod refusal;
mod system;
mod tasks;
mod workflows;

pub use calls::{Calls, ServiceCall};
pub use controls::{Action, Cause, Controls, Explanation, Wait};
pub use events::{Events, ExternalEvent};
pub use executions::{
    EventStream, ExecutionView, Executions, HistoryEvent, HistoryPage, ListPage, Progress,
    StartExecution, Started, StreamFrom, TaskView, WorkflowRef,
};
pub use refusal::{Fault, Place, Refusal};
pub use system::{PartitionView, System, SystemView};
pub use tasks::{
    Begin, Heartbeat, LeaseRequest, LeasedTask, ResultOutcome, TaskFailure, TaskResult, TaskToken,
    TaskVerdict, Tasks,
};
pub use workflows::{Format, Registered, Workflows};

#[cfg(feature = "mocks")]
pub use {
    calls::MockCalls, controls::MockControls, events::MockEvents, executions::MockExecutions,
    system::MockSystem, tasks::MockTasks, workflows::MockWorkflows,
};
