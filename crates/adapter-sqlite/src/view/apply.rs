//! Writing a batch: rows and positions in one transaction.

use eventflow_ports::{ViewBatch, ViewRow};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, TransactionBehavior, params};

use super::query::{class, labels_json};
use crate::sql;

/// Applies all of a batch, or nothing.
pub(super) fn apply(connection: &mut Connection, batch: &ViewBatch) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut statements = Statements::prepare(&transaction)?;
        for row in &batch.rows {
            statements.write(row)?;
        }
        transaction
            .prepare_cached("UPDATE position SET through = ?1, replay_after = ?2 WHERE id = 0")?
            .execute(params![
                sql::integer(batch.position.through.0),
                sql::integer(batch.position.replay_after.0)
            ])?;
    }
    transaction.commit()
}

struct Statements<'connection> {
    find: CachedStatement<'connection>,
    insert: CachedStatement<'connection>,
    update: CachedStatement<'connection>,
    replace: CachedStatement<'connection>,
    state: CachedStatement<'connection>,
}

impl<'connection> Statements<'connection> {
    fn prepare(connection: &'connection Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            find: connection.prepare_cached(
                "SELECT row, class, created_at, workflow FROM executions WHERE tenant = ?1 AND execution = ?2",
            )?,
            insert: connection.prepare_cached(
                "INSERT INTO executions (tenant, execution, workflow, status, class, created_at, labels, summary)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING row",
            )?,
            update: connection.prepare_cached(
                "UPDATE executions SET status = ?2, labels = ?3, summary = ?4 WHERE row = ?1",
            )?,
            replace: connection.prepare_cached(
                "UPDATE executions SET status = ?2, labels = ?3, summary = ?4,
                        class = ?5, created_at = ?6, workflow = ?7 WHERE row = ?1",
            )?,
            state: connection.prepare_cached("REPLACE INTO states VALUES (?1, ?2)")?,
        })
    }

    fn write(&mut self, row: &ViewRow) -> rusqlite::Result<()> {
        let number = self.write_row(row)?;
        if let Some(state) = &row.state {
            self.state.execute(params![number, &state[..]])?;
        }
        Ok(())
    }

    /// Writes the row, and answers its number. SQLite rewrites the index entries of every column that an UPDATE names,
    /// changed or not: so the indexed ones are named only where they changed.
    fn write_row(&mut self, row: &ViewRow) -> rusqlite::Result<i64> {
        let tenant = row.tenant.as_str();
        let execution = row.execution.as_str();
        let status = row.status.as_str();
        let class = class(row.status);
        let labels = labels_json(&row.labels);
        let summary = row.summary.as_str();
        let stored = self
            .find
            .query_row(params![tenant, execution], |stored| {
                let unchanged = stored.get::<_, i64>(1)? == class
                    && stored.get::<_, i64>(2)? == row.created_at.0
                    && stored.get_ref(3)?.as_str()? == row.workflow;
                Ok((stored.get::<_, i64>(0)?, unchanged))
            })
            .optional()?;
        match stored {
            Some((number, true)) => {
                self.update
                    .execute(params![number, status, labels, summary])?;
                Ok(number)
            }
            Some((number, false)) => {
                let (created_at, workflow) = (row.created_at.0, &row.workflow);
                self.replace.execute(params![
                    number, status, labels, summary, class, created_at, workflow
                ])?;
                Ok(number)
            }
            None => self.insert.query_row(
                params![
                    tenant,
                    execution,
                    row.workflow,
                    status,
                    class,
                    row.created_at.0,
                    labels,
                    summary
                ],
                |inserted| inserted.get(0),
            ),
        }
    }
}
