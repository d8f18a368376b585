//! The controllers: one writer per partition, recovery, timers, dispatch, performers, feeds and queries.
//!
//! [`Engine::start`] takes a [`Backend`] (a struct of ports) and implements the inbound ports. It knows neither NATS nor
//! HTTP nor SQL. **Nothing leaves before its cause is durable**: answers, dispatches, rows and live events all come out
//! of `partition::commit`, after the journal has acknowledged the record that holds what they show.

mod backend;
mod calls;
pub mod config;
mod controls;
mod damage;
mod definitions;
mod engine;
mod error;
mod events;
mod executions;
mod explain;
mod folded;
mod follow;
pub mod frozen;
mod history;
mod leading;
mod lifecycle;
mod meters;
mod outcome;
mod partition;
mod performer;
mod questions;
mod render;
mod route;
mod seat;
mod system;
mod tasks;
mod token;
mod watch;

pub use backend::{Backend, Cluster};
pub use config::Config;
pub use definitions::Definitions;
pub use engine::Engine;
pub use error::StartError;
pub use system::Node;
