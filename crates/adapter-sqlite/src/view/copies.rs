//! Copies of a view's file: made while the view is written, and gone on with elsewhere.

use std::{
    fs::{self, File},
    path::Path,
};

use eventflow_ports::{Source, ViewPosition};
use rusqlite::{Connection, OpenFlags};

use super::{
    file::{FORMAT, ViewFile},
    query,
};
use crate::{backup, failure::Failure};

/// Writes the view as it is now to a file that is not there yet.
pub(super) fn make(view: &ViewFile, to: &Path) -> Result<ViewPosition, Failure> {
    let doing = format!("copying a view to {}", to.display());
    // SQLite would go on with whatever is there.
    File::create_new(to).map_err(|error| Failure::io(&doing, &error))?;
    let made = view.connection(OpenFlags::empty()).and_then(|connection| {
        let copy = backup::copy_database(&connection, to)?;
        query::position(&copy)
    });
    made.map_err(|error| {
        // What cannot be removed either is seen to be unfit by who opens it.
        let _ = fs::remove_file(to);
        Failure::sqlite(&doing, &error)
    })
}

/// Opens a copy that can be gone on with.
pub(super) fn check(from: &Path) -> Result<Connection, Source> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let unfit = |detail: String| Source::from(format!("{}: {detail}", from.display()));
    let copy =
        Connection::open_with_flags(from, flags).map_err(|error| unfit(error.to_string()))?;
    let (format, verdict) = look(&copy).map_err(|error| unfit(error.to_string()))?;
    if format != FORMAT {
        return Err(unfit(format!("its format is {format}, not {FORMAT}")));
    }
    if verdict != "ok" {
        return Err(unfit(verdict));
    }
    Ok(copy)
}

/// Its format, and what SQLite finds wrong with its pages, `ok` where that is nothing.
fn look(copy: &Connection) -> rusqlite::Result<(u32, String)> {
    let format = copy.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let verdict = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    query::position(copy)?;
    Ok((format, verdict))
}
