//! Two writers of one partition: one of them goes on, the other is told so, and no record of either is mixed in.

use std::time::Duration;

use eventflow_adapter_nats::NatsJournal;
use eventflow_domain::Position;
use eventflow_ports::{AppendError, Appending, Journal};

use super::store::{P, Store, all, record, settle};

/// Appends that a writer has in flight.
const IN_FLIGHT: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_writer_on_one_server_fences_all_that_the_old_one_has_in_flight() {
    take_over(&Store::single()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_writer_on_three_servers_fences_all_that_the_old_one_has_in_flight() {
    take_over(&Store::replicated()).await;
}

/// However many records the new writer has appended, none of the old one's pipeline finds its place among them.
async fn take_over(store: &Store) {
    let (old, new) = (store.journal().await, store.journal().await);
    append(&old, "old", 0).await;
    let mut log = vec![record("old", 0)];
    for taken in 1..IN_FLIGHT {
        let head = log.len() as u64;
        for position in head..head + taken {
            append(&new, "new", position).await;
            log.push(record("new", position));
        }
        for append in pipelined(&old, "old", head) {
            let fenced = append.await;
            assert!(
                matches!(fenced, Err(AppendError::Conflict)),
                "{taken} records of the new writer: {fenced:?}"
            );
        }
    }
    assert_eq!(all(&new).await, log);

    // Told of it, the old one may become the new one.
    append(&old, "old", log.len() as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_builds_on_an_append_without_an_answer_is_not_written() {
    let mut store = Store::single().answering_within(Duration::from_millis(300));
    let (old, new) = (store.journal().await, store.journal().await);
    store.server().freeze();
    let unanswered = pipelined(&old, "old", 0);
    for append in unanswered {
        let failed = append.await;
        assert!(
            matches!(failed, Err(AppendError::Unavailable(_))),
            "{failed:?}"
        );
    }
    store.server().thaw();
    // The first one was on its way and is written; of those behind it none is, though their places come free.
    let written = async {
        while all(&new).await != [record("old", 0)] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), written)
        .await
        .expect("the first one is written, and it alone");
    append(&new, "new", 1).await;
    assert_eq!(all(&new).await, [record("old", 0), record("new", 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dropped_a_failed_append_is_told_by_the_next_one() {
    let store = Store::single();
    let (old, new) = (store.journal().await, store.journal().await);
    append(&new, "new", 0).await;
    drop(old.append(P, Position(0), record("old", 0)));
    // It was handed over in the belief that the dropped one would be at 1, where the new writer's record is.
    let behind = old.append(P, Position(1), record("old", 1)).await;
    assert!(matches!(behind, Err(AppendError::Conflict)), "{behind:?}");
    append(&old, "old", 1).await;
    assert_eq!(all(&new).await, [record("new", 0), record("old", 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_too_many_is_refused_with_all_behind_it() {
    const WAITING_MAX: u64 = 64;
    let mut store = Store::single().answering_within(Duration::from_secs(2));
    let journal = store.journal().await;
    store.server().freeze();
    let appends: Vec<_> = (0..WAITING_MAX * 2)
        .map(|number| journal.append(P, Position(number), record("w", number)))
        .collect();
    store.server().thaw();
    let mut written = 0;
    let mut results = Vec::new();
    for append in appends {
        results.push(append.await);
    }
    while results.get(written).is_some_and(Result::is_ok) {
        written += 1;
    }
    // Those that wait, and some that the server took before it froze.
    let total = results.len();
    assert!((total / 2..total).contains(&written), "{written} were held");
    let refused = |result: &_| matches!(result, Err(AppendError::Unavailable(_)));
    assert!(results[written..].iter().all(refused), "{results:?}");
    assert_eq!(all(&journal).await.len(), written);
    append(&journal, "w", written as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_race_on_one_server_leave_one_winner_per_round() {
    race(&Store::single()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_race_on_three_servers_leave_one_winner_per_round() {
    race(&Store::replicated()).await;
}

/// Rounds in which both writers pipeline from the same position at the same moment.
async fn race(store: &Store) {
    const ROUNDS: usize = 20;
    let (one, two) = (store.journal().await, store.journal().await);
    append(&one, "one", 0).await;
    append(&two, "two", 1).await;
    let mut log = vec![record("one", 0), record("two", 1)];
    for _ in 0..ROUNDS {
        let from = log.len() as u64;
        let outcomes = [
            (pipelined(&one, "one", from), "one"),
            (pipelined(&two, "two", from), "two"),
        ];
        let mut winners = Vec::new();
        for (appends, writer) in outcomes {
            let mut results = Vec::new();
            for append in appends {
                results.push(append.await);
            }
            if results.iter().all(Result::is_ok) {
                winners.push(writer);
            } else {
                let fenced = |result: &_| matches!(result, Err(AppendError::Conflict));
                assert!(results.iter().all(fenced), "{writer}: {results:?}");
            }
        }
        let [winner] = winners[..] else {
            panic!("one writer goes on, not {winners:?}");
        };
        log.extend((from..from + IN_FLIGHT).map(|number| record(winner, number)));
    }
    assert_eq!(all(&one).await, log);
}

async fn append(journal: &NatsJournal, writer: &str, number: u64) {
    settle(journal, Position(number), &record(writer, number)).await;
}

/// A pipeline of appends that build on each other.
fn pipelined(journal: &NatsJournal, writer: &str, from: u64) -> Vec<Appending> {
    (from..from + IN_FLIGHT)
        .map(|number| journal.append(P, Position(number), record(writer, number)))
        .collect()
}
