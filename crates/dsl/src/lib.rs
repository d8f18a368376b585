//! OWS and DAG documents compiled to a plan, with every fault of a document at its JSON Pointer.
//!
//! ```
//! let document = eventflow_dsl::parse("
//! document: {dsl: 1.0.3, namespace: default, name: greet, version: 1.0.0}
//! do:
//!   - greet:
//!       set: {greeting: '${ \"Hello, \" + .name }'}
//! ")?;
//! let plan = eventflow_dsl::compile(&document).expect("no faults");
//! assert_eq!(plan.workflow.to_string(), "default/greet:1.0.0");
//! assert_eq!(plan.digest, eventflow_dsl::digest(&document));
//! # Ok::<(), eventflow_dsl::TextFault>(())
//! ```
//!
//! **Nothing of a document is silently ignored**: what is not executed yet, what is misspelt and what contradicts
//! itself is a [`Fault`], and [`compile`] names all of them at once, [`locate`] says at which line and column. `ows` reads the standard's language, `dag` the
//! graphs; what a property of either must look like is asked of a `Site`.

mod agent;
mod arena;
mod bindings;
mod dag;
mod duration;
mod fault;
mod http;
mod identity;
mod json;
mod ows;
mod place;
mod property;
mod retry;
mod service_call;
mod site;
mod template;
pub mod text;
mod variables;

use eventflow_domain::{Digest, Json, error::Fault, plan::Plan};
use serde_json::Value;

pub use bindings::{AUTOMATION_TRIGGER, Bindings, EventFilter, bindings};
pub use place::locate;
pub use service_call::service_call;
pub use text::{TextFault, TextFaultKind, is_json, parse, parse_json, parse_yaml, utf8};

/// A document's size as JSON or YAML text, bytes (DESIGN section 10).
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Arrays and objects within each other, so that no reader of a document runs out of stack.
pub const DOCUMENT_DEPTH_MAX: usize = 64;
/// Expressions in a document: one takes about 0.3 ms to compile, and a document must not hold a node for long.
pub const EXPRESSIONS_MAX: usize = 5_000;

/// Compiles a document, OWS or DAG, to a plan, or says everything that is wrong with it, at JSON Pointers only: a
/// document does not know its text any more.
pub fn compile(document: &Json) -> Result<Plan, Vec<Fault>> {
    let at_root = |detail: String| vec![Fault::at("", detail)];
    let value = json::read(document.as_str()).map_err(|fault| at_root(fault.detail))?;
    let expressions = template::count(&value);
    if expressions > EXPRESSIONS_MAX {
        return Err(at_root(format!(
            "has {expressions} expressions, at most {EXPRESSIONS_MAX} are allowed: split the workflow"
        )));
    }
    let digest = digest_of(&value).unwrap_or_else(|| digest(document));
    match &value {
        Value::Object(properties) if properties.contains_key("dag") => dag::compile(&value, digest),
        Value::Object(_) => ows::compile(&value, digest),
        _ => Err(at_root(
            "must be an object: an OWS document (`document`, `do`) or a DAG document (`dag`, `steps`)".to_owned(),
        )),
    }
}

/// SHA-256 of the document's RFC 8785 JSON: the same however it is spelt, in YAML or JSON (INTERFACES section 7).
///
/// A text that has no canonical form (a number that is none, a nesting beyond all limits) is hashed as it stands;
/// [`compile`] refuses it.
pub fn digest(document: &Json) -> Digest {
    document
        .read::<Value>()
        .ok()
        .and_then(|value| digest_of(&value))
        .unwrap_or_else(|| Digest::of(document.as_str().as_bytes()))
}

fn digest_of(value: &Value) -> Option<Digest> {
    let canonical = serde_json_canonicalizer::to_vec(value).ok()?;
    Some(Digest::of(&canonical))
}
