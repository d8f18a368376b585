//! The seeded simulation: an engine, its memory adapters, agents, callers and a site in a small world that goes wrong,
//! the same way each time (DESIGN section 12.7).
//!
//! [`simulate`] runs the world of one seed: generated workflows, agents that fail, fall silent and contradict
//! themselves, processes that die at any port call, stores that do not answer, clocks that jump, a second engine that
//! takes over while the first one lives. Then faults cease, everything must come to its end by itself, and whatever
//! anybody was told must be in the journal. A test's support, never a part of the service.

mod agents;
mod answer;
mod callers;
mod chaos;
mod documents;
mod draw;
mod evidence;
mod journal;
mod ledger;
mod lives;
mod model;
mod oracle;
mod panics;
mod report;
mod run;
mod seeds;
mod site;
mod trace;
mod world;

pub use report::{Outcome, Span, Tally};
pub use seeds::{simulate, simulate_many};
