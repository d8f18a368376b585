//! Query strings: filters, limits and cursors. A name that is not known is refused: misspelt, a filter filters nothing.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use eventflow_domain::{ExecutionId, Sequence, Tenant, Timestamp, execution::Status};
use eventflow_ports::ListQuery;
use eventflow_wire::v1::Time;

use crate::trouble::Trouble;

/// Executions in a page of a list.
const LIST_LIMIT: Bounds = Bounds {
    usual: 50,
    max: 500,
};
/// Events in a page of a history; the ndjson export reads pages of `max`.
pub(crate) const HISTORY_LIMIT: Bounds = Bounds {
    usual: 100,
    max: 1_000,
};

/// How many items a page has.
pub(crate) struct Bounds {
    /// Where nothing is said.
    pub(crate) usual: usize,
    /// At most, so that a page fits in memory many times.
    pub(crate) max: usize,
}

/// The names and values of a query string, in order.
pub(crate) struct Pairs(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Trouble> {
        match Query::<Vec<(String, String)>>::from_request_parts(parts, state).await {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(rejection) => Err(Trouble::malformed(rejection.body_text())),
        }
    }
}

impl Pairs {
    /// The filters of `GET /v1/executions`.
    pub(crate) fn list(self, tenant: &Tenant) -> Result<ListQuery, Trouble> {
        let mut query = ListQuery {
            tenant: tenant.clone(),
            statuses: Vec::new(),
            workflow: None,
            labels: Vec::new(),
            started_after: None,
            started_before: None,
            limit: LIST_LIMIT.usual,
            before: None,
        };
        for (name, value) in self.0 {
            match name.as_str() {
                "status" => {
                    for word in value.split(',') {
                        query.statuses.push(status(word)?);
                    }
                }
                "workflow" => query.workflow = Some(value),
                "label" => query.labels.push(label(&value)?),
                "startedAfter" => query.started_after = Some(time(&name, &value)?),
                "startedBefore" => query.started_before = Some(time(&name, &value)?),
                "limit" => query.limit = LIST_LIMIT.read(&value)?,
                "cursor" => query.before = Some(cursor_from(&value)?),
                _ => {
                    return Err(unknown(
                        &name,
                        "status, workflow, label, startedAfter, startedBefore, limit, cursor",
                    ));
                }
            }
        }
        Ok(query)
    }

    /// `after` and `limit` of a history.
    pub(crate) fn history(self) -> Result<(Sequence, usize), Trouble> {
        let mut after = Sequence(0);
        let mut limit = HISTORY_LIMIT.usual;
        for (name, value) in self.0 {
            match name.as_str() {
                "after" => {
                    after = value.parse().map(Sequence).map_err(|_| {
                        Trouble::malformed("`after` must be the sequence of an event")
                    })?;
                }
                "limit" => limit = HISTORY_LIMIT.read(&value)?,
                _ => return Err(unknown(&name, "after, limit")),
            }
        }
        Ok((after, limit))
    }

    /// `namespace` of a list of workflows.
    pub(crate) fn namespace(self) -> Result<Option<String>, Trouble> {
        let mut namespace = None;
        for (name, value) in self.0 {
            match name.as_str() {
                "namespace" => namespace = Some(value),
                _ => return Err(unknown(&name, "namespace")),
            }
        }
        Ok(namespace)
    }
}

impl Bounds {
    fn read(&self, value: &str) -> Result<usize, Trouble> {
        value
            .parse()
            .ok()
            .filter(|limit| (1..=self.max).contains(limit))
            .ok_or_else(|| Trouble::malformed(format!("`limit` must be from 1 to {}", self.max)))
    }
}

fn unknown(name: &str, known: &str) -> Trouble {
    Trouble::malformed(format!("there is no parameter `{name}` here: use {known}"))
}

fn status(word: &str) -> Result<Status, Trouble> {
    Status::parse(word.trim()).ok_or_else(|| {
        let known: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
        Trouble::malformed(format!(
            "`status` must be one or more of {}",
            known.join(", ")
        ))
    })
}

fn label(pair: &str) -> Result<(String, String), Trouble> {
    match pair.split_once(':') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(Trouble::malformed("`label` must be `key:value`")),
    }
}

fn time(name: &str, text: &str) -> Result<Timestamp, Trouble> {
    text.parse()
        .map(|Time(time)| time)
        .map_err(|error| Trouble::malformed(format!("`{name}`: {error}")))
}

/// Where the next page of a list begins, as text that means nothing outside.
pub(crate) fn cursor((created_at, execution): &(Timestamp, ExecutionId)) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}.{execution}", created_at.0))
}

fn cursor_from(text: &str) -> Result<(Timestamp, ExecutionId), Trouble> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| {
            let (created_at, execution) = text.split_once('.')?;
            let created_at = created_at.parse().ok()?;
            let execution = ExecutionId::parse(execution).ok()?;
            Some((Timestamp(created_at), execution))
        })
        .ok_or_else(|| {
            Trouble::malformed("`cursor` must be the `next` of the page before, unchanged")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_as_it_was_written() {
        let place = (
            Timestamp(1_772_357_460_000),
            ExecutionId::parse("order-18").unwrap(),
        );
        let text = cursor(&place);
        assert_eq!(text, "MTc3MjM1NzQ2MDAwMC5vcmRlci0xOA");
        assert!(cursor_from(&text).is_ok_and(|read| read == place));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "!", "MTc3MjM1NzQ2MDAwMA", "____", "MTc3MjM1NzQ2MDAwMC4"] {
            assert!(cursor_from(text).is_err(), "{text}");
        }
    }
}
