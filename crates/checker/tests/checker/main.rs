//! Every violation is found and named, and what the machine writes is clean.

mod containers;
mod generated;
mod golden;
mod invariants;
mod orders;
mod outside;
mod records;
mod support;
