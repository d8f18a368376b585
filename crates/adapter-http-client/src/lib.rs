//! The `HttpClient` port on reqwest: one request, one outcome, and only to targets that are allowed.
//!
//! A workflow's author chooses where a step goes, so the client must not become a way into the machine's own network.
//! [`AllowedTargets`] is checked on the addresses that are really connected to: address literals before sending, names
//! inside the resolver, redirects hop by hop. What a name resolves to a moment later (DNS rebinding) does not matter,
//! because the checked addresses are the ones that are used. Proxies of the environment are ignored for the same
//! reason: behind one, nobody here sees the address.
//!
//! Bodies are never decompressed: what is kept is what was sent, up to the request's limit.

mod client;
mod failure;
mod resolver;
mod targets;
mod tls;

pub use client::{ReqwestHttpClient, Unbuildable};
pub use targets::AllowedTargets;
