//! The clauses of `Journal`.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{AppendError, Journal, JournalEntry, ReadLimit};

/// How often a spurious `Unavailable` (an election, a reconnect) is tried again before it counts as a failure.
const RETRIES_MAX: usize = 10;
/// Between two of those.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// One store of journals, empty when the fixture is made.
#[async_trait]
pub trait JournalFixture: Send + Sync {
    /// A new instance on this fixture's store; an earlier one may still be in use.
    async fn open(&self) -> Arc<dyn Journal>;
    /// The largest record that the store takes, bytes. Records of this size are written: keep it at some megabytes.
    fn record_bytes_max(&self) -> usize;
    /// Two partitions of the store.
    fn partitions(&self) -> [PartitionId; 2] {
        [PartitionId(0), PartitionId(1)]
    }
}

/// One test per clause of `Journal`, for the fixture that the closure makes.
#[macro_export]
macro_rules! journal_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            journal,
            [
                clause_01_an_append_at_the_head_is_written_at_the_next_position,
                clause_02_an_append_anywhere_else_conflicts_and_writes_nothing,
                clause_03_positions_start_at_one_without_gap,
                clause_04_appends_are_carried_out_in_the_order_of_the_calls,
                clause_05_what_builds_on_a_failed_append_fails,
                clause_05_nothing_lands_behind_another_writers_record,
                clause_06_records_are_read_back_byte_for_byte,
                clause_07_read_gives_records_in_order_within_the_limit,
                clause_08_head_sees_every_acknowledged_append,
                clause_09_partitions_are_independent,
                clause_10_a_record_above_the_limit_is_too_large,
                clause_11_a_retry_writes_at_most_once,
                clause_12_a_dropped_append_is_neither_undone_nor_in_the_way,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_an_append_at_the_head_is_written_at_the_next_position(
    fixture: &impl JournalFixture,
) {
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();
    for last in 0..3 {
        let position = append(&*journal, partition, last, text(last)).await;
        assert_eq!(position, Position(last + 1));
    }
    assert_eq!(
        all(&*journal, partition).await,
        entries([text(0), text(1), text(2)])
    );
}

/// Clause 2.
pub async fn clause_02_an_append_anywhere_else_conflicts_and_writes_nothing(
    fixture: &impl JournalFixture,
) {
    let journal = fixture.open().await;
    let other = fixture.open().await;
    let [partition, _] = fixture.partitions();

    conflicts(&*journal, partition, 1).await;
    append(&*journal, partition, 0, text(0)).await;
    append(&*journal, partition, 1, text(1)).await;
    for stale_or_ahead in [0, 1, 3, 100] {
        conflicts(&*journal, partition, stale_or_ahead).await;
        conflicts(&*other, partition, stale_or_ahead).await;
    }
    assert_eq!(all(&*journal, partition).await, entries([text(0), text(1)]));

    append(&*other, partition, 2, text(2)).await;
    conflicts(&*journal, partition, 2).await;
    append(&*journal, partition, 3, text(3)).await;
    assert_eq!(
        all(&*other, partition).await,
        entries([text(0), text(1), text(2), text(3)])
    );
}

/// Clause 3.
pub async fn clause_03_positions_start_at_one_without_gap(fixture: &impl JournalFixture) {
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let too_large = Bytes::from(vec![7; fixture.record_bytes_max() + 1]);
    for last in 0..5 {
        // What is refused in between must not use up a position.
        conflicts(&*journal, partition, last + 1).await;
        let refused = journal
            .append(partition, Position(last), too_large.clone())
            .await;
        assert!(refused.is_err(), "{refused:?}");
        append(&*journal, partition, last, text(last)).await;
    }
    let positions: Vec<_> = all(&*fixture.open().await, partition)
        .await
        .iter()
        .map(|entry| entry.position.0)
        .collect();
    assert_eq!(positions, [1, 2, 3, 4, 5]);
}

/// Clause 4.
pub async fn clause_04_appends_are_carried_out_in_the_order_of_the_calls(
    fixture: &impl JournalFixture,
) {
    const IN_FLIGHT: u64 = 8;
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();

    let mut appending: Vec<_> = (0..IN_FLIGHT)
        .map(|last| (last, journal.append(partition, Position(last), text(last))))
        .collect();
    // Polled from the last to the first.
    while let Some((last, append)) = appending.pop() {
        assert_eq!(append.await.expect("appended"), Position(last + 1));
    }
    assert_eq!(
        all(&*journal, partition).await,
        entries((0..IN_FLIGHT).map(text))
    );
}

/// Clause 5.
pub async fn clause_05_what_builds_on_a_failed_append_fails(fixture: &impl JournalFixture) {
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();
    append(&*journal, partition, 0, text(0)).await;

    let too_large = Bytes::from(vec![7; fixture.record_bytes_max() + 1]);
    let first = journal.append(partition, Position(1), too_large);
    let second = journal.append(partition, Position(2), text(2));
    let third = journal.append(partition, Position(3), text(3));
    assert!(third.await.is_err(), "built on what built on a failure");
    assert!(second.await.is_err(), "built on a failure");
    assert!(first.await.is_err(), "larger than the limit");

    // The same, where the first one is fenced.
    let fenced = journal.append(partition, Position(0), text(1));
    let behind = [1, 2, 3].map(|last| journal.append(partition, Position(last + 1), text(last)));
    assert!(fenced.await.is_err(), "a stale position");
    for append in behind {
        assert!(append.await.is_err(), "built on a fenced append");
    }
    assert_eq!(all(&*journal, partition).await, entries([text(0)]));
    append(&*journal, partition, 1, text(1)).await;
}

/// Clause 5, where the place that the second append names is taken by the time: by another writer's record, put where
/// the first one was to be.
pub async fn clause_05_nothing_lands_behind_another_writers_record(fixture: &impl JournalFixture) {
    /// Appends under way, each building on the one before.
    const IN_FLIGHT: u64 = 4;
    let old = fixture.open().await;
    let new = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let mut log = vec![text(0)];
    append(&*old, partition, 0, text(0)).await;

    // With so many records of the other writer, each of the appends in turn names the end of the log.
    for strangers in 1..=IN_FLIGHT {
        for is_first_told in [true, false] {
            let head = log.len() as u64;
            for last in head..head + strangers {
                append(&*new, partition, last, text(100 + last)).await;
                log.push(text(100 + last));
            }
            let mut under_way: VecDeque<_> = (head..head + IN_FLIGHT)
                .map(|last| old.append(partition, Position(last), text(last)))
                .collect();
            if is_first_told {
                // From the last to the first, so that nobody knows of the failure before it has failed as well.
                under_way.make_contiguous().reverse();
            } else {
                // Nobody asks what became of it.
                drop(under_way.pop_front());
            }
            for append in under_way {
                let refused = append.await;
                assert!(refused.is_err(), "behind {strangers} records of another");
            }
            assert_eq!(all(&*old, partition).await, entries(log.clone()));

            // Who was told may go on behind the other's record.
            let head = log.len() as u64;
            append(&*old, partition, head, text(head)).await;
            log.push(text(head));
        }
    }
}

/// Clause 6.
pub async fn clause_06_records_are_read_back_byte_for_byte(fixture: &impl JournalFixture) {
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let records = [
        Bytes::from_static(b"\0"),
        (0..=255).collect(),
        Bytes::from_static("größer \u{1F980}\r\n\0 ".as_bytes()),
        (0..fixture.record_bytes_max())
            .map(|index| u8::try_from(index % 251).expect("below 251"))
            .collect(),
    ];
    for (last, record) in (0..).zip(&records) {
        append(&*journal, partition, last, record.clone()).await;
    }
    assert!(all(&*journal, partition).await == entries(records.clone()));
    assert!(all(&*fixture.open().await, partition).await == entries(records.clone()));
    drop(journal);
    assert!(all(&*fixture.open().await, partition).await == entries(records));
}

/// Clause 7.
pub async fn clause_07_read_gives_records_in_order_within_the_limit(fixture: &impl JournalFixture) {
    const RECORD_BYTES: usize = 100;
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let record = |last: u64| Bytes::from(vec![u8::try_from(last).expect("few"); RECORD_BYTES]);
    for last in 0..7 {
        append(&*journal, partition, last, record(last)).await;
    }
    let expected = entries((0..7).map(record));
    for (records, bytes, most) in [
        (1, usize::MAX, 1),
        (3, usize::MAX, 3),
        (100, usize::MAX, 7),
        (100, 0, 1),
        (100, 1, 1),
        // The second record is begun below the limit, the third is not.
        (100, RECORD_BYTES + 1, 2),
        (2, RECORD_BYTES * 5, 2),
    ] {
        let limit = ReadLimit { records, bytes };
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let after = Position(seen.len() as u64);
            let page = journal.read(partition, after, limit).await.expect("read");
            assert!(
                (1..=most).contains(&page.len()),
                "{limit:?} gave {} records after {after}",
                page.len()
            );
            seen.extend(page);
        }
        assert_eq!(seen, expected, "{limit:?}");
    }
    for after in [7, 8, 1000] {
        let page = journal
            .read(partition, Position(after), ReadLimit::REPLAY)
            .await
            .expect("read");
        assert_eq!(page, [], "beyond the end");
    }
}

/// Clause 8.
pub async fn clause_08_head_sees_every_acknowledged_append(fixture: &impl JournalFixture) {
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let head = async |journal: &dyn Journal| journal.head(partition).await.expect("head");
    assert_eq!(head(&*journal).await, Position(0), "of an empty partition");
    let other = fixture.open().await;
    for last in 0..20 {
        append(&*journal, partition, last, text(last)).await;
        assert_eq!(head(&*journal).await, Position(last + 1));
        assert_eq!(head(&*other).await, Position(last + 1), "another instance");
    }
    assert_eq!(head(&*fixture.open().await).await, Position(20));
}

/// Clause 9.
pub async fn clause_09_partitions_are_independent(fixture: &impl JournalFixture) {
    let journal = fixture.open().await;
    let [one, two] = fixture.partitions();
    append(&*journal, one, 0, text(10)).await;
    append(&*journal, one, 1, text(11)).await;
    assert_eq!(journal.head(two).await.expect("head"), Position(0));

    // One after the other, without waiting: the conflict of `one` must not touch `two`.
    let in_one = journal.append(one, Position(0), text(12));
    let in_two = journal.append(two, Position(0), text(20));
    assert!(matches!(in_one.await, Err(AppendError::Conflict)));
    assert_eq!(in_two.await.expect("appended"), Position(1));

    assert_eq!(all(&*journal, one).await, entries([text(10), text(11)]));
    assert_eq!(all(&*journal, two).await, entries([text(20)]));
}

/// Clause 10.
pub async fn clause_10_a_record_above_the_limit_is_too_large(fixture: &impl JournalFixture) {
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let max = fixture.record_bytes_max();
    let refused = journal
        .append(partition, Position(0), Bytes::from(vec![1; max + 1]))
        .await;
    assert!(
        matches!(refused, Err(AppendError::TooLarge { limit }) if limit == max),
        "{refused:?}"
    );
    assert_eq!(journal.head(partition).await.expect("head"), Position(0));
    append(&*journal, partition, 0, Bytes::from(vec![2; max])).await;
    assert_eq!(journal.head(partition).await.expect("head"), Position(1));
}

/// Clause 11.
pub async fn clause_11_a_retry_writes_at_most_once(fixture: &impl JournalFixture) {
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();

    // Acknowledged, but the answer was lost on the way.
    append(&*journal, partition, 0, text(0)).await;
    let retried = journal.append(partition, Position(0), text(0)).await;
    assert!(matches!(retried, Err(AppendError::Conflict)), "{retried:?}");

    // Nobody knows whether it was carried out, the retry comes from the same instance or from another.
    drop(journal.append(partition, Position(1), text(1)));
    retry(&*journal, partition, 1).await;
    drop(journal.append(partition, Position(2), text(2)));
    retry(&*fixture.open().await, partition, 2).await;

    assert_eq!(
        all(&*journal, partition).await,
        entries([text(0), text(1), text(2)])
    );
}

async fn retry(journal: &dyn Journal, partition: PartitionId, last: u64) {
    match journal.append(partition, Position(last), text(last)).await {
        Ok(position) => assert_eq!(position, Position(last + 1)),
        Err(AppendError::Conflict) => {}
        Err(other) => panic!("a retry succeeds or conflicts, not: {other}"),
    }
}

/// Clause 12.
pub async fn clause_12_a_dropped_append_is_neither_undone_nor_in_the_way(
    fixture: &impl JournalFixture,
) {
    let journal = fixture.open().await;
    let [partition, _] = fixture.partitions();
    for pair in 0..5 {
        let last = pair * 2;
        drop(journal.append(partition, Position(last), text(last)));
        let behind = journal
            .append(partition, Position(last + 1), text(last + 1))
            .await;
        assert_eq!(behind.expect("appended"), Position(last + 2));
    }
    assert_eq!(all(&*journal, partition).await, entries((0..10).map(text)));
}

/// Appends where nobody else writes, as a writer does it: `Unavailable` is *maybe*, so read back and try again.
async fn append(
    journal: &dyn Journal,
    partition: PartitionId,
    last: u64,
    record: Bytes,
) -> Position {
    let expected = Position(last);
    for _ in 0..RETRIES_MAX {
        match journal.append(partition, expected, record.clone()).await {
            Ok(position) => return position,
            Err(AppendError::Unavailable(_)) => {
                tokio::time::sleep(RETRY_PAUSE).await;
                let next = journal.read(partition, expected, ReadLimit::ONE).await;
                match next.as_deref() {
                    Ok([entry, ..]) if entry.record == record => return entry.position,
                    Ok(_) | Err(_) => {}
                }
            }
            Err(error) => panic!("an append after {expected} failed: {error}"),
        }
    }
    panic!("the journal was unavailable {RETRIES_MAX} times in a row")
}

async fn conflicts(journal: &dyn Journal, partition: PartitionId, last: u64) {
    let refused = journal.append(partition, Position(last), text(999)).await;
    assert!(
        matches!(refused, Err(AppendError::Conflict)),
        "an append after {last} must conflict: {refused:?}"
    );
}

async fn all(journal: &dyn Journal, partition: PartitionId) -> Vec<JournalEntry> {
    let mut seen: Vec<JournalEntry> = Vec::new();
    loop {
        let after = seen.last().map_or(Position(0), |entry| entry.position);
        let page = journal
            .read(partition, after, ReadLimit::REPLAY)
            .await
            .expect("read");
        if page.is_empty() {
            return seen;
        }
        seen.extend(page);
    }
}

fn entries(records: impl IntoIterator<Item = Bytes>) -> Vec<JournalEntry> {
    (1..)
        .zip(records)
        .map(|(position, record)| JournalEntry {
            position: Position(position),
            record,
        })
        .collect()
}

fn text(number: u64) -> Bytes {
    Bytes::from(format!("record {number}"))
}
