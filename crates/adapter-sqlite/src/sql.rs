//! Numbers in SQLite: its integers are signed, ours are not.

use eventflow_domain::Position;
use rusqlite::{Row, types::Type};

/// A number as SQLite keeps it; above its range, the highest there is, which no row has.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it was kept.
pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, error.into())
    })
}

/// A position as it was kept.
pub(crate) fn position(row: &Row<'_>, column: usize) -> rusqlite::Result<Position> {
    number(row, column).map(Position)
}
