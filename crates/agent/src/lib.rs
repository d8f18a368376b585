//! The Rust SDK for agents: they lease tasks of the capabilities they have, perform them and bring back the results.
//!
//! Start at [`Agent`]:
//!
//! ```no_run
//! use eventflow_agent::{Agent, Failure, Task};
//! use serde_json::{Value, json};
//!
//! async fn charge(task: Task) -> Result<Value, Failure> {
//!     let order: Value = task.input()?;
//!     if order["total"].as_f64().is_none_or(|total| total <= 0.0) {
//!         return Err(Failure::permanent("the order has no total"));
//!     }
//!     // … call the bank with `task.idempotency_key()` …
//!     Ok(json!({ "charged": order["total"] }))
//! }
//!
//! # async fn example() -> anyhow::Result<()> {
//! Agent::builder("http://127.0.0.1:8080")
//!     .name("worker-1")
//!     .capability("charge", charge)
//!     .concurrency(50)
//!     .build()?
//!     .run_until(async { drop(tokio::signal::ctrl_c().await) })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! What the SDK does besides: it extends leases while handlers run, tells handlers when a result is no longer wanted
//! ([`Task::cancelled`]), brings results again until the service has them or does not want them, and lets what is
//! under way finish at the end. An agent in another language does the same with the five requests of
//! `eventflow-wire`'s `v1::tasks`.

mod agent;
mod backoff;
mod calls;
mod deliver;
mod exchange;
mod handler;
mod held;
mod http;
mod nats;
mod queue;
mod running;
mod server;
mod task;
mod transport;

pub use agent::{Agent, AgentBuilder, AgentError, Misconfigured};
pub use eventflow_domain::Json;
pub use handler::{Failure, Handler};
pub use hyper::header::{HeaderName, HeaderValue};
pub use nats::{InvalidNats, Nats};
pub use server::{Answer, Call, InvalidServer, Server, Streaming, Unreachable};
pub use task::{Cancellation, Task};
pub use transport::Transport;
