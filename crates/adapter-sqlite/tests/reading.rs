//! A store read from outside, and records set aside.

use std::{fs, path::Path};

use bytes::Bytes;
use eventflow_adapter_sqlite::{OpenError, QuarantineError, Quarantined, SqliteStore, StoreReader};
use eventflow_domain::{Digest, PartitionId, Position, Tenant, Timestamp};
use eventflow_ports::{JournalEntry, ReadLimit};

const ZERO: PartitionId = PartitionId(0);
const ONE: PartitionId = PartitionId(1);
const AT: Timestamp = Timestamp(1_700_000_000_000);

/// Appends so many records to each of two partitions.
async fn write(store: &SqliteStore, records: u64) {
    let journal = store.journal();
    for partition in [ZERO, ONE] {
        for position in 0..records {
            let record = Bytes::from(format!("record {} of {partition}", position + 1));
            journal
                .append(partition, Position(position), record)
                .await
                .unwrap();
        }
    }
}

fn records(directory: &Path, partition: PartitionId) -> Vec<JournalEntry> {
    let reader = StoreReader::open(directory).unwrap();
    reader
        .records(partition, Position(0), ReadLimit::REPLAY)
        .unwrap()
}

fn positions(entries: &[JournalEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position.0).collect()
}

#[tokio::test]
async fn a_store_is_read_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), 2).unwrap();
    write(&store, 3).await;
    let reader = StoreReader::open(directory.path()).unwrap();
    assert_eq!(reader.partitions(), 2);
    assert_eq!(reader.head(ONE).unwrap(), (Position(3), None));
    let entries = records(directory.path(), ONE);
    assert_eq!(positions(&entries), [1, 2, 3]);
    assert_eq!(entries[1].record, "record 2 of 1");
    assert!(reader.head(PartitionId(2)).is_err());
    let tenant = Tenant::default_tenant();
    assert!(!reader.has_blob(&tenant, &Digest::of(b"a")));
    let digest = Digest::of(b"\"a\"");
    store
        .blobs()
        .put(&tenant, &digest, Bytes::from_static(b"\"a\""))
        .await
        .unwrap();
    assert!(reader.has_blob(&tenant, &digest));
    assert!(!reader.has_blob(&Tenant::parse("other").unwrap(), &digest));
    let mut view = reader.view(ZERO).unwrap().unwrap();
    assert_eq!(view.state().unwrap().rows, 0);
    assert_eq!(reader.files().unwrap().journal_mode, "wal");
}

#[test]
fn what_is_no_store_is_not_made_one() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere");
    assert!(StoreReader::open(&nowhere).is_err());
    assert!(Quarantined::set_aside(&nowhere, ZERO, Position(1), "why", AT).is_err());
    assert!(!nowhere.exists());
}

#[tokio::test]
async fn a_bad_record_and_what_follows_lie_aside_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = SqliteStore::open(path, 2).unwrap();
    write(&store, 5).await;
    let locked = Quarantined::set_aside(path, ONE, Position(3), "why", AT);
    assert!(matches!(
        locked,
        Err(QuarantineError::Store(OpenError::Locked { .. }))
    ));
    drop(store);
    let whole = records(path, ONE);

    let quarantined = Quarantined::set_aside(path, ONE, Position(3), "a flipped bit", AT).unwrap();
    assert_eq!((quarantined.last, quarantined.records), (Position(5), 3));
    assert_eq!(
        Quarantined::list(path).unwrap(),
        std::slice::from_ref(&quarantined)
    );
    assert_eq!(positions(&records(path, ONE)), [1, 2]);
    assert_eq!(positions(&records(path, ZERO)), [1, 2, 3, 4, 5]);
    // Every byte is where it says.
    let kept = rusqlite::Connection::open(&quarantined.file).unwrap();
    let mut statement = kept
        .prepare("SELECT record FROM records ORDER BY position")
        .unwrap();
    let kept: Vec<Vec<u8>> = statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let expected: Vec<Vec<u8>> = whole[2..]
        .iter()
        .map(|entry| entry.record.to_vec())
        .collect();
    assert_eq!(kept, expected);

    // The durable head is lowered with it: the shorter log is not taken for a damaged one.
    let store = SqliteStore::open(path, 2).unwrap();
    let journal = store.journal();
    assert_eq!(journal.head(ONE).await.unwrap(), Position(2));
    let appended = journal.append(ONE, Position(2), Bytes::from_static(b"another third"));
    assert_eq!(appended.await.unwrap(), Position(3));
}

#[tokio::test]
async fn nothing_is_set_aside_where_there_is_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = SqliteStore::open(path, 2).unwrap();
    write(&store, 2).await;
    drop(store);
    for (partition, first) in [(ZERO, 3), (ZERO, 0), (PartitionId(2), 1)] {
        let nothing = Quarantined::set_aside(path, partition, Position(first), "why", AT);
        assert!(
            matches!(nothing, Err(QuarantineError::Nothing { .. })),
            "{partition} {first}: {nothing:?}"
        );
    }
    assert_eq!(Quarantined::list(path).unwrap(), []);
    assert!(!path.join("quarantine").exists());
    assert_eq!(positions(&records(path, ZERO)), [1, 2]);
}

/// From its first record on: the partition begins anew.
#[tokio::test]
async fn a_whole_partition_may_be_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = SqliteStore::open(path, 2).unwrap();
    write(&store, 2).await;
    drop(store);
    Quarantined::set_aside(path, ZERO, Position(1), "all of it", AT).unwrap();
    assert_eq!(positions(&records(path, ZERO)), [0; 0]);
    let again = Quarantined::set_aside(path, ONE, Position(1), "that one too", AT).unwrap();
    assert!(fs::metadata(&again.file).unwrap().len() > 0);
    assert_eq!(Quarantined::list(path).unwrap().len(), 2);
    let store = SqliteStore::open(path, 2).unwrap();
    assert_eq!(store.journal().head(ZERO).await.unwrap(), Position(0));
}
