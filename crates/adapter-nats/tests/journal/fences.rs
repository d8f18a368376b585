//! Two writers of one partition: one of them goes on, the other is told so, and no record of either is mixed in.

use eventflow_adapter_nats::NatsJournal;
use eventflow_domain::Position;
use eventflow_ports::{AppendError, Journal};

use super::store::{P, Store, all, record};

/// Appends that a writer has in flight.
const IN_FLIGHT: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_writer_fences_all_that_the_old_one_has_in_flight() {
    let store = Store::single();
    let (old, new) = (store.journal().await, store.journal().await);
    for number in 0..4 {
        old.append(P, Position(number), record("old", number))
            .await
            .expect("appended");
    }

    let head = new.head(P).await.expect("head");
    new.append(P, head, record("new", 0))
        .await
        .expect("appended");

    for append in pipelined(&old, "old", head.0) {
        assert!(matches!(append.await, Err(AppendError::Conflict)));
    }
    let mut expected: Vec<_> = (0..4).map(|number| record("old", number)).collect();
    expected.push(record("new", 0));
    assert_eq!(all(&new).await, expected);
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
    let mut log = Vec::new();
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

/// A pipeline of appends that build on each other.
fn pipelined(journal: &NatsJournal, writer: &str, from: u64) -> Vec<eventflow_ports::Appending> {
    (from..from + IN_FLIGHT)
        .map(|number| journal.append(P, Position(number), record(writer, number)))
        .collect()
}
