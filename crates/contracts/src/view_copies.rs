//! The clauses of `ViewCopies`.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{ViewCopies, ViewCopyError};
use tempfile::TempDir;

/// One store of copies, empty when the fixture is made.
#[async_trait]
pub trait ViewCopiesFixture: Send + Sync {
    /// A new instance on this fixture's store; an earlier one may still be in use.
    async fn open(&self) -> Arc<dyn ViewCopies>;
    /// Damages the newest copy of a partition that was put, as a broken disk does.
    async fn damage(&self, partition: PartitionId);
    /// How many copies of the partition are stored, whole or not.
    async fn stored(&self, partition: PartitionId) -> usize;
    /// Two partitions of the store.
    fn partitions(&self) -> [PartitionId; 2] {
        [PartitionId(0), PartitionId(1)]
    }
}

/// One test per clause of `ViewCopies`, for the fixture that the closure makes.
#[macro_export]
macro_rules! view_copies_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            view_copies,
            [
                clause_01_put_makes_a_copy_that_is_ahead_the_newest,
                clause_01_of_many_that_put_the_one_ahead_is_the_newest,
                clause_02_newest_is_zero_before_the_first_also_for_a_new_instance,
                clause_03_get_writes_what_was_put_and_answers_its_position,
                clause_03_a_damaged_copy_is_corrupt_and_leaves_no_file,
                clause_04_partitions_are_independent,
                clause_05_a_copy_is_read_while_newer_ones_are_put,
                clause_05_older_copies_are_removed,
            ]
        );
    };
}

/// Larger than whatever a store sends in one message.
const LARGE_BYTES: usize = 3 * 1024 * 1024 + 17;
/// Copies that may stay beside the newest one: who reads the one before goes on, and one may be on its way out.
const KEPT_MAX: usize = 3;
/// Old copies are gone long before.
const REMOVED_WITHIN: Duration = Duration::from_secs(10);

/// Clause 1.
pub async fn clause_01_put_makes_a_copy_that_is_ahead_the_newest(fixture: &impl ViewCopiesFixture) {
    let copies = fixture.open().await;
    let other = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let work = Work::new();
    work.put(&*copies, partition, 5, b"five").await;
    // Neither behind nor level.
    work.put(&*other, partition, 4, b"four").await;
    work.put(&*copies, partition, 5, b"another five").await;
    assert_eq!(newest(&*copies, partition).await, 5);
    assert_eq!(
        work.get(&*other, partition).await,
        Some((5, b"five".to_vec()))
    );
    work.put(&*other, partition, 6, b"six").await;
    assert_eq!(
        work.get(&*copies, partition).await,
        Some((6, b"six".to_vec()))
    );
    // What cannot be read is not put.
    let missing = work.path("missing");
    let refused = copies.put(partition, Position(7), &missing).await;
    assert!(
        matches!(refused, Err(ViewCopyError::File(_))),
        "{refused:?}"
    );
    assert_eq!(newest(&*copies, partition).await, 6);
}

/// Clause 1.
pub async fn clause_01_of_many_that_put_the_one_ahead_is_the_newest(
    fixture: &impl ViewCopiesFixture,
) {
    const PUTS: u64 = 6;
    const ROUNDS: u64 = 5;
    let [partition, _] = fixture.partitions();
    let mut instances = Vec::new();
    for _ in 0..PUTS {
        instances.push(fixture.open().await);
    }
    for round in 1..=ROUNDS {
        let mut racing = tokio::task::JoinSet::new();
        for (copies, number) in instances.clone().into_iter().zip(0..) {
            let through = round * PUTS + number;
            // The one ahead is the smallest, so that it is there before the others are.
            let bytes = [0].repeat(256 * 1024 * usize::try_from(PUTS - number).expect("few"));
            racing.spawn(async move {
                let work = Work::new();
                work.put(&*copies, partition, through, &bytes).await;
            });
        }
        while let Some(put) = racing.join_next().await {
            put.expect("no panic");
        }
        let got = Work::new().get(&*instances[0], partition).await;
        let (through, bytes) = got.expect("a copy");
        assert_eq!(through, round * PUTS + PUTS - 1);
        assert_eq!(bytes.len(), 256 * 1024);
    }
}

/// Clause 2.
pub async fn clause_02_newest_is_zero_before_the_first_also_for_a_new_instance(
    fixture: &impl ViewCopiesFixture,
) {
    let copies = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let work = Work::new();
    assert_eq!(newest(&*copies, partition).await, 0);
    assert_eq!(work.get(&*copies, partition).await, None);
    work.put(&*copies, partition, 7, b"seven").await;
    drop(copies);
    assert_eq!(newest(&*fixture.open().await, partition).await, 7);
}

/// Clause 3.
pub async fn clause_03_get_writes_what_was_put_and_answers_its_position(
    fixture: &impl ViewCopiesFixture,
) {
    let copies = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let work = Work::new();
    for (through, bytes) in [
        (1, vec![0]),
        (2, (0..=255).collect()),
        (3, large(3)),
        (4, Vec::new()),
        (5, vec![7; 256 * 1024]),
    ] {
        work.put(&*copies, partition, through, &bytes).await;
        for copies in [&copies, &fixture.open().await] {
            let got = work.get(&**copies, partition).await;
            assert!(got == Some((through, bytes.clone())), "at {through}");
        }
    }
    // Nothing is overwritten.
    let there = work.path("there");
    fs::write(&there, b"mine").expect("written");
    let refused = copies.get(partition, &there).await;
    assert!(
        matches!(refused, Err(ViewCopyError::File(_))),
        "{refused:?}"
    );
    assert_eq!(fs::read(&there).expect("read"), b"mine");
}

/// Clause 3.
pub async fn clause_03_a_damaged_copy_is_corrupt_and_leaves_no_file(
    fixture: &impl ViewCopiesFixture,
) {
    let copies = fixture.open().await;
    let [partition, other] = fixture.partitions();
    let work = Work::new();
    work.put(&*copies, partition, 3, &large(3)).await;
    work.put(&*copies, other, 4, b"intact").await;
    fixture.damage(partition).await;
    let file = work.path("damaged");
    let refused = copies.get(partition, &file).await;
    assert!(
        matches!(refused, Err(ViewCopyError::Corrupt { partition: named }) if named == partition),
        "{refused:?}"
    );
    assert_eq!(work.files(), ["put"], "no file is left");
    let got = work.get(&*copies, other).await;
    assert_eq!(got, Some((4, b"intact".to_vec())));
    // The next one is as good as any.
    work.put(&*copies, partition, 5, b"five").await;
    let got = work.get(&*copies, partition).await;
    assert_eq!(got, Some((5, b"five".to_vec())));
}

/// Clause 4.
pub async fn clause_04_partitions_are_independent(fixture: &impl ViewCopiesFixture) {
    let copies = fixture.open().await;
    let [one, two] = fixture.partitions();
    let work = Work::new();
    work.put(&*copies, one, 9, b"one").await;
    assert_eq!(newest(&*copies, two).await, 0);
    assert_eq!(work.get(&*copies, two).await, None);
    for through in 1..5 {
        work.put(&*copies, two, through, b"two").await;
    }
    assert_eq!(newest(&*copies, one).await, 9);
    assert_eq!(work.get(&*copies, one).await, Some((9, b"one".to_vec())));
    assert_eq!(work.get(&*copies, two).await, Some((4, b"two".to_vec())));
}

/// Clause 5.
pub async fn clause_05_a_copy_is_read_while_newer_ones_are_put(fixture: &impl ViewCopiesFixture) {
    const PUTS: u64 = 6;
    let copies = fixture.open().await;
    let reader = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let work = Work::new();
    work.put(&*copies, partition, 1, &large(1)).await;
    let reading = tokio::spawn(async move {
        let work = Work::new();
        let mut last = 0;
        while last < PUTS {
            let (through, bytes) = work.get(&*reader, partition).await.expect("a copy");
            assert!(bytes == large(through), "the copy of {through} is whole");
            assert!(through >= last, "{through} after {last}");
            last = through;
        }
    });
    for through in 2..=PUTS {
        work.put(&*copies, partition, through, &large(through))
            .await;
    }
    reading.await.expect("every copy was read");
}

/// Clause 5.
pub async fn clause_05_older_copies_are_removed(fixture: &impl ViewCopiesFixture) {
    const PUTS: u64 = 10;
    let copies = fixture.open().await;
    let [partition, other] = fixture.partitions();
    let work = Work::new();
    work.put(&*copies, other, 1, b"beside").await;
    for through in 1..=PUTS {
        work.put(&*copies, partition, through, b"some").await;
    }
    let removed = async {
        while fixture.stored(partition).await > KEPT_MAX {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(REMOVED_WITHIN, removed).await.is_err() {
        let stored = fixture.stored(partition).await;
        panic!("{stored} copies are stored after {PUTS} puts");
    }
    assert!(fixture.stored(partition).await >= 1);
    assert_eq!(fixture.stored(other).await, 1);
    assert_eq!(
        work.get(&*copies, partition).await,
        Some((PUTS, b"some".to_vec()))
    );
}

/// A directory to put from and to get into.
struct Work(TempDir);

impl Work {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn put(&self, copies: &dyn ViewCopies, partition: PartitionId, through: u64, of: &[u8]) {
        let file = self.path("put");
        fs::write(&file, of).expect("written");
        copies
            .put(partition, Position(through), &file)
            .await
            .expect("put");
    }

    async fn get(&self, copies: &dyn ViewCopies, partition: PartitionId) -> Option<(u64, Vec<u8>)> {
        let file = self.path("got");
        let through = copies.get(partition, &file).await.expect("get");
        let Some(through) = through else {
            assert!(!file.exists(), "there is no copy, and a file of it");
            return None;
        };
        let bytes = fs::read(&file).expect("a file");
        fs::remove_file(&file).expect("removed");
        Some((through.0, bytes))
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a directory");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

async fn newest(copies: &dyn ViewCopies, partition: PartitionId) -> u64 {
    copies.newest(partition).await.expect("newest").0
}

/// Bytes that differ from copy to copy, and from place to place.
fn large(seed: u64) -> Vec<u8> {
    (0..LARGE_BYTES as u64)
        .map(|at| (at.wrapping_mul(31).wrapping_add(at >> 8).wrapping_add(seed) & 0xFF) as u8)
        .collect()
}
