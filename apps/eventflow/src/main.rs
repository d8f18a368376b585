//! `eventflow`, the command line of developers and operators: a table of contents.
//!
//! Each command is a file of its own in `commands`. Exit codes: 0, it is done; 1, the answer is no (an execution that
//! faulted, a document with faults, a benchmark with a wrong output); 2, it could not be done.

mod commands;
mod embedded;
mod error;
mod input;
mod live;
mod output;
mod service;
mod sse;
mod store;
mod words;

use std::process::ExitCode;

use clap::Parser;

use crate::{commands::Command, output::Format};

/// Runs, watches and steers workflows.
#[derive(Debug, Parser)]
#[command(name = "eventflow", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 the answer is no (faulted, invalid, wrong); 2 it could not be done."
)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// The service's URL
    #[arg(
        help = "The service's URL [default: http://127.0.0.1:8080]",
        long,
        global = true,
        env = "EVENTFLOW_SERVER",
        value_name = "URL"
    )]
    server: Option<String>,
    /// The bearer token for it
    #[arg(long, global = true, env = "EVENTFLOW_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How to print: for people or for programs
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
}

/// What a command found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is done.
    Yes,
    /// It could be done, and the answer is no.
    No,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let format = arguments.common.output;
    match commands::run(arguments.command, &arguments.common) {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            error::print(&error, format);
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_contradict_each_other_nowhere() {
        super::Arguments::command().debug_assert();
    }
}
