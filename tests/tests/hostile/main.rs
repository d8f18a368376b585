//! Bad input to the real service: each a clear problem, and nothing beside it is lost or slowed.
//!
//! `EVENTFLOW_HOSTILE` times as many documents, expressions and agents' lies are tried (1 by default).

mod agents;
mod connections;
mod control;
mod documents;
mod expressions;
mod loops;
mod problem;
mod stub;
mod targets;

use std::time::Duration;

/// A request that is not answered by then never will be.
const PATIENCE: Duration = Duration::from_mins(1);

/// How much more than usual is tried.
fn scale() -> usize {
    let scale = std::env::var("EVENTFLOW_HOSTILE").ok();
    scale.map_or(1, |scale| {
        scale.parse().expect("EVENTFLOW_HOSTILE is a number")
    })
}
