//! The clauses of `View`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{ExecutionId, Json, PartitionId, Position, Timestamp, execution::Status};
use eventflow_ports::{ListQuery, View, ViewBatch, ViewPosition, ViewRow};

use crate::samples::{execution, tenant};

/// One store of views, empty when the fixture is made.
#[async_trait]
pub trait ViewFixture: Send + Sync {
    /// A new instance on this fixture's store; an earlier one may still be in use.
    async fn open(&self) -> Arc<dyn View>;
    /// Two partitions of the store.
    fn partitions(&self) -> [PartitionId; 2] {
        [PartitionId(0), PartitionId(1)]
    }
}

/// One test per clause of `View`, for the fixture that the closure makes.
#[macro_export]
macro_rules! view_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            view,
            [
                clause_01_a_batch_is_applied_whole_or_not_at_all,
                clause_02_apply_replaces_rows_and_keeps_a_state_that_is_not_given,
                clause_03_position_is_what_the_last_batch_said,
                clause_04_get_finds_a_row_of_its_tenant_with_its_state,
                clause_05_open_lists_what_is_not_ended_and_has_a_state,
                clause_06_list_gives_matching_rows_newest_first_in_pages,
                clause_07_partitions_are_independent,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_a_batch_is_applied_whole_or_not_at_all(fixture: &impl ViewFixture) {
    const BATCHES: u64 = 30;
    const ROWS: u64 = 20;
    let view = fixture.open().await;
    let [partition, _] = fixture.partitions();

    let writer = {
        let view = view.clone();
        async move {
            for number in 1..=BATCHES {
                let rows = (0..ROWS)
                    .map(|row| ViewRow {
                        summary: Json::of(&number),
                        ..sample(&format!("e{row}"), 1)
                    })
                    .collect();
                apply(&*view, partition, number, rows).await;
                tokio::task::yield_now().await;
            }
        }
    };
    let reader = async move {
        loop {
            let position = view.position(partition).await.expect("position").through.0;
            let rows = view.list(partition, everything()).await.expect("list");
            let seen: Vec<u64> = rows
                .iter()
                .map(|row| row.summary.read().expect("a number"))
                .collect();
            assert!(
                seen.iter().all(|number| *number == seen[0]),
                "one list shows parts of several batches: {seen:?}"
            );
            assert!(
                position == 0 || seen.len() as u64 == ROWS && seen[0] >= position,
                "position {position} is ahead of the rows {seen:?}"
            );
            if position == BATCHES {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let writer = tokio::spawn(writer);
    let reader = tokio::spawn(reader);
    writer.await.expect("the writer ends");
    reader.await.expect("the reader ends");
}

/// Clause 2.
pub async fn clause_02_apply_replaces_rows_and_keeps_a_state_that_is_not_given(
    fixture: &impl ViewFixture,
) {
    let view = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let first = sample("one", 1);
    let second = ViewRow {
        status: Status::Waiting,
        workflow: "renamed".into(),
        created_at: Timestamp(3),
        labels: BTreeMap::from([("stage".into(), "two".into())]),
        summary: Json::of("second"),
        state: Some(Bytes::from_static(b"second")),
        ..first.clone()
    };
    apply(&*view, partition, 1, vec![first, sample("other", 2)]).await;
    apply(&*view, partition, 2, vec![second.clone()]).await;
    assert_eq!(
        get(&*view, partition, "acme", "one").await,
        Some(second.clone())
    );
    assert_eq!(ids(&*view, partition, everything()).await, ["one", "other"]);
    let by_old_label = ListQuery {
        labels: vec![("stage".into(), "one".into())],
        ..everything()
    };
    assert_eq!(ids(&*view, partition, by_old_label).await, ["other"]);

    let without_state = ViewRow {
        status: Status::Completed,
        summary: Json::of("third"),
        state: None,
        ..second.clone()
    };
    apply(&*view, partition, 3, vec![without_state.clone()]).await;
    let expected = ViewRow {
        state: second.state,
        ..without_state
    };
    assert_eq!(
        get(&*fixture.open().await, partition, "acme", "one").await,
        Some(expected)
    );
}

/// Clause 3.
pub async fn clause_03_position_is_what_the_last_batch_said(fixture: &impl ViewFixture) {
    let view = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let position = async |view: &dyn View| view.position(partition).await.expect("position");
    assert_eq!(position(&*view).await, ViewPosition::default());
    for (through, replay_after) in [(1, 0), (7, 3), (u64::from(u32::MAX) + 5, 9)] {
        let said = ViewPosition {
            through: Position(through),
            replay_after: Position(replay_after),
        };
        let batch = ViewBatch {
            position: said,
            rows: Vec::new(),
        };
        view.apply(partition, batch).await.expect("applied");
        assert_eq!(position(&*view).await, said);
        assert_eq!(position(&*fixture.open().await).await, said);
    }
}

/// Clause 4.
pub async fn clause_04_get_finds_a_row_of_its_tenant_with_its_state(fixture: &impl ViewFixture) {
    let view = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let ours = ViewRow {
        created_at: Timestamp(1_700_000_000_123),
        labels: BTreeMap::from([("größe".into(), "\u{1F980} \"'%_".into())]),
        summary: Json::parse(r#"{"a":[1,2.5,null,"\u0000"]}"#).expect("JSON"),
        state: Some((0..=255).collect()),
        ..sample("same-id", 1)
    };
    let theirs = ViewRow {
        tenant: tenant("rival"),
        state: Some(Bytes::from_static(b"theirs")),
        ..sample("same-id", 2)
    };
    let stateless = ViewRow {
        state: None,
        ..sample("stateless", 3)
    };
    let rows = vec![ours.clone(), theirs.clone(), stateless.clone()];
    apply(&*view, partition, 1, rows).await;
    for view in [view, fixture.open().await] {
        assert_eq!(
            get(&*view, partition, "acme", "same-id").await,
            Some(ours.clone())
        );
        assert_eq!(
            get(&*view, partition, "rival", "same-id").await,
            Some(theirs.clone())
        );
        assert_eq!(
            get(&*view, partition, "acme", "stateless").await,
            Some(stateless.clone())
        );
        assert_eq!(get(&*view, partition, "rival", "stateless").await, None);
        assert_eq!(get(&*view, partition, "acme", "unknown").await, None);
    }
}

/// Clause 5.
pub async fn clause_05_open_lists_what_is_not_ended_and_has_a_state(fixture: &impl ViewFixture) {
    let view = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let mut expected = Vec::new();
    let mut rows = Vec::new();
    for status in Status::ALL {
        let with_state = ViewRow {
            status: *status,
            ..sample(&format!("{}-with", status.as_str()), 1)
        };
        let without = ViewRow {
            status: *status,
            state: None,
            ..sample(&format!("{}-without", status.as_str()), 1)
        };
        if !status.is_ended() {
            expected.push(with_state.clone());
        }
        rows.extend([with_state, without]);
    }
    let of_another_tenant = ViewRow {
        tenant: tenant("rival"),
        ..sample("theirs", 1)
    };
    expected.push(of_another_tenant.clone());
    rows.push(of_another_tenant);
    apply(&*view, partition, 1, rows).await;

    let sorted = |mut rows: Vec<ViewRow>| {
        rows.sort_by(|one, two| one.execution.cmp(&two.execution));
        rows
    };
    let expected = sorted(expected);
    for view in [&view, &fixture.open().await] {
        let open = view.open(partition).await.expect("open");
        assert_eq!(sorted(open), expected);
    }

    // Ended from now on, and its state is not given again.
    let ended = ViewRow {
        status: Status::Completed,
        state: None,
        ..sample("running-with", 1)
    };
    apply(&*view, partition, 2, vec![ended]).await;
    let open = view.open(partition).await.expect("open");
    assert!(
        open.iter()
            .all(|row| row.execution != execution("running-with"))
    );
    assert_eq!(open.len(), expected.len() - 1);
}

/// Clause 6.
pub async fn clause_06_list_gives_matching_rows_newest_first_in_pages(fixture: &impl ViewFixture) {
    let view = fixture.open().await;
    let [partition, _] = fixture.partitions();
    apply(&*view, partition, 1, rows_to_list()).await;
    for (query, expected) in queries() {
        let found = view.list(partition, query.clone()).await.expect("list");
        assert!(
            found.iter().all(|row| row.state.is_none()),
            "a list shows no state"
        );
        assert_eq!(names(found), expected, "{query:?}");
    }

    let mut pages = Vec::new();
    let mut query = everything();
    query.limit = 2;
    loop {
        let page = view.list(partition, query.clone()).await.expect("list");
        let Some(last) = page.last() else { break };
        query.before = Some((last.created_at, last.execution.clone()));
        pages.push(names(page));
    }
    assert_eq!(pages, [vec!["e", "d"], vec!["c", "b"], vec!["a"]]);
}

fn rows_to_list() -> Vec<ViewRow> {
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

fn queries() -> Vec<(ListQuery, Vec<&'static str>)> {
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

/// Clause 7.
pub async fn clause_07_partitions_are_independent(fixture: &impl ViewFixture) {
    let view = fixture.open().await;
    let [one, two] = fixture.partitions();
    apply(&*view, one, 5, vec![sample("a", 1), sample("b", 2)]).await;
    assert_eq!(
        view.position(two).await.expect("position"),
        ViewPosition::default()
    );
    assert_eq!(get(&*view, two, "acme", "a").await, None);
    assert_eq!(view.open(two).await.expect("open"), []);
    assert_eq!(ids(&*view, two, everything()).await, [""; 0]);

    let other = ViewRow {
        summary: Json::of("in two"),
        ..sample("a", 9)
    };
    apply(&*view, two, 1, vec![other.clone()]).await;
    assert_eq!(get(&*view, one, "acme", "a").await, Some(sample("a", 1)));
    assert_eq!(get(&*view, two, "acme", "a").await, Some(other));
    let position = view.position(one).await.expect("position");
    assert_eq!(position.through, Position(5));
}

async fn apply(view: &dyn View, partition: PartitionId, through: u64, rows: Vec<ViewRow>) {
    let position = ViewPosition {
        through: Position(through),
        replay_after: Position(0),
    };
    view.apply(partition, ViewBatch { position, rows })
        .await
        .expect("applied");
}

async fn get(view: &dyn View, partition: PartitionId, owner: &str, id: &str) -> Option<ViewRow> {
    view.get(partition, &tenant(owner), &execution(id))
        .await
        .expect("get")
}

async fn ids(view: &dyn View, partition: PartitionId, query: ListQuery) -> Vec<String> {
    names(view.list(partition, query).await.expect("list"))
}

fn names(rows: Vec<ViewRow>) -> Vec<String> {
    rows.into_iter()
        .map(|row: ViewRow| ExecutionId::as_str(&row.execution).to_owned())
        .collect()
}

fn everything() -> ListQuery {
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

fn sample(id: &str, created_at: i64) -> ViewRow {
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
