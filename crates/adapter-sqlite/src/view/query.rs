//! Reading a view.

use std::collections::BTreeMap;

use bytes::Bytes;
use eventflow_domain::{ExecutionId, Json, Tenant, Timestamp, execution::Status};
use eventflow_ports::{ListQuery, Source, ViewPosition, ViewRow};
use rusqlite::{
    Connection, OptionalExtension as _, Row, params, params_from_iter,
    types::{Type, Value},
};

use crate::sql;

const OPEN: i64 = 0;
const FAILED: i64 = 1;
const SUCCEEDED: i64 = 2;

/// Which index holds executions of a status besides the one of all: the open ones and the failed ones are few, and
/// looked for among many that completed.
pub(super) fn class(status: Status) -> i64 {
    match status {
        Status::Pending
        | Status::Running
        | Status::Waiting
        | Status::Suspending
        | Status::Suspended => OPEN,
        Status::Cancelled | Status::Faulted => FAILED,
        Status::Completed => SUCCEEDED,
    }
}

pub(super) fn labels_json(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).expect("a map of strings serialises")
}

pub(super) fn position(connection: &Connection) -> rusqlite::Result<ViewPosition> {
    connection
        .prepare_cached("SELECT through, replay_after FROM position WHERE id = 0")?
        .query_row([], |row| {
            Ok(ViewPosition {
                through: sql::position(row, 0)?,
                replay_after: sql::position(row, 1)?,
            })
        })
}

pub(super) fn get(
    connection: &Connection,
    tenant: &Tenant,
    execution: &ExecutionId,
) -> rusqlite::Result<Option<ViewRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, s.state FROM executions e LEFT JOIN states s ON s.row = e.row
             WHERE e.tenant = ?1 AND e.execution = ?2"
        ))?
        .query_row(params![tenant.as_str(), execution.as_str()], |row| {
            view_row(row, true)
        })
        .optional()
}

pub(super) fn open(connection: &Connection) -> rusqlite::Result<Vec<ViewRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, s.state
             FROM executions e INDEXED BY executions_open CROSS JOIN states s ON s.row = e.row
             WHERE e.class = {OPEN}"
        ))?
        .query_map([], |row| view_row(row, true))?
        .collect()
}

pub(super) fn list(connection: &Connection, list: &ListQuery) -> rusqlite::Result<Vec<ViewRow>> {
    let (query, arguments) = list_sql(list);
    connection
        .prepare_cached(&query)?
        .query_map(params_from_iter(arguments), |row| view_row(row, false))?
        .collect()
}

const COLUMNS: &str =
    "e.tenant, e.execution, e.workflow, e.status, e.created_at, e.labels, e.summary";

/// A walk backwards along one of the indices, from the cursor on, which ends at the limit.
fn list_sql(list: &ListQuery) -> (String, Vec<Value>) {
    let one_class = one_class(&list.statuses);
    let index = match (&list.workflow, one_class) {
        (Some(_), _) => "executions_by_workflow",
        (None, Some(OPEN)) => "executions_open",
        (None, Some(FAILED)) => "executions_failed",
        (None, _) => "executions_by_time",
    };
    let mut query =
        format!("SELECT {COLUMNS} FROM executions e INDEXED BY {index} WHERE e.tenant = ?");
    let mut arguments = vec![text(list.tenant.as_str())];
    let mut and = |condition: &str, values: &[Value]| {
        query.push_str(" AND ");
        query.push_str(condition);
        arguments.extend_from_slice(values);
    };
    if let Some(workflow) = &list.workflow {
        and("e.workflow = ?", &[text(workflow)]);
    }
    if let Some(class) = one_class {
        and(&format!("e.class = {class}"), &[]);
    }
    if !list.statuses.is_empty() {
        let places = vec!["?"; list.statuses.len()].join(", ");
        let statuses: Vec<_> = list
            .statuses
            .iter()
            .map(|status| text(status.as_str()))
            .collect();
        and(&format!("e.status IN ({places})"), &statuses);
    }
    if let Some(Timestamp(after)) = list.started_after {
        and("e.created_at >= ?", &[after.into()]);
    }
    if let Some(Timestamp(before)) = list.started_before {
        and("e.created_at < ?", &[before.into()]);
    }
    if let Some((Timestamp(created_at), execution)) = &list.before {
        and(
            "(e.created_at, e.execution) < (?, ?)",
            &[(*created_at).into(), text(execution.as_str())],
        );
    }
    for (key, value) in &list.labels {
        and(
            "EXISTS (SELECT 1 FROM json_each(e.labels) l WHERE l.key = ? AND l.value = ?)",
            &[text(key), text(value)],
        );
    }
    query.push_str(" ORDER BY e.created_at DESC, e.execution DESC LIMIT ?");
    arguments.push(sql::integer(list.limit as u64).into());
    (query, arguments)
}

/// The class that all of the statuses belong to, where there is one.
fn one_class(statuses: &[Status]) -> Option<i64> {
    let (first, others) = statuses.split_first()?;
    let class_of_first = class(*first);
    others
        .iter()
        .all(|other| class(*other) == class_of_first)
        .then_some(class_of_first)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A row of [`COLUMNS`], and of the state where it is asked for.
fn view_row(row: &Row<'_>, with_state: bool) -> rusqlite::Result<ViewRow> {
    let state = if with_state {
        row.get_ref(7)?
            .as_blob_or_null()?
            .map(Bytes::copy_from_slice)
    } else {
        None
    };
    Ok(ViewRow {
        tenant: parse(row, 0, Tenant::parse)?,
        execution: parse(row, 1, ExecutionId::parse)?,
        workflow: row.get(2)?,
        status: parse(row, 3, |word| {
            Status::parse(word).ok_or_else(|| format!("`{word}` is no status"))
        })?,
        created_at: Timestamp(row.get(4)?),
        labels: parse(row, 5, |text| serde_json::from_str(text))?,
        summary: parse(row, 6, Json::parse)?,
        state,
    })
}

fn parse<T, E: Into<Source>>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<T> {
    parse(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}
