//! Every kind of damage: what is kept, what is set aside, and that the journal is whole afterwards.

use bytes::Bytes;
use eventflow_adapter_nats::{
    NatsConfig, NatsJournal, NatsLeadership, NatsQuarantineError, NatsQuarantined, NatsViewCopies,
};
use eventflow_domain::{Epoch, NodeName, Position, record::Chain};
use eventflow_ports::{AppendError, Journal, Leadership, ViewCopies};

use super::{
    fixture::{P, RECORDS, Site, Stored, next},
    support::Servers,
};

/// What must hold after every quarantine.
async fn is_made_again(site: &Site, done: &NatsQuarantined, kept: &[Bytes], before: u64) {
    let records = site.whole().await;
    assert_eq!(records[..kept.len()], *kept, "what was good is kept");
    assert_eq!(
        records.len() as u64,
        before + 1,
        "it ends behind where it ended before"
    );
    let journal = site.journal().await;
    for expected in 0..=before {
        let late = journal.append(P, Position(expected), "late".into()).await;
        assert!(
            matches!(late, Err(AppendError::Conflict)),
            "a writer from before wrote behind {expected}: {late:?}"
        );
    }
    // A successor goes on.
    let mut chain = Chain::at(P, records.last().expect("a record")).expect("a record");
    let epoch = chain.epoch.next();
    let record = next(&mut chain, epoch);
    let appended = journal.append(P, Position(before + 1), record).await;
    appended.expect("it can be written to");
    site.whole().await;

    let listed = NatsQuarantined::list(&site.reader().await).await;
    assert_eq!(listed.expect("a list"), std::slice::from_ref(done));
    assert_eq!(
        (done.by.as_str(), done.reason.as_str()),
        ("ada@host", "a test")
    );
    let context = site.context();
    let left = context.get_stream("EVENTFLOW_REMADE_1").await;
    assert!(left.is_err(), "the copy is left");
}

/// The payloads that were set aside, and their positions.
async fn set_aside(site: &Site, done: &NatsQuarantined) -> Vec<(u64, String)> {
    use tokio::io::AsyncReadExt as _;
    let (bucket, name) = done.object.split_once('/').expect("bucket and name");
    let bucket = site
        .context()
        .get_object_store(bucket)
        .await
        .expect("a bucket");
    let mut text = String::new();
    let mut object = bucket.get(name).await.expect("an object");
    object.read_to_string(&mut text).await.expect("read");
    text.lines()
        .map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).expect("a JSON object");
            assert_eq!(message["subject"], "eventflow.journal.1");
            let position = message["position"].as_u64().expect("a position");
            (
                position,
                message["payload"].as_str().expect("a payload").to_owned(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_message_at_the_end_is_taken_out_while_nodes_run() {
    let site = Site::start(Servers::single()).await;
    let running = running_node(&site).await;
    site.stranger("hello").await;
    let done = site.quarantine(RECORDS + 1).await.expect("set aside");
    assert!(!done.loses);
    assert_eq!((done.first, done.records), (Position(RECORDS + 1), 1));
    assert_eq!(
        set_aside(&site, &done).await,
        [(RECORDS + 1, "aGVsbG8=".to_owned())]
    );
    is_made_again(&site, &done, &site.records, RECORDS + 1).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_message_in_the_midst_costs_nothing() {
    let site = Site::start(Servers::single()).await;
    let mut messages = site.with(1, Stored::Record(site.records[0].clone()));
    messages.insert(5, Stored::Record("hello".into()));
    site.store_instead(&messages).await;
    let done = site.quarantine(6).await.expect("set aside");
    assert!(!done.loses);
    assert_eq!((done.first, done.records), (Position(6), 1));
    is_made_again(&site, &done, &site.records, RECORDS + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_which_nothing_was_costs_nothing() {
    let site = Site::start(Servers::single()).await;
    let mut messages = site.with(1, Stored::Record(site.records[0].clone()));
    messages.insert(5, Stored::Hole);
    site.store_instead(&messages).await;
    let done = site.quarantine(6).await.expect("set aside");
    assert!(!done.loses);
    assert_eq!((done.first, done.records), (Position(6), 0));
    is_made_again(&site, &done, &site.records, RECORDS + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_hole_on_everything_is_set_aside_on_three_servers() {
    let site = Site::start(Servers::replicated()).await;
    site.store_instead(&site.with(6, Stored::Hole)).await;
    let done = site.quarantine(6).await.expect("set aside");
    assert!(done.loses);
    assert_eq!((done.first, done.records), (Position(6), RECORDS - 6));
    is_made_again(&site, &done, &site.records[..5], RECORDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_flipped_bit_on_everything_is_set_aside_and_views_are_forgotten() {
    let mut site = Site::start(Servers::synced()).await;
    let copies = NatsViewCopies::open(&site.client, &site.config)
        .await
        .expect("a bucket");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "a view").expect("written");
    copies
        .put(P, Position(RECORDS), file.path())
        .await
        .expect("put");

    let mut flipped = site.records[3].to_vec();
    *flipped.last_mut().expect("it has bytes") ^= 1;
    site.store_instead(&site.with(4, Stored::Record(flipped.into())))
        .await;
    let earlier = site.quarantine(7).await;
    assert!(
        matches!(
            earlier,
            Err(NatsQuarantineError::Earlier {
                bad: Position(4),
                ..
            })
        ),
        "{earlier:?}"
    );
    let done = site.quarantine(4).await.expect("set aside");
    assert!(done.loses);
    assert_eq!((done.first, done.records), (Position(4), RECORDS - 3));
    let aside = set_aside(&site, &done).await;
    let positions: Vec<u64> = aside.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, (4..=RECORDS).collect::<Vec<_>>());
    is_made_again(&site, &done, &site.records[..3], RECORDS).await;
    assert_eq!(copies.newest(P).await.expect("asked"), Position(0));
    // It is on the disk.
    let records = site.whole().await;
    site.servers.server().restart();
    site.client = site.servers.connect().await;
    assert_eq!(site.whole().await, records);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_an_older_epoch_is_taken_out() {
    let site = Site::start(Servers::single()).await;
    // What the writer of the first epoch would have written had it not been fenced.
    let mut fork = Chain::start(P);
    for record in &site.records[..4] {
        fork.follow(record).expect("it continues");
    }
    let late = next(&mut fork, Epoch(1));
    let mut messages = site.with(1, Stored::Record(site.records[0].clone()));
    messages.insert(7, Stored::Record(late));
    site.store_instead(&messages).await;
    let done = site.quarantine(8).await.expect("set aside");
    assert!(!done.loses, "nobody was told of it");
    assert_eq!((done.first, done.records), (Position(8), 1));
    is_made_again(&site, &done, &site.records, RECORDS + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_record_is_set_aside_where_an_operator_says_so() {
    let site = Site::start(Servers::single()).await;
    let done = site.quarantine(10).await.expect("set aside");
    assert!(done.loses);
    assert_eq!((done.first, done.records), (Position(10), RECORDS - 9));
    is_made_again(&site, &done, &site.records[..9], RECORDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_nodes_run_that_know_it() {
    let site = Site::start(Servers::single()).await;
    let running = running_node(&site).await;
    let refused = site.quarantine(10).await;
    let Err(NatsQuarantineError::NodesLive { nodes }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(nodes, "alive");
    assert_eq!(site.whole().await, site.records, "it is as it was");
    let journal = site.journal().await;
    let mut chain = Chain::at(P, &site.records[11]).expect("a record");
    let epoch = chain.epoch.next();
    let record = next(&mut chain, epoch);
    let appended = journal.append(P, Position(RECORDS), record).await;
    appended.expect("it is open again");
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_nothing_nothing_is_done() {
    let site = Site::start(Servers::single()).await;
    let refused = site.quarantine(RECORDS + 1).await;
    assert!(
        matches!(refused, Err(NatsQuarantineError::Nothing { .. })),
        "{refused:?}"
    );
    assert_eq!(site.whole().await, site.records);
    let nowhere = NatsConfig {
        prefix: "nowhere".to_owned(),
        ..site.config.clone()
    };
    let refused = eventflow_adapter_nats::NatsReader::open(&site.client, &nowhere.prefix).await;
    let refused = refused.expect_err("no store").to_string();
    assert!(
        refused.contains("no store with the prefix `nowhere`"),
        "{refused}"
    );
    let opened = NatsJournal::open(&site.client, site.config.clone()).await;
    opened.expect("it is as it was");
}

/// A node that says that it is alive, as often as nodes do.
async fn running_node(site: &Site) -> tokio::task::JoinHandle<()> {
    let leadership = NatsLeadership::open(&site.client, &site.config)
        .await
        .expect("a bucket");
    let alive = NodeName::parse("alive").expect("a name");
    leadership.announce(&alive).await.expect("announced");
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            // The server may be gone before this ends.
            let _ = leadership.announce(&alive).await;
        }
    })
}
