//! What the system tests share: the real binaries, a running service, and a client that keeps trying.

pub mod client;
pub mod directory;
pub mod events;
pub mod process;
pub mod proxy;
pub mod service;
pub mod verified;

pub use client::Client;
pub use process::{Background, Said};
pub use service::{Service, binary, workspace};
pub use verified::{verified, verified_within};
