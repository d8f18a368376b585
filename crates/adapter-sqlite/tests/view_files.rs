//! The view's files: lost, damaged, foreign or ahead, they are rebuilt, and never in the way of the journal.

mod support;

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use eventflow_adapter_sqlite::{OpenError, SqliteStore, SqliteView};
use eventflow_domain::{ExecutionId, Json, Position, Tenant, Timestamp, execution::Status};
use eventflow_ports::{ListQuery, View, ViewBatch, ViewError, ViewPosition, ViewRow};
use rusqlite::Connection;
use support::{P0, all, append, copy, directory, record};

fn row(number: u32, status: Status) -> ViewRow {
    ViewRow {
        tenant: Tenant::default_tenant(),
        execution: ExecutionId::parse(&format!("e-{number:05}")).expect("an id"),
        workflow: format!("workflow-{}", number % 3),
        status,
        created_at: Timestamp(1000 + i64::from(number / 2)),
        labels: BTreeMap::from([("shard".to_owned(), (number % 5).to_string())]),
        summary: Json::of(&number),
        state: Some(Bytes::from(vec![1; 300])),
    }
}

async fn apply(view: &dyn View, through: u64, rows: Vec<ViewRow>) {
    let position = ViewPosition {
        through: Position(through),
        replay_after: Position(0),
    };
    view.apply(P0, ViewBatch { position, rows })
        .await
        .expect("applied");
}

async fn through(view: &dyn View) -> u64 {
    view.position(P0).await.expect("position").through.0
}

/// A closed store with 3 records, whose view reaches to the third.
async fn store(path: &Path) {
    let store = SqliteStore::open(path, 1).expect("created");
    append(&*store.journal(), 0, (0..3).map(|n| record(n, 100))).await;
    apply(&*store.view(), 3, vec![row(1, Status::Running)]).await;
}

#[tokio::test]
async fn a_view_goes_on_where_it_was_also_from_a_copy_of_open_files() {
    let (original, copied) = (directory(), directory());
    store(original.path()).await;
    let open = SqliteStore::open(original.path(), 1).expect("opened");
    assert_eq!(through(&*open.view()).await, 3);
    apply(&*open.view(), 3, vec![row(2, Status::Running)]).await;
    copy(original.path(), copied.path());
    let open = SqliteStore::open(copied.path(), 1).expect("opened");
    assert_eq!(open.view().open(P0).await.expect("listed").len(), 2);
}

#[tokio::test]
async fn a_damaged_foreign_or_unfinished_view_is_rebuilt_from_position_zero() {
    for (what, damage) in [
        (
            "garbage",
            (|file: &Path| fs::write(file, vec![0xA5; 8192]).expect("written")) as fn(&Path),
        ),
        ("empty", |file| fs::write(file, b"").expect("written")),
        ("of another format", |file| {
            let connection = Connection::open(file).expect("opened");
            connection
                .pragma_update(None, "user_version", 99)
                .expect("set");
        }),
        ("without its tables", |file| {
            let connection = Connection::open(file).expect("opened");
            connection
                .execute_batch("DROP TABLE position")
                .expect("dropped");
        }),
        ("gone", |file| fs::remove_file(file).expect("removed")),
    ] {
        let directory = directory();
        store(directory.path()).await;
        damage(&directory.path().join("view-0.db"));

        let store = SqliteStore::open(directory.path(), 1).expect(what);
        let view = store.view();
        assert_eq!(through(&*view).await, 0, "{what}");
        assert_eq!(view.open(P0).await.expect("listed"), [], "{what}");
        apply(&*view, 2, vec![row(7, Status::Running)]).await;
        assert_eq!(all(&*store.journal()).await.len(), 3, "{what}");
    }
}

#[tokio::test]
async fn damage_that_is_met_while_reading_is_noted_and_rebuilt_at_the_next_opening() {
    let directory = directory();
    store(directory.path()).await;
    let file = directory.path().join("view-0.db");
    let connection = Connection::open(&file).expect("opened");
    connection
        .execute_batch("UPDATE executions SET status = 'no such status'")
        .expect("damaged");
    drop(connection);

    let store = SqliteStore::open(directory.path(), 1).expect("opened");
    let view = store.view();
    assert_eq!(through(&*view).await, 3, "nothing was noticed yet");
    view.open(P0).await.expect_err("an unreadable row");
    drop((view, store));

    let store = SqliteStore::open(directory.path(), 1).expect("opened");
    assert_eq!(through(&*store.view()).await, 0);
    drop(store);
    let store = SqliteStore::open(directory.path(), 1).expect("opened");
    apply(&*store.view(), 3, vec![]).await;
    drop(store);
    let store = SqliteStore::open(directory.path(), 1).expect("opened");
    assert_eq!(through(&*store.view()).await, 3, "rebuilt once");
}

/// The machine's boots differ by their ids.
#[tokio::test]
async fn a_view_that_was_open_in_another_boot_is_rebuilt_and_a_closed_one_is_not() {
    let (original, copied) = (directory(), directory());
    store(original.path()).await;
    let boot = |path: &Path| path.join("view-0.db-boot");
    let closed = fs::read_to_string(boot(original.path())).expect("read");
    assert_eq!(closed, "closed");

    // What a closed one says holds for every boot.
    let open = SqliteStore::open(original.path(), 1).expect("opened");
    assert_eq!(through(&*open.view()).await, 3);
    copy(original.path(), copied.path());
    let this_boot = fs::read_to_string(boot(copied.path())).expect("read");
    assert_ne!(this_boot, closed, "open");

    for lost in [None, Some("another boot"), Some("")] {
        match lost {
            Some(text) => fs::write(boot(copied.path()), text).expect("written"),
            None => fs::remove_file(boot(copied.path())).expect("removed"),
        }
        let after = SqliteStore::open(copied.path(), 1).expect("opened");
        assert_eq!(through(&*after.view()).await, 0, "{lost:?}");
        apply(&*after.view(), 3, vec![]).await;
        drop(after);
        let after = SqliteStore::open(copied.path(), 1).expect("opened");
        assert_eq!(through(&*after.view()).await, 3, "rebuilt once");
    }
}

#[tokio::test]
async fn a_view_ahead_of_its_journal_is_rebuilt() {
    let directory = directory();
    store(directory.path()).await;
    let open = SqliteStore::open(directory.path(), 1).expect("opened");
    apply(&*open.view(), 4, vec![]).await;
    drop(open);
    let open = SqliteStore::open(directory.path(), 1).expect("opened");
    assert_eq!(through(&*open.view()).await, 0);
}

#[tokio::test]
async fn a_view_without_a_journal_has_a_lock_of_its_own() {
    let directory = directory();
    let view = SqliteView::open(directory.path(), 2).expect("created");
    apply(&view, 1_000_000, vec![row(1, Status::Running)]).await;
    let error = SqliteView::open(directory.path(), 2).expect_err("locked");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(view);
    let view = SqliteView::open(directory.path(), 2).expect("opened");
    assert_eq!(through(&view).await, 1_000_000);
}

/// Each combination of filters walks along another index: all must give what a plain filter over all rows gives.
#[tokio::test]
async fn every_combination_of_filters_gives_the_matching_rows_in_order() {
    let directory = directory();
    let view = SqliteView::open(directory.path(), 1).expect("created");
    let status = |number: u32| Status::ALL[number as usize % Status::ALL.len()];
    let mut rows: Vec<_> = (0..400).map(|number| row(number, status(number))).collect();
    // First as running, then as they are: the rows move between the indices.
    let running = rows.iter().cloned().map(|row| ViewRow {
        status: Status::Running,
        ..row
    });
    apply(&view, 1, running.collect()).await;
    apply(&view, 2, rows.clone()).await;
    rows.sort_by(|a, b| (b.created_at, &b.execution).cmp(&(a.created_at, &a.execution)));

    let statuses = [
        vec![],
        vec![Status::Running],
        vec![Status::Running, Status::Suspended],
        vec![Status::Faulted],
        vec![Status::Completed],
        vec![Status::Running, Status::Completed],
    ];
    let labels = [vec![], vec![("shard".to_owned(), "3".to_owned())]];
    for statuses in &statuses {
        for workflow in [None, Some("workflow-1".to_owned())] {
            for labels in &labels {
                for (after, before) in [(None, None), (Some(1050), Some(1150))] {
                    let query = ListQuery {
                        tenant: Tenant::default_tenant(),
                        statuses: statuses.clone(),
                        workflow: workflow.clone(),
                        labels: labels.clone(),
                        started_after: after.map(Timestamp),
                        started_before: before.map(Timestamp),
                        limit: 7,
                        before: None,
                    };
                    let expected = rows.iter().filter(|row| matches(row, &query));
                    let expected: Vec<_> = expected.map(|row| row.execution.clone()).collect();
                    assert_eq!(pages(&view, query.clone()).await, expected, "{query:?}");
                }
            }
        }
    }
}

fn matches(row: &ViewRow, query: &ListQuery) -> bool {
    (query.statuses.is_empty() || query.statuses.contains(&row.status))
        && query
            .workflow
            .as_ref()
            .is_none_or(|workflow| *workflow == row.workflow)
        && query
            .labels
            .iter()
            .all(|(key, value)| row.labels.get(key) == Some(value))
        && query
            .started_after
            .is_none_or(|after| row.created_at >= after)
        && query
            .started_before
            .is_none_or(|before| row.created_at < before)
}

async fn pages(view: &dyn View, mut query: ListQuery) -> Vec<ExecutionId> {
    let mut seen = Vec::new();
    loop {
        let page = view.list(P0, query.clone()).await.expect("listed");
        assert!(page.iter().all(|row| row.state.is_none()), "without state");
        let Some(last) = page.last() else {
            return seen;
        };
        query.before = Some((last.created_at, last.execution.clone()));
        seen.extend(page.into_iter().map(|row| row.execution));
    }
}

#[tokio::test]
async fn a_view_that_was_replaced_goes_on_after_a_restart_with_the_copy() {
    let (directory, elsewhere) = (directory(), directory());
    let copied = elsewhere.path().join("copy");
    {
        let view = SqliteView::open(elsewhere.path(), 1).expect("opened");
        apply(
            &view,
            7,
            (0..500).map(|n| row(n, Status::Running)).collect(),
        )
        .await;
        let position = view.copy(P0, &copied).await.expect("copied");
        assert_eq!(position.expect("files").through, Position(7));
    }
    {
        let view = SqliteView::open(directory.path(), 1).expect("opened");
        apply(&view, 9, vec![row(1000, Status::Running)]).await;
        view.replace(P0, &copied).await.expect("replaced");
        apply(&view, 8, vec![row(500, Status::Running)]).await;
    }
    let view = SqliteView::open(directory.path(), 1).expect("opened");
    assert_eq!(through(&view).await, 8);
    assert_eq!(view.open(P0).await.expect("listed").len(), 501);
}

#[tokio::test]
async fn a_copy_of_another_version_is_refused_and_nothing_changes() {
    let directory = directory();
    let copied = directory.path().join("copy");
    let view = SqliteView::open(directory.path(), 1).expect("opened");
    apply(&view, 1, vec![row(1, Status::Running)]).await;
    view.copy(P0, &copied).await.expect("copied");
    apply(&view, 2, vec![row(2, Status::Running)]).await;
    let of_later = Connection::open(&copied).expect("opened");
    of_later
        .pragma_update(None, "user_version", 99)
        .expect("set");
    drop(of_later);
    let refused = view.replace(P0, &copied).await;
    let Err(ViewError::Unfit(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.to_string().contains("99"), "{reason}");
    assert_eq!(through(&view).await, 2);
    assert_eq!(view.open(P0).await.expect("listed").len(), 2);
}
