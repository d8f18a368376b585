//! Expressions: jq, bounded by construction.
//!
//! Expressions run inside of a decision, on the thread that owns a partition, so none of them may hang, abort or eat
//! the memory, whatever its source and its input. Native jq bounds nothing: `def f: f; f` hangs, deep recursion and a
//! thousand nested brackets abort the process. Therefore, in this order:
//!
//! 1. `scan` limits the size and the nesting of a source before any parser sees it.
//! 2. `admit` walks the tree that jaq parsed, refuses what need not end (`def`, `reduce`, `..`, assignment, regular
//!    expressions, `range`, …) and turns what copies or builds into calls of natives that pay.
//! 3. `meter` counts each step of jaq, and each byte and item that a native touches, before it happens.
//! 4. `text` limits depth, numbers and size of what goes in and out.
//!
//! **A plain read such as `.order.items[0]` never enters jq**: see `path`. What an expression may call is in
//! `prelude.jq` and `natives`; why something is refused, in `refused`.
//!
//! ```
//! # use eventflow_domain::{Json, expression::{Expression, Scope, field_of}};
//! struct Order;
//! impl Scope for Order {
//!     fn dot(&self) -> Json { Json::parse(r#"{"items": [{"price": 2}, {"price": 3}]}"#).unwrap() }
//!     fn field(&self, name: &str) -> Option<Json> { field_of(&self.dot(), name) }
//!     fn variable(&self, _: &str) -> Option<Json> { None }
//! }
//! let total = Expression::compile(".items | map(.price) | add").unwrap();
//! assert_eq!(total.evaluate(&Order).unwrap().as_str(), "5");
//! ```

use std::{fmt, sync::Arc};

use crate::value::Json;

mod admit;
mod bounds;
mod definitions;
mod meter;
mod natives;
mod path;
mod program;
mod refused;
mod scan;
mod template;
#[cfg(test)]
mod tests;
mod text;

pub use bounds::{LEVELS_MAX, TERM_DEPTH_MAX};
pub use meter::EVALUATION_TICKS_MAX;
pub use natives::EVALUATION_BYTES_MAX;
pub use path::{Root, Segment};
pub use scan::{SOURCE_BYTES_MAX, SOURCE_NESTING_MAX, SOURCE_OPERATORS_MAX};
pub use template::{Template, TemplateFaults, TextPart};
pub use text::{NUMBER_BYTES_MAX, VALUE_DEPTH_MAX};

use path::Path;
use program::{Compiled, Program};

/// What an expression reads: `.` and the variables (OWS DSL 1.0, "Runtime expressions").
///
/// An expression asks for no more than it reads, and for each thing once per evaluation.
pub trait Scope {
    /// `.` as a whole.
    fn dot(&self) -> Json;

    /// `.name`, where `.` is an object, without building the whole; nothing where it is absent. Where `.` is one JSON
    /// text, this is [`field_of`].
    fn field(&self, name: &str) -> Option<Json>;

    /// `$name`, without the dollar; nothing where it is not defined, which is an [`EvaluationError`].
    fn variable(&self, name: &str) -> Option<Json>;

    /// Whether [`field`](Self::field) may stand for [`dot`](Self::dot). Where `.` may be another value (a workflow's
    /// input may be a number) this must say so, or a read of its fields would be null instead of an error.
    fn dot_is_object(&self) -> bool {
        true
    }
}

/// A field of an object, without reading the rest of it; nothing where it is absent or this is no object.
pub fn field_of(object: &Json, name: &str) -> Option<Json> {
    path::field(object.as_str(), name).ok().flatten()
}

/// The variables that every expression may name as `$name` (OWS DSL 1.0, "Runtime expression arguments"). `$secrets`
/// is not among them: it is resolved where a task is performed, never written down.
pub const VARIABLES: &[&str] = &["context", "input", "output", "task", "workflow", "runtime"];

/// A compiled expression, cheap to clone and to share between threads.
#[derive(Clone)]
pub struct Expression(Arc<Inner>);

struct Inner {
    source: Arc<str>,
    roots: Option<Vec<Arc<str>>>,
    kind: Kind,
}

enum Kind {
    Path(Path),
    Program(Box<Program>),
}

impl Expression {
    /// Compiles jq, without the `${ }` around it, over [`VARIABLES`].
    pub fn compile(source: &str) -> Result<Self, ExpressionFault> {
        Self::compile_with(source, &[])
    }

    /// Compiles jq that may name these variables too, each without its dollar: those of the `for` and `catch` around
    /// it.
    pub fn compile_with(source: &str, variables: &[&str]) -> Result<Self, ExpressionFault> {
        let source = source.trim();
        let globals: Vec<&str> = VARIABLES.iter().chain(variables).copied().collect();
        match program::compile(source, &globals) {
            Ok(Compiled::Path(path)) => Ok(Self::of_path(source.into(), path)),
            Ok(Compiled::Program(program)) => Ok(Self(Arc::new(Inner {
                source: source.into(),
                roots: program.roots.clone(),
                kind: Kind::Program(program),
            }))),
            Err(detail) => {
                let expression = text::shortened(&source, FAULT_SOURCE_BYTES_MAX);
                Err(ExpressionFault { expression, detail })
            }
        }
    }

    /// A plain read, built without a source; its keys may be any text (a step's id may hold a `-`).
    pub fn path(root: Root, segments: Vec<Segment>) -> Self {
        let path = Path { root, segments };
        Self::of_path(path.source().into(), path)
    }

    fn of_path(source: Arc<str>, path: Path) -> Self {
        Self(Arc::new(Inner {
            source,
            roots: path.roots(),
            kind: Kind::Path(path),
        }))
    }

    /// The source, without `${ }`.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The top-level fields of `.` that it reads; none if it may need all of `.`.
    pub fn roots(&self) -> Option<&[Arc<str>]> {
        self.0.roots.as_deref()
    }

    /// Whether this is `.`, which yields what it is given.
    pub fn is_identity(&self) -> bool {
        matches!(&self.0.kind, Kind::Path(Path { root: Root::Dot, segments }) if segments.is_empty())
    }

    /// The value. Of several outputs the first counts, no output is null: the standard expects one value where jq may
    /// yield any number.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        match &self.0.kind {
            Kind::Path(path) => path.read(scope),
            Kind::Program(program) => program.value(scope),
        }
        .map_err(|detail| self.error(detail))
    }

    /// The value's truth: false and null are false, everything else is true, as in jq.
    pub fn evaluate_bool(&self, scope: &dyn Scope) -> Result<bool, EvaluationError> {
        match &self.0.kind {
            Kind::Path(path) => path
                .read(scope)
                .map(|json| !matches!(json.as_str(), "null" | "false")),
            Kind::Program(program) => program.truth(scope),
        }
        .map_err(|detail| self.error(detail))
    }

    fn error(&self, detail: String) -> EvaluationError {
        EvaluationError {
            expression: self.0.source.clone(),
            detail,
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source()).finish()
    }
}

/// How much of a refused source a fault quotes. Bytes.
const FAULT_SOURCE_BYTES_MAX: usize = 256;

/// A source that is not admitted: what is wrong or refused, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression `{expression}` is not accepted: {detail}")]
pub struct ExpressionFault {
    /// The source, cut to a length that fits an error message.
    pub expression: String,
    /// What is wrong with it.
    pub detail: String,
}

/// An expression that has no value in a scope (OWS DSL 1.0, error type `…/errors/expression`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression `{expression}` has no value: {detail}")]
pub struct EvaluationError {
    /// The source.
    pub expression: Arc<str>,
    /// Why.
    pub detail: String,
}
