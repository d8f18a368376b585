//! The Open Workflow Specification DSL 1.0.3, as far as it is executed.
//!
//! `document` reads what stands around the tasks, `flow` task lists and where the flow goes in them, `task` a single
//! task, `call` and `raise` the kinds that need more than a few lines. What of the standard is not executed yet is
//! refused at its own pointer, wherever it stands.

mod call;
mod document;
mod flow;
mod raise;
mod task;

use std::collections::HashMap;

use eventflow_domain::{
    Digest, DurationMs,
    error::Fault,
    plan::{Plan, RaiseTemplate},
};
use serde_json::Value;

use crate::{arena::Arena, fault::Faults, site::Site};

/// Compiles an OWS document.
pub(crate) fn compile(document: &Value, digest: Digest) -> Result<Plan, Vec<Fault>> {
    let mut compiler = Compiler {
        arena: Arena::default(),
        faults: Faults::default(),
        uses: Uses::default(),
        overflow: None,
    };
    let parts = compiler.document(&Site::root(document), digest);
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
struct Compiler {
    arena: Arena,
    faults: Faults,
    uses: Uses,
    /// The first task beyond the most that a workflow may have, once there is one.
    overflow: Option<String>,
}

/// `use`: what a document gives a name to. A faulty one is known and has no value.
#[derive(Default)]
struct Uses {
    errors: HashMap<String, Option<RaiseTemplate>>,
    timeouts: HashMap<String, Option<DurationMs>>,
}
