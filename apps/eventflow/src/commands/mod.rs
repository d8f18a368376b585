//! The commands: one file each.

mod agent;
mod backup;
mod bench;
mod control;
mod doctor;
mod explain;
mod history;
mod journal;
mod list;
mod run;
mod show;
mod start;
mod validate;
mod verify;
mod watch;
mod workflow;

use clap::{CommandFactory, Subcommand};

use crate::{Arguments, Common, Outcome, output};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a document in this process, without a service
    Run(run::Run),
    /// Check documents and show every fault at its place
    Validate(validate::Validate),
    /// Register and read workflows
    #[command(subcommand)]
    Workflow(workflow::Workflow),
    /// Start an execution of a registered workflow
    Start(start::Start),
    /// List executions, newest first
    List(list::List),
    /// Show an execution
    Show(show::Show),
    /// Watch an execution until it ends
    Watch(watch::Watch),
    /// Show every event of an execution
    History(history::History),
    /// Say what an execution waits for
    Explain(explain::Explain),
    /// Begin nothing new in executions until they are resumed
    Pause(control::Control),
    /// Let paused executions go on
    Resume(control::Control),
    /// End executions as cancelled
    Stop(control::Control),
    /// Be an agent
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Copy an embedded store, also while a service writes to it
    Backup(backup::Backup),
    /// Check the invariants of a whole store
    Verify(verify::Verify),
    /// Look at the records of a store, and set bad ones aside
    #[command(subcommand)]
    Journal(journal::Journal),
    /// Say what a store or a service is set up like, and what is wrong with that
    Doctor(doctor::Doctor),
    /// Measure how fast a service is
    Bench(bench::Bench),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// The agent of a benchmark
    #[command(hide = true)]
    BenchAgent(bench::agent::BenchAgent),
    /// The server that a benchmark's HTTP steps call
    #[command(hide = true)]
    BenchStub,
}

pub(crate) fn run(command: Command, common: &Common) -> anyhow::Result<Outcome> {
    match command {
        Command::Validate(command) => command.run(common),
        Command::Verify(command) => command.run(common),
        Command::Journal(command) => command.run(common),
        Command::Backup(command) => command.run(common),
        Command::Doctor(command) => command.run(common),
        Command::Completions { shell } => {
            let mut arguments = Arguments::command();
            // Not straight to stdout: the generator takes a reader that went away for a bug.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut arguments, "eventflow", &mut script);
            output::line(String::from_utf8(script)?.trim_end())?;
            Ok(Outcome::Yes)
        }
        command => {
            // One thread: commands wait more than they work, and a benchmark's cores belong to the service.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let outcome = runtime.block_on(run_async(command, common));
            // A read of stdin that nobody waits for any more must not hold up the end.
            runtime.shutdown_background();
            outcome
        }
    }
}

async fn run_async(command: Command, common: &Common) -> anyhow::Result<Outcome> {
    match command {
        Command::Run(command) => command.run(common).await,
        Command::Workflow(command) => command.run(common).await,
        Command::Start(command) => command.run(common).await,
        Command::List(command) => command.run(common).await,
        Command::Show(command) => command.run(common).await,
        Command::Watch(command) => command.run(common).await,
        Command::History(command) => command.run(common).await,
        Command::Explain(command) => command.run(common).await,
        Command::Pause(command) => command.run("pause", common).await,
        Command::Resume(command) => command.run("resume", common).await,
        Command::Stop(command) => command.run("stop", common).await,
        Command::Agent(command) => command.run(common).await,
        Command::Bench(command) => command.run(common).await,
        Command::BenchAgent(command) => command.run(common).await,
        Command::BenchStub => bench::stub::run().await,
        Command::Validate(_)
        | Command::Verify(_)
        | Command::Journal(_)
        | Command::Backup(_)
        | Command::Doctor(_)
        | Command::Completions { .. } => {
            unreachable!("done without a runtime")
        }
    }
}
