//! What goes to stdout: text for people, JSON for programs.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use serde::Serialize;

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// People.
    Text,
    /// Programs: one JSON value, or one a line where there are many.
    Json,
}

/// Prints one JSON value on one line.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Prints JSON for people: indented on a terminal, on one line in a pipe.
pub(crate) fn value<T: Serialize>(value: &T) -> anyhow::Result<()> {
    if io::stdout().is_terminal() {
        line(serde_json::to_string_pretty(value)?)
    } else {
        json(value)
    }
}

/// Prints a line. A reader that has gone away (`| head`) ends the program quietly.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Prints rows in columns that are as wide as they need to be.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .map(|row| console::measure_text_width(&row[column]));
        cells.chain([heads[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let show = |cells: Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| {
            console::pad_str(cell, *width, console::Alignment::Left, None).into_owned()
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    line(console::style(show(heads.iter().map(ToString::to_string).collect())).bold())?;
    rows.iter().try_for_each(|row| line(show(row.clone())))
}
