//! The rows that the clauses write, and lists of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use eventflow_domain::{Json, Timestamp, execution::Status};
use eventflow_ports::{ListQuery, ViewRow};

use crate::samples::{execution, tenant};

pub(super) fn sample(id: &str, created_at: i64) -> ViewRow {
    ViewRow {
        tenant: tenant("acme"),
        execution: execution(id),
        workflow: "order".into(),
        status: Status::Running,
        created_at: Timestamp(created_at),
        labels: BTreeMap::from([("stage".into(), "one".into())]),
        summary: Json::of("first"),
        state: Some(Bytes::from_static(b"first")),
    }
}

pub(super) fn everything() -> ListQuery {
    ListQuery {
        tenant: tenant("acme"),
        statuses: Vec::new(),
        workflow: None,
        labels: Vec::new(),
        started_after: None,
        started_before: None,
        limit: 100,
        before: None,
    }
}

pub(super) fn rows_to_list() -> Vec<ViewRow> {
    let row = |id: &str, created: i64, status, workflow: &str, labels: &[(&str, &str)]| ViewRow {
        status,
        workflow: workflow.into(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
        ..sample(id, created)
    };
    // `b` and `c` were created in the same millisecond: the higher id is the newer one.
    vec![
        row("a", 10, Status::Completed, "order", &[("team", "x")]),
        row(
            "b",
            20,
            Status::Running,
            "order",
            &[("team", "x"), ("env", "live")],
        ),
        row("c", 20, Status::Faulted, "refund", &[("team", "y")]),
        row("d", 30, Status::Running, "order", &[]),
        row("e", 40, Status::Waiting, "refund", &[("team", "x")]),
        ViewRow {
            tenant: tenant("rival"),
            ..sample("f", 25)
        },
    ]
}

pub(super) fn queries() -> Vec<(ListQuery, Vec<&'static str>)> {
    let with = |change: &dyn Fn(&mut ListQuery)| {
        let mut query = everything();
        change(&mut query);
        query
    };
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    vec![
        (everything(), vec!["e", "d", "c", "b", "a"]),
        (with(&|query| query.tenant = tenant("rival")), vec!["f"]),
        (with(&|query| query.tenant = tenant("nobody")), vec![]),
        (
            with(&|query| query.statuses = vec![Status::Running, Status::Faulted]),
            vec!["d", "c", "b"],
        ),
        (
            with(&|query| query.workflow = Some("order".into())),
            vec!["d", "b", "a"],
        ),
        (
            with(&|query| query.labels = vec![label("team", "x")]),
            vec!["e", "b", "a"],
        ),
        (
            with(&|query| query.labels = vec![label("team", "x"), label("env", "live")]),
            vec!["b"],
        ),
        (
            with(&|query| query.labels = vec![label("team", "live")]),
            vec![],
        ),
        (
            with(&|query| query.started_after = Some(Timestamp(20))),
            vec!["e", "d", "c", "b"],
        ),
        (
            with(&|query| query.started_before = Some(Timestamp(20))),
            vec!["a"],
        ),
        (
            with(&|query| {
                query.statuses = vec![Status::Running];
                query.workflow = Some("order".into());
                query.labels = vec![label("team", "x")];
                query.started_after = Some(Timestamp(10));
                query.started_before = Some(Timestamp(30));
            }),
            vec!["b"],
        ),
        // A cursor in the middle of the millisecond that `b` and `c` share.
        (
            with(&|query| query.before = Some((Timestamp(20), execution("c")))),
            vec!["b", "a"],
        ),
        (with(&|query| query.limit = 1), vec!["e"]),
    ]
}
