//! A journal's stream that is damaged, set aside and made again, on real servers.

mod fixture;
mod interrupted;
mod repairs;
#[path = "../support/mod.rs"]
mod support;
