//! What the system tests share: the real binaries, a running service, and a client that keeps trying.

pub mod client;
pub mod service;

pub use client::Client;
pub use service::{Service, binary};
