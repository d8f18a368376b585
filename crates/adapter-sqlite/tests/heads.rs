//! The durable heads: when they are written, and what an opened journal that does not reach them can still do.

mod support;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use eventflow_adapter_sqlite::SqliteStore;
use eventflow_domain::{Digest, PartitionId, Position};
use eventflow_ports::{AppendError, ReadError, ReadLimit};
use rusqlite::Connection;
use support::{P0, directory, record};

const P1: PartitionId = PartitionId(1);

async fn store_with_records(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(path, 2).expect("created");
    let journal = store.journal();
    for last in 0..5 {
        for partition in [P0, P1] {
            let appended = journal.append(partition, Position(last), record(last, 100));
            appended.await.expect("appended");
        }
    }
    store
}

fn heads(path: &Path) -> String {
    fs::read_to_string(path.join("journal.heads")).unwrap_or_default()
}

fn line(partition: PartitionId, position: u64) -> String {
    let record = Digest::of(&record(position - 1, 100));
    format!("{partition} {position} {record}\n")
}

#[tokio::test]
async fn heads_are_written_within_about_a_second_and_when_the_store_is_closed() {
    let directory = directory();
    let store = store_with_records(directory.path()).await;
    let began = Instant::now();
    while !heads(directory.path()).contains(&line(P1, 5)) {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{}",
            heads(directory.path())
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let appended = store.journal().append(P0, Position(5), record(5, 100));
    appended.await.expect("appended");
    drop(store);
    let closed = heads(directory.path());
    assert!(
        closed.contains(&line(P0, 6)) && closed.contains(&line(P1, 5)),
        "{closed}"
    );
    let unchanged = fs::metadata(directory.path().join("journal.heads")).expect("there");
    drop(SqliteStore::open(directory.path(), 2).expect("opened"));
    let still = fs::metadata(directory.path().join("journal.heads")).expect("there");
    assert_eq!(
        unchanged.modified().expect("a time"),
        still.modified().expect("a time"),
        "written although nothing has moved"
    );
}

#[tokio::test]
async fn a_log_that_lost_its_end_can_be_read_to_there_and_not_be_written() {
    let directory = directory();
    drop(store_with_records(directory.path()).await);
    let before = heads(directory.path());
    let journal = Connection::open(directory.path().join("journal.db")).expect("opened");
    journal
        .execute("DELETE FROM records_1 WHERE position > 3", [])
        .expect("deleted");
    drop(journal);

    let store = SqliteStore::open(directory.path(), 2).expect("the other partition is sound");
    let failures = store.failures().borrow().clone();
    assert_eq!(failures.keys().collect::<Vec<_>>(), [&P1]);
    let told = "partition 1 ends at record 3, but record 5 was durable";
    assert!(failures[&P1].contains(told), "{failures:?}");

    let journal = store.journal();
    let read = journal.read(P1, Position(0), ReadLimit::REPLAY).await;
    assert_eq!(read.expect("what is left of it").len(), 3);
    let end = journal.read(P1, Position(3), ReadLimit::REPLAY).await;
    let Err(ReadError::Fatal(damage)) = end else {
        panic!("taken for the end: {end:?}");
    };
    assert!(damage.to_string().contains(told), "{damage}");
    let refused = journal.append(P1, Position(3), record(9, 100)).await;
    assert!(matches!(refused, Err(AppendError::Fatal(_))), "{refused:?}");

    let appended = journal.append(P0, Position(5), record(5, 100)).await;
    assert_eq!(appended.expect("appended"), Position(6));
    drop((store, journal));
    // Not forgotten because the service went on.
    let after = heads(directory.path());
    assert!(
        after.contains(&line(P0, 6)) && after.contains(&line(P1, 5)),
        "{after}"
    );
    assert_ne!(before, after);
}

#[tokio::test]
async fn a_damaged_record_before_the_head_hides_nothing_from_those_that_look_for_it() {
    let directory = directory();
    drop(store_with_records(directory.path()).await);
    let journal = Connection::open(directory.path().join("journal.db")).expect("opened");
    journal
        .execute("UPDATE records_0 SET record = x'00' WHERE position = 5", [])
        .expect("updated");
    drop(journal);
    let store = SqliteStore::open(directory.path(), 2).expect("opened");
    let (journal, failures) = (store.journal(), store.failures());
    let read = journal.read(P0, Position(0), ReadLimit::REPLAY).await;
    assert_eq!(read.expect("what is sound").len(), 4);
    let differs = &failures.borrow()[&P0];
    assert!(
        differs.contains("record 5 of partition 0 is not the one"),
        "{differs}"
    );
}
