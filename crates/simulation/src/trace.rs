//! What happened, line by line: what a failing seed shows, and what two runs of one seed must have in common.

use std::fmt::{Arguments, Write as _};

use eventflow_adapter_memory::EPOCH;
use eventflow_domain::{Digest, Timestamp};

/// A run's story.
#[derive(Default)]
pub(crate) struct Trace {
    text: String,
    turn: u32,
}

impl Trace {
    pub(crate) fn next_turn(&mut self) -> u32 {
        self.turn += 1;
        self.turn
    }

    pub(crate) fn turn(&self) -> u32 {
        self.turn
    }

    /// Adds a line.
    pub(crate) fn say(&mut self, now: Timestamp, line: Arguments<'_>) {
        let ms = now.0 - EPOCH.0;
        writeln!(
            self.text,
            "{:>4} {:>9}.{:03}  {line}",
            self.turn,
            ms / 1_000,
            ms.rem_euclid(1_000)
        )
        .expect("writing to a String cannot fail");
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}
