//! One attempt as its handler sees it.

use std::sync::{Arc, Mutex, PoisonError};

use eventflow_domain::{AgentName, Attempt, Capability, ExecutionId, Json, Tenant};
use eventflow_wire::v1::{Time, executions::WorkflowName, tasks::LeasedTask};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::Failure;

/// One attempt to perform; cheap to clone.
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) leased: Arc<LeasedTask>,
    pub(crate) agent: AgentName,
    pub(crate) progress: Arc<Mutex<Option<Json>>>,
    pub(crate) orders: watch::Receiver<Order>,
}

/// What is wanted of an attempt that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Go on.
    GoOn,
    /// End soon: the agent is shutting down. The result still counts.
    Hurry,
    /// Stop: the result is of no use to anybody.
    Stop,
    /// The agent does not wait any longer.
    Abandon,
}

/// Why a handler should end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// The execution was stopped or the attempt lost its lease: no result is wanted any more.
    Stopped,
    /// The agent is shutting down and has waited as long as it was told to: a result that comes at once still counts.
    ShuttingDown,
}

impl Task {
    /// The execution it belongs to.
    pub fn execution(&self) -> &ExecutionId {
        &self.leased.execution_id
    }

    /// Where it stands in the workflow's document: a JSON Pointer.
    pub fn reference(&self) -> &str {
        &self.leased.task
    }

    /// The indices of the loops around it, outermost first.
    pub fn iteration(&self) -> &[u32] {
        &self.leased.iteration
    }

    /// The workflow.
    pub fn workflow(&self) -> &WorkflowName {
        &self.leased.workflow
    }

    /// Whose it is.
    pub fn tenant(&self) -> &Tenant {
        &self.leased.tenant
    }

    /// The capability it was leased for.
    pub fn capability(&self) -> &Capability {
        &self.leased.capability
    }

    /// The agent that leased it.
    pub fn agent(&self) -> &AgentName {
        &self.agent
    }

    /// Which try; the first is 1.
    pub fn attempt(&self) -> Attempt {
        self.leased.attempt
    }

    /// The same for every delivery of this attempt, another for the next one: pass it on to whoever is called.
    pub fn idempotency_key(&self) -> &str {
        &self.leased.idempotency_key
    }

    /// When the lease that came with it ends; the agent extends it while the handler runs.
    pub fn deadline(&self) -> Time {
        self.leased.deadline
    }

    /// The W3C trace context of the execution's start.
    pub fn traceparent(&self) -> Option<&str> {
        self.leased.traceparent.as_deref()
    }

    /// What to work on, as text.
    pub fn input_json(&self) -> &Json {
        &self.leased.input
    }

    /// What to work on, as a type of its own; an input that does not fit is a permanent failure.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        self.leased.input.read().map_err(|error| {
            Failure::invalid_input(format!("the input cannot be used by this agent: {error}"))
        })
    }

    /// Tells people how far it has come; sent with the next sign of life, at the latest after a third of the lease.
    pub fn report_progress<T: Serialize>(&self, progress: &T) {
        if let Ok(Ok(progress)) = serde_json::to_string(progress).map(|text| Json::parse(&text)) {
            *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        }
    }

    /// Whether the handler should end early.
    pub fn is_cancelled(&self) -> bool {
        *self.orders.borrow() != Order::GoOn
    }

    /// Waits until the handler should end early; for ever where that never comes.
    pub async fn cancelled(&self) -> Cancellation {
        let mut orders = self.orders.clone();
        let order = orders
            .wait_for(|order| *order != Order::GoOn)
            .await
            .map(|order| *order);
        match order {
            Ok(Order::Hurry | Order::Abandon) => Cancellation::ShuttingDown,
            Ok(Order::Stop) => Cancellation::Stopped,
            // The agent has forgotten the attempt without an order: nothing will ever come.
            Ok(Order::GoOn) | Err(_) => std::future::pending().await,
        }
    }
}
