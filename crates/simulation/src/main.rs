//! `just simulate`: many seeds at full speed, or one with its whole story.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use clap::Parser;
use eventflow_simulation::{Outcome, simulate, simulate_many};

/// Failing seeds that are shown; the rest is counted.
const SHOWN_MAX: u64 = 20;

/// Runs the engine in small worlds that go wrong.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one, with everything that happens in it.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(seed),
        None => many(arguments.from, arguments.seeds),
    }
}

fn one(seed: u64) -> ExitCode {
    // What the engine says of itself comes first, as `RUST_LOG` wants it; by the clock of the machine.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let outcome = simulate(seed);
    println!("{}", outcome.story);
    println!("{}\ndigest {}", outcome.tally, outcome.digest);
    show(&outcome);
    if outcome.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn many(from: u64, seeds: u64) -> ExitCode {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (began, failed) = (Instant::now(), AtomicU64::new(0));
    let tally = simulate_many(from..from + seeds, threads, |outcome| {
        if !outcome.findings.is_empty() && failed.fetch_add(1, Ordering::Relaxed) < SHOWN_MAX {
            show(outcome);
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let failed = failed.into_inner();
    println!("{tally}");
    println!(
        "{seconds:.1} s, {:.0} seeds/s on {threads} threads",
        f64::from(u32::try_from(seeds).unwrap_or(u32::MAX)) / seconds
    );
    if failed == 0 {
        println!("nothing was found");
        return ExitCode::SUCCESS;
    }
    println!("{failed} seeds failed");
    ExitCode::FAILURE
}

fn show(outcome: &Outcome) {
    if outcome.findings.is_empty() {
        return;
    }
    println!("seed {} failed:", outcome.seed);
    for finding in &outcome.findings {
        println!("  {finding}");
    }
    println!("  replay: just simulate --seed {}", outcome.seed);
}
