//! Servers that die, freeze and come back in the middle of appends: what was acknowledged is there, what was not is
//! there once or not at all.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use eventflow_adapter_nats::NatsJournal;
use eventflow_domain::Position;
use eventflow_ports::{AppendError, Appending, Journal, ReadError, ReadLimit};

use super::store::{P, Store, all, record, settle};

/// Appends that the writer has in flight.
const IN_FLIGHT: usize = 4;
/// Long enough for a server, short enough for a test that waits for it in vain.
const PATIENCE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_syncs_still_has_what_it_acknowledged() {
    let mut store = Store::synced().answering_within(PATIENCE);
    let writer = Writer::start(store.journal().await);
    for _ in 0..5 {
        writer.has_written_more().await;
        store.server().kill();
        store.server().restart();
    }
    writer.has_written_more().await;
    let written = writer.stop().await;
    assert_eq!(all(&store.journal().await).await, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_without_the_leader_of_its_stream() {
    let mut store = Store::replicated().answering_within(PATIENCE);
    let writer = Writer::start(store.journal().await);
    for _ in 0..2 {
        writer.has_written_more().await;
        let leader = leader(&store).await;
        store.cluster().server(&leader).kill();
        writer.has_written_more().await;
        store.cluster().server(&leader).restart();
        store.cluster().wait_ready();
    }
    let written = writer.stop().await;
    assert_eq!(all(&store.journal().await).await, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged() {
    let mut store = Store::replicated().answering_within(PATIENCE);
    let journal = store.journal().await;
    settle(&journal, Position(0), &record("w", 0)).await;
    for name in ["node-1", "node-2"] {
        store.cluster().server(name).kill();
    }
    let alone = journal.append(P, Position(1), record("w", 1)).await;
    assert!(
        matches!(alone, Err(AppendError::Unavailable(_))),
        "{alone:?}"
    );
    for name in ["node-1", "node-2"] {
        store.cluster().server(name).restart();
    }
    store.cluster().wait_ready();
    let settled = settle(&journal, Position(1), &record("w", 1)).await;
    assert_eq!(settled, Position(2));
    assert_eq!(all(&journal).await, [record("w", 0), record("w", 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_server_was_sent_is_read_back_when_it_goes_on() {
    let mut store = Store::single().answering_within(PATIENCE);
    let journal = store.journal().await;
    store.server().freeze();
    let unanswered = journal.append(P, Position(0), record("w", 0)).await;
    assert!(
        matches!(unanswered, Err(AppendError::Unavailable(_))),
        "{unanswered:?}"
    );
    let unread = journal.read(P, Position(0), ReadLimit::ONE).await;
    assert!(
        matches!(unread, Err(ReadError::Unavailable(_))),
        "{unread:?}"
    );
    store.server().thaw();

    // It was on its way: it is carried out after the writer gave up on it.
    let settled = settle(&journal, Position(0), &record("w", 0)).await;
    assert_eq!(settled, Position(1));
    assert_eq!(all(&journal).await, [record("w", 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_to_a_dead_server_is_written_once_when_it_is_retried() {
    let mut store = Store::synced().answering_within(PATIENCE);
    let journal = store.journal().await;
    store.server().kill();
    let first = journal.append(P, Position(0), record("w", 0));
    let second = journal.append(P, Position(1), record("w", 1));
    for unanswered in [first.await, second.await] {
        assert!(
            matches!(unanswered, Err(AppendError::Unavailable(_))),
            "{unanswered:?}"
        );
    }
    store.server().restart();
    for number in 0..2 {
        let settled = settle(&journal, Position(number), &record("w", number)).await;
        assert_eq!(settled, Position(number + 1));
    }
    assert_eq!(all(&journal).await, [record("w", 0), record("w", 1)]);
}

/// Who leads the stream now.
async fn leader(store: &Store) -> String {
    let stream = store.stream().await;
    let cluster = stream.cached_info().cluster.as_ref();
    cluster
        .and_then(|cluster| cluster.leader.clone())
        .expect("the stream has a leader")
}

/// A task that keeps a few appends in flight, settles those that fail, and knows what was acknowledged.
struct Writer {
    acknowledged: tokio::sync::watch::Receiver<u64>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Vec<Bytes>>,
}

impl Writer {
    fn start(journal: NatsJournal) -> Self {
        let (acknowledge, acknowledged) = tokio::sync::watch::channel(0);
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut written: Vec<Bytes> = Vec::new();
            let mut in_flight: VecDeque<Appending> = VecDeque::new();
            let mut stopping = false;
            loop {
                stopping |= stopped.try_recv().is_ok();
                while in_flight.len() < IN_FLIGHT && !stopping {
                    let number = (written.len() + in_flight.len()) as u64;
                    in_flight.push_back(journal.append(P, Position(number), record("w", number)));
                }
                let Some(append) = in_flight.pop_front() else {
                    return written;
                };
                let number = written.len() as u64;
                match append.await {
                    Ok(position) => assert_eq!(position, Position(number + 1)),
                    Err(AppendError::Unavailable(_)) => {
                        // What is behind it has its answer first, so that nothing is in flight while it is settled.
                        let behind = in_flight.len() as u64;
                        for append in in_flight.drain(..) {
                            append.await.ok();
                        }
                        for number in number..=number + behind {
                            settle(&journal, Position(number), &record("w", number)).await;
                        }
                        written.extend((number..number + behind).map(|number| record("w", number)));
                    }
                    Err(error) => {
                        panic!("append {number} failed where nobody else writes: {error}")
                    }
                }
                written.push(record("w", written.len() as u64));
                acknowledge.send_replace(written.len() as u64);
            }
        });
        Self {
            acknowledged,
            stop,
            task,
        }
    }

    /// Waits for more acknowledgements than there are now.
    async fn has_written_more(&self) {
        const MORE: u64 = 50;
        const WITHIN: Duration = Duration::from_secs(30);
        let mut acknowledged = self.acknowledged.clone();
        let enough = *acknowledged.borrow() + MORE;
        let waiting = acknowledged.wait_for(|acknowledged| *acknowledged >= enough);
        tokio::time::timeout(WITHIN, waiting)
            .await
            .expect("the writer goes on")
            .expect("the writer lives");
    }

    /// Lets what is in flight end, and gives all that was acknowledged.
    async fn stop(self) -> Vec<Bytes> {
        self.stop.send(()).expect("the writer lives");
        self.task.await.expect("the writer ends well")
    }
}
