//! What an opened journal is compared with: the durable heads.

use eventflow_domain::{Digest, PartitionId, Position};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Head, Heads};
use crate::{
    failure::{Failure, is_damage, is_io},
    sql,
};

/// A partition's log as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its last position; that of its durable head where it cannot be read.
    pub(crate) head: Position,
    pub(crate) damage: Option<Damage>,
}

/// What the log should hold and does not.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    /// Records from here on are not what was durable.
    pub(crate) from: Position,
    pub(crate) failure: Failure,
}

/// Finds the end of each partition's log, and whether its durable head is where and what it was.
pub(crate) fn check(connection: &Connection, heads: &Heads) -> rusqlite::Result<Vec<Found>> {
    (0..)
        .map(PartitionId)
        .zip(heads)
        .map(|(partition, head)| check_partition(connection, partition, head.as_ref()))
        .collect()
}

fn check_partition(
    connection: &Connection,
    partition: PartitionId,
    durable: Option<&Head>,
) -> rusqlite::Result<Found> {
    let found = match last(connection, partition) {
        Err(error) if is_unreadable(&error) => {
            let head = durable.map_or(Position(0), |head| head.position);
            let detail = format!("the end of partition {partition} cannot be read: {error}");
            // Whatever can still be read of it may be read.
            return Ok(damaged(head, Position(u64::MAX), &detail));
        }
        found => found?,
    };
    let Some(&Head { position, record }) = durable else {
        return Ok(whole(found));
    };
    let detail = match (digest(connection, partition, position), found) {
        (Ok(Some(there)), _) if there == record => return Ok(whole(found)),
        (Ok(Some(there)), _) => format!(
            "record {position} of partition {partition} is not the one that was durable: it has SHA-256 {there}, not {record}"
        ),
        (Ok(None), found) if found < position => format!(
            "partition {partition} ends at record {found}, but record {position} was durable: what follows {found} is lost"
        ),
        (Ok(None), found) => format!(
            "record {position} of partition {partition} is missing, though record {found} is there"
        ),
        (Err(error), _) if is_unreadable(&error) => {
            format!("record {position} of partition {partition} cannot be read: {error}")
        }
        (Err(error), _) => return Err(error),
    };
    Ok(damaged(found, position.min(found.next()), &detail))
}

/// Also a block that the disk does not give back: the others' blocks may be sound.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    is_damage(error) || is_io(error)
}

fn whole(head: Position) -> Found {
    Found { head, damage: None }
}

fn damaged(head: Position, from: Position, detail: &str) -> Found {
    let advice = "stop the service and restore a backup";
    let failure = Failure::broken(&format!("journal.db is damaged: {detail}; {advice}"));
    Found {
        head,
        damage: Some(Damage { from, failure }),
    }
}

fn last(connection: &Connection, partition: PartitionId) -> rusqlite::Result<Position> {
    let query = format!("SELECT coalesce(max(position), 0) FROM records_{partition}");
    connection.query_row(&query, [], |row| sql::position(row, 0))
}

/// The digest of a record's bytes, where there is one at the position.
pub(crate) fn digest(
    connection: &Connection,
    partition: PartitionId,
    position: Position,
) -> rusqlite::Result<Option<Digest>> {
    let query = format!("SELECT record FROM records_{partition} WHERE position = ?1");
    connection
        .prepare_cached(&query)?
        .query_row(params![sql::integer(position.0)], |row| {
            Ok(Digest::of(row.get_ref(0)?.as_blob()?))
        })
        .optional()
}
