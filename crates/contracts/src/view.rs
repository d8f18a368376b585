//! The clauses of `View`.

mod rows;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{ExecutionId, Json, PartitionId, Position, Timestamp, execution::Status};
use eventflow_ports::{ListQuery, View, ViewBatch, ViewError, ViewPosition, ViewRow};

use self::rows::{everything, queries, rows_to_list, sample};
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
    /// Whether the views are files, which can be copied.
    fn has_files(&self) -> bool {
        true
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
                clause_08_copy_writes_one_moment_while_batches_are_applied,
                clause_09_replace_goes_on_with_the_copy_for_all_instances,
                clause_10_what_is_no_sound_copy_is_refused_and_nothing_changes,
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

/// Clause 8.
pub async fn clause_08_copy_writes_one_moment_while_batches_are_applied(
    fixture: &impl ViewFixture,
) {
    const BATCHES: u64 = 40;
    const ROWS: u64 = 50;
    const COPIES: u64 = 5;
    let view = fixture.open().await;
    let [partition, restored] = fixture.partitions();
    let directory = tempfile::tempdir().expect("a directory");
    let applying = tokio::spawn({
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
            }
        }
    });
    for number in 0..COPIES {
        let file = directory.path().join(number.to_string());
        let position = view.copy(partition, &file).await.expect("copied");
        assert_eq!(position.is_some(), fixture.has_files());
        assert_eq!(file.exists(), fixture.has_files());
        let Some(position) = position else {
            continue;
        };
        let before = fs::read(&file).expect("read");
        view.copy(partition, &file)
            .await
            .expect_err("the file is there");
        assert!(fs::read(&file).expect("read") == before, "overwritten");
        view.replace(restored, &file).await.expect("replaced");
        let through = view.position(restored).await.expect("position");
        assert_eq!(through, position, "of the copy");
        let rows = view.list(restored, everything()).await.expect("list");
        let numbers: Vec<u64> = rows
            .iter()
            .map(|row| row.summary.read().expect("a number"))
            .collect();
        let all = if position.through.0 == 0 { 0 } else { ROWS };
        assert_eq!(numbers.len() as u64, all);
        assert!(
            numbers.iter().all(|number| *number == position.through.0),
            "a copy of {position:?} with rows of {numbers:?}"
        );
    }
    applying.await.expect("every batch is applied");
    let position = view.position(partition).await.expect("position");
    assert_eq!(
        position.through.0, BATCHES,
        "the copies were in nobody's way"
    );
}

/// Clause 9.
pub async fn clause_09_replace_goes_on_with_the_copy_for_all_instances(fixture: &impl ViewFixture) {
    if !fixture.has_files() {
        return clause_10_what_is_no_sound_copy_is_refused_and_nothing_changes(fixture).await;
    }
    let view = fixture.open().await;
    let other = fixture.open().await;
    let [partition, beside] = fixture.partitions();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("copy");
    apply(&*view, partition, 5, vec![sample("a", 1), sample("b", 2)]).await;
    apply(&*view, beside, 9, vec![sample("x", 1)]).await;
    let position = view.copy(partition, &file).await.expect("copied");
    let bytes = fs::read(&file).expect("read");
    // What has come since is thrown away, also what was read before.
    let many = (0..2000).map(|row| sample(&format!("c{row}"), 3)).collect();
    apply(&*view, partition, 6, many).await;
    assert_eq!(ids(&*other, partition, everything()).await.len(), 100);

    view.replace(partition, &file).await.expect("replaced");
    for view in [&view, &other, &fixture.open().await] {
        assert_eq!(ids(&**view, partition, everything()).await, ["b", "a"]);
        let found = get(&**view, partition, "acme", "a").await;
        assert_eq!(found, Some(sample("a", 1)));
        assert_eq!(view.open(partition).await.expect("open").len(), 2);
        let through = view.position(partition).await.expect("position");
        assert_eq!(Some(through), position);
        assert_eq!(ids(&**view, beside, everything()).await, ["x"]);
    }
    assert!(
        fs::read(&file).expect("read") == bytes,
        "the copy is as it was"
    );
    // And it goes on.
    apply(&*view, partition, 7, vec![sample("d", 4)]).await;
    assert_eq!(ids(&*other, partition, everything()).await, ["d", "b", "a"]);
}

/// Clause 10.
pub async fn clause_10_what_is_no_sound_copy_is_refused_and_nothing_changes(
    fixture: &impl ViewFixture,
) {
    let view = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let directory = tempfile::tempdir().expect("a directory");
    let rows: Vec<_> = (0..200)
        .map(|row| sample(&format!("e{row:03}"), 1))
        .collect();
    apply(&*view, partition, 3, rows).await;
    let before = ids(&*view, partition, everything()).await;
    let mut unfit = vec![
        ("garbage", vec![0xA5; 8192]),
        ("text", b"no view".to_vec()),
        ("empty", Vec::new()),
    ];
    if fixture.has_files() {
        let file = directory.path().join("copy");
        view.copy(partition, &file).await.expect("copied");
        let sound = fs::read(&file).expect("read");
        let mut damaged = sound.clone();
        let middle = damaged.len() / 2;
        damaged[middle..].fill(0xA5);
        unfit.push(("damaged", damaged));
        unfit.push(("cut short", sound[..middle].to_vec()));
    }
    for (what, bytes) in unfit {
        let file = directory.path().join(what);
        fs::write(&file, bytes).expect("written");
        refused(&*view, partition, &file, what).await;
    }
    let missing = directory.path().join("missing");
    refused(&*view, partition, &missing, "missing").await;
    assert!(!missing.exists());
    let through = view.position(partition).await.expect("position").through;
    assert_eq!(through, Position(3));
    assert_eq!(ids(&*view, partition, everything()).await, before);
    apply(&*view, partition, 4, vec![sample("more", 2)]).await;
}

async fn refused(view: &dyn View, partition: PartitionId, file: &Path, what: &str) {
    let refused = view.replace(partition, file).await;
    assert!(
        matches!(refused, Err(ViewError::Unfit(_))),
        "{what}: {refused:?}"
    );
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
