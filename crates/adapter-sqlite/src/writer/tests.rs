//! What the writer does when SQLite fails.

use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::AppendError;
use rusqlite::{ErrorCode, ffi};
use tempfile::TempDir;

use super::*;
use crate::Options;

const P0: PartitionId = PartitionId(0);
const P1: PartitionId = PartitionId(1);

fn open(directory: &TempDir) -> Writer {
    let options = Options::new(2);
    let heads = vec![None; 2];
    let (file, found) = JournalFile::open(directory.path(), &options, &heads).expect("opened");
    let last = found.iter().map(|partition| partition.head.0).collect();
    let health = Health::new(options.partitions, std::collections::BTreeMap::new());
    Writer::start(&file, last, options.checkpoint_at_bytes, health).expect("started")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn record(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

async fn append(
    writer: &Writer,
    partition: PartitionId,
    last: u64,
) -> Result<Position, AppendError> {
    writer.append(partition, Position(last), record(8192)).await
}

/// Lets the file grow by so many pages, and no further: a full disk.
async fn leave_pages(writer: &Writer, pages: i64) {
    writer
        .change(move |connection| {
            let count: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let pragma = format!("PRAGMA max_page_count = {}", count + pages);
            connection.query_row(&pragma, [], |_| Ok(()))
        })
        .await
        .expect("set");
}

#[tokio::test]
async fn a_full_disk_writes_nothing_and_passes() {
    let directory = directory();
    let writer = open(&directory);
    append(&writer, P0, 0).await.expect("room");
    leave_pages(&writer, 4).await;

    // One group: it is handed over faster than the first of them is committed.
    let full = append(&writer, P0, 1);
    let behind = append(&writer, P0, 2);
    let (full, behind) = tokio::join!(full, behind);
    assert!(matches!(full, Err(AppendError::Unavailable(_))), "{full:?}");
    assert!(behind.is_err(), "built on what was not written");
    let full = append(&writer, P1, 0).await;
    assert!(matches!(full, Err(AppendError::Unavailable(_))), "{full:?}");
    assert_eq!(writer.head(P0).expect("head"), Position(1));
    assert_eq!(writer.head(P1).expect("head"), Position(0));

    // A small record still fits; with room again, everything goes on.
    let small = writer.append(P0, Position(1), record(100)).await;
    assert_eq!(small.expect("fits"), Position(2));
    leave_pages(&writer, 1000).await;
    assert_eq!(append(&writer, P0, 2).await.expect("room"), Position(3));

    drop(writer);
    let writer = open(&directory);
    assert_eq!(writer.head(P0).expect("head"), Position(3));
}

#[tokio::test]
async fn an_io_error_fails_everything_from_then_on_and_keeps_what_was_acknowledged() {
    let directory = directory();
    let writer = open(&directory);
    append(&writer, P0, 0).await.expect("appended");

    let failed = writer
        .change(|_| -> rusqlite::Result<()> {
            let code = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
            Err(rusqlite::Error::SqliteFailure(code, None))
        })
        .await
        .expect_err("an I/O error");
    assert_eq!(failed.severity(), Severity::Broken);
    for (partition, last) in [(P0, 1), (P1, 0), (P0, 1)] {
        let fatal = append(&writer, partition, last).await;
        assert!(matches!(fatal, Err(AppendError::Fatal(_))), "{fatal:?}");
    }
    assert_eq!(writer.head(P0).expect("head"), Position(1));

    drop(writer);
    let writer = open(&directory);
    assert_eq!(append(&writer, P0, 1).await.expect("appended"), Position(2));
}

#[tokio::test]
async fn a_busy_file_passes() {
    let directory = directory();
    let writer = open(&directory);
    let other = Connection::open(directory.path().join("journal.db")).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    let busy = append(&writer, P0, 0).await;
    assert!(matches!(busy, Err(AppendError::Unavailable(_))), "{busy:?}");
    other.execute_batch("ROLLBACK").expect("rolled back");
    append(&writer, P0, 0).await.expect("free again");
}

#[tokio::test]
async fn a_panic_of_the_writer_is_fatal_to_its_callers() {
    let directory = directory();
    let writer = open(&directory);
    let failed = writer
        .change(|_| -> rusqlite::Result<()> { panic!("on purpose") })
        .await
        .expect_err("the thread is gone");
    assert_eq!(failed.severity(), Severity::Broken);
    let fatal = append(&writer, P0, 0).await;
    assert!(matches!(fatal, Err(AppendError::Fatal(_))), "{fatal:?}");
}

#[tokio::test]
async fn more_than_the_queue_takes_is_unavailable_and_not_kept() {
    let directory = directory();
    let writer = open(&directory);
    // The writer is held up, so that the queue fills.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let held_up = writer.change(move |_| {
        // The sender is dropped to go on.
        let _ = wait.recv();
        Ok(())
    });
    tokio::pin!(held_up);
    assert!(futures_poll(&mut held_up).is_none());
    let fits = QUEUE_BYTES_MAX / RECORD_BYTES_MAX;
    let waiting: Vec<_> = (0..fits as u64)
        .map(|last| writer.append(P0, Position(last), record(RECORD_BYTES_MAX)))
        .collect();
    let refused = writer
        .append(P1, Position(0), record(RECORD_BYTES_MAX))
        .await;
    assert!(
        matches!(refused, Err(AppendError::Unavailable(_))),
        "{refused:?}"
    );
    drop(go);
    held_up.await.expect("done");
    for append in waiting {
        append.await.expect("appended");
    }
    assert_eq!(writer.queued_bytes.load(Ordering::Relaxed), 0);
    let retried = writer.append(P1, Position(0), record(100)).await;
    assert_eq!(retried.expect("room"), Position(1));
}

/// Polls once.
fn futures_poll<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn sqlite_says_full_for_a_full_disk() {
    // What `leave_pages` simulates is the same answer.
    let error = ffi::Error::new(ffi::SQLITE_FULL);
    assert_eq!(error.code, ErrorCode::DiskFull);
}
