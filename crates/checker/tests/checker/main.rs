//! Every violation is found and named, and what the machine writes is clean.

mod generated;
mod golden;
mod invariants;
mod outside;
mod records;
mod support;
