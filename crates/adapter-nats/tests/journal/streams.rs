//! The streams that a journal finds or makes.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    stream::{Config, StorageType},
};
use eventflow_adapter_nats::{Difference, NatsConfig, NatsJournal, OpenError};
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{AppendError, Journal, ReadError, ReadLimit};

use super::store::{P, Store, all, record};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_differs_is_named_setting_by_setting_and_left_alone() {
    let store = Store::single();
    let client = store.connect().await;
    let theirs = Config {
        name: "EVENTFLOW_JOURNAL_1".to_owned(),
        subjects: vec!["eventflow.journal.1".to_owned()],
        storage: StorageType::Memory,
        max_messages: 10,
        ..Config::default()
    };
    let context = jetstream::new(client.clone());
    let before = context.create_stream(&theirs).await.expect("created");

    let refused = NatsJournal::open(&client, store.config.clone()).await;
    let Err(OpenError::Different {
        stream,
        differences,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(stream, "EVENTFLOW_JOURNAL_1");
    let settings: Vec<_> = differences.iter().map(|found| found.setting).collect();
    assert_eq!(
        settings,
        [
            "storage",
            "discard",
            "max_msgs",
            "deny_delete",
            "deny_purge"
        ]
    );
    assert_eq!(
        differences[0],
        Difference {
            setting: "storage",
            needed: "File".to_owned(),
            found: "Memory".to_owned(),
        }
    );
    let after = context.get_stream(stream).await.expect("still there");
    assert_eq!(
        after.cached_info().config,
        before.cached_info().config,
        "overwritten"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_refuses_to_forget() {
    let store = Store::single();
    let journal = store.journal().await;
    journal
        .append(P, Position(0), record("w", 0))
        .await
        .expect("appended");
    let stream = store.stream().await;
    assert!(stream.delete_message(1).await.is_err());
    assert!(stream.purge().await.is_err());
    assert_eq!(all(&journal).await, [record("w", 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_stops_the_reader_and_has_a_name() {
    let store = Store::single();
    let context = jetstream::new(store.connect().await);
    // Somebody made the stream without its protection, removed a record and put the protection on.
    let journal = store.journal().await;
    let needed = store.stream().await.cached_info().config.clone();
    drop(journal);
    context.delete_stream(&needed.name).await.expect("deleted");
    let unprotected = Config {
        deny_delete: false,
        ..needed.clone()
    };
    let stream = context.create_stream(&unprotected).await.expect("created");
    let journal_config = store.config.clone();
    for number in 0..4 {
        context
            .publish("eventflow.journal.0", record("w", number))
            .await
            .expect("published")
            .await
            .expect("acknowledged");
    }
    stream.delete_message(3).await.expect("removed");
    context.update_stream(&needed).await.expect("protected");

    let journal = NatsJournal::open(&store.connect().await, journal_config)
        .await
        .expect("opened");
    let whole = journal
        .read(
            P,
            Position(0),
            ReadLimit {
                records: 2,
                ..ReadLimit::REPLAY
            },
        )
        .await;
    assert_eq!(whole.expect("before the hole").len(), 2);
    let holed = journal.read(P, Position(0), ReadLimit::REPLAY).await;
    let Err(ReadError::Fatal(reason)) = holed else {
        panic!("{holed:?}");
    };
    assert!(reason.to_string().contains("position 3"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_refuses_and_keeps_what_it_has() {
    let store = Store::single();
    drop(store.journal().await);
    let context = jetstream::new(store.connect().await);
    let bounded = Config {
        max_bytes: 500,
        ..store.stream().await.cached_info().config.clone()
    };
    context.update_stream(&bounded).await.expect("bounded");

    let journal = store.journal().await;
    journal
        .append(P, Position(0), record("w", 0))
        .await
        .expect("appended");
    let full = journal.append(P, Position(1), vec![0; 500].into()).await;
    assert!(matches!(full, Err(AppendError::Unavailable(_))), "{full:?}");
    assert_eq!(all(&journal).await, [record("w", 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_keep_journals_apart() {
    let store = Store::single();
    let client = store.connect().await;
    let journal = async |prefix: &str| {
        let config = NatsConfig {
            prefix: prefix.to_owned(),
            ..store.config.clone()
        };
        NatsJournal::open(&client, config).await
    };
    let (one, two) = (journal("one").await, journal("two").await);
    let (one, two) = (one.expect("opened"), two.expect("opened"));
    one.append(P, Position(0), record("one", 0))
        .await
        .expect("appended");
    assert_eq!(two.head(P).await.expect("head"), Position(0));

    for unfit in ["", "a.b", "a b", "*"] {
        let refused = journal(unfit).await;
        assert!(matches!(refused, Err(OpenError::Prefix { .. })), "{unfit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_not_there_is_fatal() {
    let store = Store::single();
    let journal = store.journal().await;
    let nowhere = PartitionId(store.config.partitions);
    let append = journal.append(nowhere, Position(0), record("w", 0)).await;
    assert!(matches!(append, Err(AppendError::Fatal(_))), "{append:?}");
    let head = journal.head(nowhere).await;
    assert!(matches!(head, Err(ReadError::Fatal(_))), "{head:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_opens_nothing() {
    let mut store = Store::single().answering_within(Duration::from_millis(200));
    store.config.open_within = Duration::from_millis(500);
    let client = store.connect().await;
    store.server().freeze();
    let refused = NatsJournal::open(&client, store.config.clone()).await;
    assert!(
        matches!(refused, Err(OpenError::Unavailable { .. })),
        "{refused:?}"
    );
    store.server().thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_copies_than_servers_are_refused() {
    let store = Store::single();
    let config = NatsConfig {
        replicas: 3,
        ..store.config.clone()
    };
    let refused = NatsJournal::open(&store.connect().await, config).await;
    assert!(
        matches!(refused, Err(OpenError::Refused { .. })),
        "{refused:?}"
    );
}
