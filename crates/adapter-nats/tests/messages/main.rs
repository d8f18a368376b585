//! What comes in and goes out over NATS, on real servers: requests, durable commands, and what is published.

mod commands;
mod node;
mod permissions;
mod publishing;
mod requests;
#[path = "../support/mod.rs"]
mod support;
