//! What came of a seed, and of many.

use std::{collections::BTreeMap, fmt};

use eventflow_domain::{Digest, DurationMs};

/// One seed's run.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// What does not hold; empty where all is well.
    pub findings: Vec<String>,
    /// Of everything that happened: the same for the same seed, always.
    pub digest: Digest,
    /// Everything that happened, a line each.
    pub story: String,
    /// How much of what.
    pub tally: Tally,
}

impl Outcome {
    /// Of a run that a panic of the simulation itself has ended.
    pub(crate) fn of_a_panic(seed: u64) -> Self {
        Self {
            seed,
            findings: vec!["the simulation panicked".to_owned()],
            digest: Digest::of(b""),
            story: String::new(),
            tally: Tally::default(),
        }
    }
}

/// Counts of one run, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs.
    pub seeds: u64,
    /// How long they took for those in them.
    pub simulated: Span,
    /// Processes that were started.
    pub lives: u64,
    /// Processes that could not lead.
    pub failed_births: u64,
    /// Records in journals.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// HTTP calls.
    pub calls: u64,
    /// What went wrong, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Executions by their end.
    pub ends: BTreeMap<&'static str, u64>,
    /// Executions whose end was compared with an undisturbed run's.
    pub compared: u64,
}

/// A sum of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(DurationMs);

impl std::ops::AddAssign<DurationMs> for Span {
    fn add_assign(&mut self, span: DurationMs) {
        self.0 = DurationMs(self.0.0 + span.0);
    }
}

impl Tally {
    /// Adds the counts of further runs.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated.0;
        self.lives += other.lives;
        self.failed_births += other.failed_births;
        self.records += other.records;
        self.events += other.events;
        self.calls += other.calls;
        self.compared += other.compared;
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, count) in &other.ends {
            *self.ends.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated.0.0 / 3_600_000;
        writeln!(f, "{} seeds, {hours} simulated hours", self.seeds)?;
        writeln!(
            f,
            "engines: {} lives, {} of them never led",
            self.lives, self.failed_births
        )?;
        writeln!(
            f,
            "journal: {} records, {} events; {} HTTP calls",
            self.records, self.events, self.calls
        )?;
        writeln!(f, "faults: {}", counts(&self.faults))?;
        write!(
            f,
            "executions: {}; {} compared with an undisturbed run",
            counts(&self.ends),
            self.compared
        )
    }
}

fn counts(counts: &BTreeMap<&'static str, u64>) -> String {
    let each = counts.iter().map(|(name, count)| format!("{count} {name}"));
    each.collect::<Vec<_>>().join(", ")
}
