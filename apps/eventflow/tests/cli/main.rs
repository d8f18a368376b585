//! The command line as a program: what it prints, and how it exits.

mod support;
mod with_service;
mod without_service;
