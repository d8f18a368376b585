//! The journal on real servers: every clause of the port, fences, crashes, and streams that are not as needed.

mod clauses;
mod crashes;
mod fences;
mod store;
mod streams;
#[path = "../support/mod.rs"]
mod support;
