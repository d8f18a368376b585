//! The API from outside: requests to a router over mocked ports, and to a server over real sockets.

mod controls;
mod events;
mod executions;
mod hostile;
mod operations;
mod server;
mod streams;
mod support;
mod tasks;
mod workflows;
