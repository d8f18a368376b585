//! What opening a store refuses, in one line each, and that a refusal changes nothing.

mod support;

use std::{fs, path::Path};

use eventflow_adapter_sqlite::{OpenError, SqliteStore};
use rusqlite::Connection;
use support::{P0, all, append, contents, directory, record};

/// Opening must fail, say so in one line that matches, and leave every file as it was.
fn refused(store: &Path, partitions: u16) -> OpenError {
    let before = contents(store);
    let error = SqliteStore::open(store, partitions).expect_err("refused");
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    let data = |files: Vec<(String, Vec<u8>)>| {
        files
            .into_iter()
            // SQLite's shared memory holds no data, and an empty file none either: the lock, a WAL not begun.
            .filter(|(name, bytes)| !name.ends_with("-shm") && !bytes.is_empty())
            .collect::<Vec<_>>()
    };
    assert!(data(before) == data(contents(store)), "changed by: {error}");
    error
}

async fn store_with_records(path: &Path) {
    let store = SqliteStore::open(path, 1).expect("created");
    append(&*store.journal(), 0, (0..10).map(|n| record(n, 100))).await;
}

#[tokio::test]
async fn a_second_opening_is_locked_out_until_the_first_one_is_closed() {
    let directory = directory();
    let first = SqliteStore::open(directory.path(), 1).expect("created");
    let error = SqliteStore::open(directory.path(), 1).expect_err("locked");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );

    let journal = first.journal();
    drop(first);
    let error = SqliteStore::open(directory.path(), 1).expect_err("a port is still in use");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    append(&*journal, 0, [record(1, 100)]).await;

    drop(journal);
    let again = SqliteStore::open(directory.path(), 1).expect("free again");
    assert_eq!(all(&*again.journal()).await, [record(1, 100)]);
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let directory = directory();
    store_with_records(directory.path()).await;
    let connection = Connection::open(directory.path().join("journal.db")).expect("opened");
    connection
        .pragma_update(None, "user_version", 99)
        .expect("set");
    connection
        .pragma_update(None, "wal_checkpoint", "TRUNCATE")
        .expect("copied back");
    drop(connection);

    let error = refused(directory.path(), 1);
    assert!(
        matches!(
            error,
            OpenError::NewerFormat {
                found: 99,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_newer_format_that_is_only_in_the_wal_is_refused() {
    let directory = directory();
    store_with_records(directory.path()).await;
    let copied = support::directory();
    let connection = Connection::open(directory.path().join("journal.db")).expect("opened");
    connection
        .pragma_update(None, "user_version", 99)
        .expect("set");
    // A connection that is closed copies the WAL back: taken while it is open.
    support::copy(directory.path(), copied.path());
    drop(connection);

    let error = refused(copied.path(), 1);
    assert!(
        matches!(error, OpenError::NewerFormat { found: 99, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let directory = directory();
    drop(SqliteStore::open(directory.path(), 3).expect("created"));
    let error = refused(directory.path(), 4);
    assert!(
        matches!(
            error,
            OpenError::PartitionsDiffer {
                stored: 3,
                asked: 4,
                ..
            }
        ),
        "{error}"
    );
    SqliteStore::open(directory.path(), 3).expect("with its own number");
}

#[test]
fn a_number_of_partitions_out_of_range_is_refused() {
    let directory = directory();
    for partitions in [0, 257] {
        let error = refused(directory.path(), partitions);
        assert!(error.to_string().contains("1 to 256 partitions"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_journal_is_refused() {
    let whole = directory();
    store_with_records(whole.path()).await;
    let journal = fs::read(whole.path().join("journal.db")).expect("read");
    let mut flipped_root = journal.clone();
    flipped_root[100] ^= 0xff;
    let mut no_application = journal.clone();
    no_application[68..72].fill(0);
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("short", b"SQLite format 3\0".to_vec()),
        ("garbage", vec![0xA5; 64 * 1024]),
        ("a damaged first page", flipped_root),
        ("of another program", no_application),
    ] {
        let directory = directory();
        let file = directory.path().join("journal.db");
        fs::write(&file, &bytes).expect("written");
        let error = refused(directory.path(), 1);
        assert!(
            matches!(error, OpenError::Corrupt { .. }),
            "{what}: {error}"
        );
        assert!(error.to_string().contains("journal.db"), "{what}: {error}");
        assert!(fs::read(&file).expect("read") == bytes, "{what}");
    }
}

#[tokio::test]
async fn a_store_without_its_journal_is_refused() {
    let directory = directory();
    store_with_records(directory.path()).await;
    fs::remove_file(directory.path().join("journal.db")).expect("removed");
    let error = refused(directory.path(), 1);
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_done_again() {
    let directory = directory();
    fs::write(directory.path().join("journal.db.new"), b"half a fi").expect("written");
    let store = SqliteStore::open(directory.path(), 1).expect("created");
    assert_eq!(store.journal().head(P0).await.expect("head").0, 0);
    assert!(!directory.path().join("journal.db.new").exists());
}

#[test]
fn a_directory_that_cannot_be_one_is_refused() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, b"").expect("written");
    let error = SqliteStore::open(file.join("store"), 1).expect_err("below a file");
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}
