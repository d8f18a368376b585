//! The HTTP API of INTERFACES section 2: REST, server-sent events and the `OpenAPI` document, over any inbound ports.
//!
//! **Nothing here decides anything about a workflow.** A handler parses (`body`, `query`, `header`; a document goes in as the text it is), calls one port and
//! shapes the answer (`shape`); every way to decline is a [`Refusal`](eventflow_ports::inbound::Refusal) and leaves as
//! `application/problem+json` (`trouble`). Nothing is logged for a request: agents make tens of thousands a second.
//!
//! ```no_run
//! # use eventflow_adapter_http_api::{Api, CONNECTIONS_MAX, serve};
//! # async fn example(api: Api) -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! serve(listener, api, CONNECTIONS_MAX, stop).await;
//! # Ok(())
//! # }
//! ```

mod body;
mod connection;
mod controls;
mod document;
mod events;
mod executions;
mod header;
mod openapi;
mod operations;
mod places;
mod query;
mod serve;
mod shape;
mod state;
mod stream;
mod tasks;
mod trouble;
mod workflows;

pub use serve::{CONNECTIONS_MAX, DRAIN_MAX, router, serve};
pub use shape::view as execution_view;
pub use state::{Api, STARTING_MAX, STREAMS_MAX, WAITING_MAX};
