//! The Open Workflow Specification DSL 1.0.3, as far as it is executed.
//!
//! Executed are `call` (HTTP and agents), `do`, `fork`, `raise`, `set`, `switch`, `try` and `wait`, with the base of every
//! task: `if`, `input.from`, `output.as`, `export.as`, `timeout`, `then`. Of `use`, these are `errors`, `retries` and
//! `timeouts`. What of the standard is not executed yet (`emit`, `for`, `listen`, `run`, schemas, schedules, secrets, …)
//! is refused at its own pointer, wherever it stands; of `schedule`, `on` with one event or any of several is executed.
//!
//! `document` reads what stands around the tasks, `flow` task lists and where the flow goes in them, `task` a single
//! task, `call`, `catch` and `raise` the kinds that need more than a few lines.

mod call;
mod catch;
mod document;
mod flow;
mod raise;
mod task;

use std::collections::{HashMap, HashSet};

use eventflow_domain::{
    Digest, DurationMs,
    error::Fault,
    plan::{Plan, RaiseTemplate},
};
use serde_json::Value;

use crate::{arena::Arena, fault::Faults, service_call, variables::Variables};

/// Compiles an OWS document.
pub(crate) fn compile(document: &Value, digest: Digest) -> Result<Plan, Vec<Fault>> {
    let mut compiler = Compiler {
        document,
        arena: Arena::default(),
        faults: Faults::default(),
        uses: Uses::default(),
        variables: Variables::NONE,
        is_own: service_call::is_own(&digest),
        overflow: None,
    };
    let parts = compiler.whole(digest);
    match parts {
        Some(parts) if compiler.faults.is_empty() => {
            Ok(Plan::new(eventflow_domain::plan::PlanParts {
                nodes: compiler.arena.into_nodes(),
                ..parts
            }))
        }
        _ => Err(compiler.faults.into_list()),
    }
}

/// The state of one compilation; its parts are spread over the files of this folder.
struct Compiler<'d> {
    document: &'d Value,
    arena: Arena,
    faults: Faults,
    uses: Uses,
    /// Those of the `catch`es around the place that is being compiled.
    variables: Variables,
    /// The first task beyond the most that a workflow may have, once there is one.
    overflow: Option<String>,
    /// Whether this is the document behind service calls.
    is_own: bool,
}

/// `use`: what a document gives a name to. A faulty one is known and has no value.
#[derive(Default)]
struct Uses {
    errors: HashMap<String, Option<RaiseTemplate>>,
    timeouts: HashMap<String, Option<DurationMs>>,
    /// The policies that were compiled where they are used.
    retries: HashSet<String>,
}
