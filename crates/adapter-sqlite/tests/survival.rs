//! What a journal keeps when its process ends in the middle: everything it acknowledged.

mod support;

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use eventflow_adapter_sqlite::{Options, SqliteStore};
use eventflow_domain::Position;
use support::{P0, all, append, copy, directory, record};

/// Small, so that a test goes through many rounds of the WAL.
fn small_wal() -> Options {
    Options {
        wal_bytes: 256 * 1024,
        checkpoint_at_bytes: 128 * 1024,
        ..Options::new(1)
    }
}

#[tokio::test]
async fn a_copy_of_the_files_taken_while_appending_opens_with_every_acknowledged_record() {
    const ACKNOWLEDGED: u64 = 100;
    let (original, copied) = (directory(), directory());
    let store = SqliteStore::open(original.path(), 1).expect("created");
    let journal = store.journal();
    let expected: Vec<_> = (0..ACKNOWLEDGED + 50).map(|n| record(n, 3000)).collect();
    append(&*journal, 0, expected[..100].iter().cloned()).await;

    // As a power loss leaves them: nothing was closed or copied back, and commits were under way.
    let in_flight: Vec<_> = (ACKNOWLEDGED..)
        .zip(&expected[100..])
        .map(|(last, record)| journal.append(P0, Position(last), record.clone()))
        .collect();
    copy(original.path(), copied.path());
    drop(in_flight);

    let store = SqliteStore::open(copied.path(), 1).expect("opened");
    let journal = store.journal();
    let records = all(&*journal).await;
    assert!(records.len() >= 100, "{} of 100", records.len());
    assert!(
        records == expected[..records.len()],
        "an unbroken beginning"
    );
    let kept = records.len() as u64;
    append(&*journal, kept, [record(kept, 10)]).await;
}

#[tokio::test]
async fn many_rounds_of_the_wal_keep_every_record_and_the_wal_small() {
    let directory = directory();
    let sizes = [100, 900, 5_000, 40_000, 100_000];
    let expected: Vec<_> = (0..300)
        .map(|n| record(n, sizes[usize::try_from(n).expect("few") % sizes.len()]))
        .collect();
    let store = SqliteStore::open_with(directory.path(), &small_wal()).expect("created");
    let journal = store.journal();
    for (last, group) in (0..).step_by(4).zip(expected.chunks(4)) {
        let in_flight: Vec<_> = (last..)
            .zip(group)
            .map(|(last, record)| journal.append(P0, Position(last), record.clone()))
            .collect();
        for append in in_flight {
            append.await.expect("appended");
        }
    }
    assert!(all(&*journal).await == expected);
    let wal = directory.path().join("journal.db-wal");
    let wal_bytes = std::fs::metadata(wal).expect("a WAL").len();
    // 9 MB went through it; a checkpoint begins at 128 KiB and is waited for at 1 MiB.
    assert!(wal_bytes < 2 * 1024 * 1024, "the WAL has {wal_bytes} bytes");

    drop((journal, store));
    let store = SqliteStore::open_with(directory.path(), &small_wal()).expect("opened");
    assert!(all(&*store.journal()).await == expected);
}

#[tokio::test]
async fn a_closed_store_needs_no_wal() {
    let directory = directory();
    let expected: Vec<_> = (0..50).map(|n| record(n, 2000)).collect();
    let store = SqliteStore::open(directory.path(), 1).expect("created");
    append(&*store.journal(), 0, expected.clone()).await;
    drop(store);
    for name in ["journal.db-wal", "journal.db-shm"] {
        std::fs::remove_file(directory.path().join(name)).expect("there after closing");
    }
    let store = SqliteStore::open(directory.path(), 1).expect("opened");
    assert!(all(&*store.journal()).await == expected);
}

/// The directory that this test's child is to append in.
const CHILD: &str = "EVENTFLOW_TEST_APPEND_UNTIL_KILLED";

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    const ROUNDS: u64 = 4;
    if let Ok(directory) = env::var(CHILD) {
        append_until_killed(Path::new(&directory)).await;
    }
    let directory = directory();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        acknowledged = run_and_kill(directory.path(), acknowledged + 100 * (round + 1));
        let store = SqliteStore::open_with(directory.path(), &small_wal()).expect("opened");
        let records = all(&*store.journal()).await;
        let kept = records.len() as u64;
        assert!(kept >= acknowledged, "{kept} of {acknowledged}");
        for (number, found) in (0..).zip(&records) {
            assert!(found == &record(number, 700), "record {number}");
        }
        acknowledged = kept;
    }
}

/// Runs this very test as a child process until it has acknowledged `at_least` records; answers how many it had.
fn run_and_kill(directory: &Path, at_least: u64) -> u64 {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args([
            "what_was_acknowledged_survives_a_kill",
            "--exact",
            "--nocapture",
        ])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut acknowledged = 0;
    let output = BufReader::new(child.stdout.take().expect("piped"));
    for line in output.lines() {
        let line = line.expect("a line");
        let Some(position) = line.strip_prefix("acknowledged ") else {
            continue;
        };
        acknowledged = position.parse().expect("a position");
        if acknowledged >= at_least {
            // SIGKILL: nothing is closed, nothing flushed.
            child.kill().expect("killed");
        }
    }
    child.wait().expect("ended");
    assert!(acknowledged >= at_least, "the child ended by itself");
    acknowledged
}

async fn append_until_killed(directory: &Path) -> ! {
    let store = SqliteStore::open_with(directory, &small_wal()).expect("opened");
    let journal = store.journal();
    let mut last = journal.head(P0).await.expect("head").0;
    loop {
        append(&*journal, last, [record(last, 700)]).await;
        last += 1;
        let mut output = std::io::stdout().lock();
        writeln!(output, "acknowledged {last}").expect("a reader");
        output.flush().expect("a reader");
        tokio::time::sleep(Duration::ZERO).await;
    }
}
