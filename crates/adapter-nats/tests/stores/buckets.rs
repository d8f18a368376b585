//! The buckets that the stores find or make, and what other tools see in them.

use std::collections::BTreeSet;

use async_nats::jetstream::{
    kv,
    stream::{Config, StorageType},
};
use bytes::Bytes;
use eventflow_adapter_nats::{
    NatsBlobs, NatsConfig, NatsDefinitions, NatsKeys, NatsLeadership, NatsViewCopies, OpenError,
    remove_store,
};
use eventflow_domain::{Digest, Json, NodeName, PartitionId, Position, Tenant, WorkflowId};
use eventflow_ports::{
    BlobStore, Definition, DefinitionStore, KeyStore, Leadership, Mark, Put, ViewCopies,
};
use futures::StreamExt as _;
use tokio::io::AsyncReadExt as _;

use super::fixture::Stores;

const P: PartitionId = PartitionId(0);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_differs_is_named_setting_by_setting_and_left_alone() {
    let stores = Stores::single();
    let client = stores.servers.connect().await;
    let context = stores.context().await;
    let theirs = kv::Config {
        bucket: "EVENTFLOW_LEASES".to_owned(),
        storage: StorageType::Memory,
        history: 5,
        ..kv::Config::default()
    };
    context.create_key_value(theirs).await.expect("created");
    let theirs = Config {
        name: "OBJ_EVENTFLOW_VIEWS".to_owned(),
        subjects: vec!["$O.EVENTFLOW_VIEWS.M.>".to_owned()],
        ..Config::default()
    };
    context.create_stream(theirs).await.expect("created");

    let refused = NatsLeadership::open(&client, &stores.config).await;
    let settings = differing(refused.map(|_| ()), "KV_EVENTFLOW_LEASES");
    assert_eq!(
        settings,
        [
            "storage",
            "max_msgs_per_subject",
            "allow_direct",
            "allow_msg_ttl"
        ]
    );
    let refused = NatsViewCopies::open(&client, &stores.config).await;
    let settings = differing(refused.map(|_| ()), "OBJ_EVENTFLOW_VIEWS");
    assert_eq!(settings, ["subjects", "discard", "allow_rollup_hdrs"]);
    let left = context.get_stream("KV_EVENTFLOW_LEASES").await;
    let left = left.expect("still there").cached_info().config.clone();
    assert_eq!(left.storage, StorageType::Memory, "overwritten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_removed_and_another_one_stays() {
    let stores = Stores::single();
    let client = stores.servers.connect().await;
    let of = |prefix: &str| NatsConfig {
        prefix: prefix.to_owned(),
        ..stores.config.clone()
    };
    for prefix in ["bench", "bench-2"] {
        let config = of(prefix);
        NatsKeys::open(&client, &config).await.expect("opened");
        NatsBlobs::open(&client, &config).await.expect("opened");
    }
    assert_eq!(remove_store(&client, "bench").await.expect("removed"), 2);
    let left: BTreeSet<_> = (stores.context().await.stream_names())
        .map(|name| name.expect("a name"))
        .collect()
        .await;
    let others = ["KV_BENCH-2_KEYS", "OBJ_BENCH-2_BLOBS"];
    assert_eq!(left, BTreeSet::from(others.map(str::to_owned)));
    assert_eq!(remove_store(&client, "bench").await.expect("nothing"), 0);
    assert!(remove_store(&client, "no.prefix").await.is_err());
}

fn differing(refused: Result<(), OpenError>, of: &str) -> Vec<&'static str> {
    let Err(OpenError::Different {
        stream,
        differences,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(stream, of);
    differences.iter().map(|found| found.setting).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_keep_stores_apart() {
    let stores = Stores::single();
    let client = stores.servers.connect().await;
    let of = |prefix: &str| NatsConfig {
        prefix: prefix.to_owned(),
        ..stores.config.clone()
    };
    let one = NatsKeys::open(&client, &of("one")).await.expect("opened");
    let two = NatsKeys::open(&client, &of("two")).await.expect("opened");
    let key = one.get_or_create("token").await.expect("a key");
    assert_ne!(two.get_or_create("token").await.expect("a key"), key);
    let refused = NatsKeys::open(&client, &of("a.b")).await;
    assert!(matches!(refused, Err(OpenError::Prefix { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_and_a_copy_are_objects_like_any_other_tools() {
    let stores = Stores::single();
    let client = stores.servers.connect().await;
    let tenant = Tenant::default_tenant();
    let bytes: Bytes = (0..=255).cycle().take(300_000).collect();
    let digest = Digest::of(&bytes);
    let blobs = NatsBlobs::open(&client, &stores.config)
        .await
        .expect("opened");
    blobs
        .put(&tenant, &digest, bytes.clone())
        .await
        .expect("put");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("copy");
    std::fs::write(&file, &bytes).expect("written");
    let copies = NatsViewCopies::open(&client, &stores.config)
        .await
        .expect("opened");
    copies.put(P, Position(7), &file).await.expect("put");

    let context = stores.context().await;
    for (bucket, name) in [
        ("EVENTFLOW_BLOBS", format!("default/{digest}")),
        ("EVENTFLOW_VIEWS", "partition-0".to_owned()),
    ] {
        let objects = context.get_object_store(bucket).await.expect("a bucket");
        let mut listed = objects.list().await.expect("listed");
        let first = listed.next().await.expect("one").expect("listed");
        assert_eq!(first.name, name);
        // The client's own reader checks the digest.
        let mut read = Vec::new();
        let mut object = objects.get(&name).await.expect("an object");
        object.read_to_end(&mut read).await.expect("read");
        assert!(read == bytes, "{name}");
    }
}

/// What a writer leaves behind that dies before it points at what it has written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_writer_left_of_a_copy_goes_with_the_older_ones() {
    let stores = Stores::single();
    let client = stores.servers.connect().await;
    let copies = NatsViewCopies::open(&client, &stores.config)
        .await
        .expect("opened");
    let context = stores.context().await;
    let left = "$O.EVENTFLOW_VIEWS.C.0.2.dead";
    let publish = context.publish(left, "half of it".into()).await;
    publish.expect("published").await.expect("acknowledged");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("copy");
    std::fs::write(&file, b"whole").expect("written");
    for through in [1, 3, 4, 5] {
        copies.put(P, Position(through), &file).await.expect("put");
    }
    let stream = context
        .get_stream("OBJ_EVENTFLOW_VIEWS")
        .await
        .expect("a stream");
    let found = stream.info_with_subjects("$O.EVENTFLOW_VIEWS.C.>").await;
    let subjects: Vec<_> = found.expect("its subjects").collect().await;
    let mut through: Vec<_> = subjects
        .into_iter()
        .map(|subject| subject.expect("a subject").0)
        .map(|subject| subject.split('.').nth(4).expect("a position").to_owned())
        .collect();
    through.sort();
    assert_eq!(through, ["4", "5"], "the newest, and the one before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_larger_than_a_message_and_any_legal_name_are_kept() {
    let stores = Stores::single();
    let client = stores.servers.connect().await;
    let definitions = NatsDefinitions::open(&client, &stores.config)
        .await
        .expect("opened");
    let tenant = Tenant::default_tenant();
    // Quotes and line ends take two bytes each where a text is quoted.
    let text = format!(r#"{{"do":"{}"}}"#, r#"\"\n"#.repeat(500_000));
    let definition = Definition {
        workflow: WorkflowId {
            namespace: "a.b *>".into(),
            name: "größe=".into(),
            version: "1.0.0-rc.1+build.5".into(),
        },
        digest: Digest::of(text.as_bytes()),
        document: Json::parse(&text).expect("JSON"),
    };
    let put = definitions.put(&tenant, definition.clone()).await;
    assert_eq!(put.expect("put"), Put::Created);
    let found = definitions.by_name(&tenant, "a.b *>", "größe=", None).await;
    let found = found.expect("by name").expect("found");
    assert!(found == definition);
    let listed = definitions.list(&tenant, Some("a.b *>")).await;
    assert_eq!(listed.expect("listed").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_goes_from_the_roll_by_itself_and_a_partition_does_not() {
    let stores = Stores::single();
    let client = stores.servers.connect().await;
    let leadership = NatsLeadership::open(&client, &stores.config)
        .await
        .expect("opened");
    let node = NodeName::parse("a").expect("a name");
    leadership.announce(&node).await.expect("announced");
    leadership.take(P, &node, Mark::NONE).await.expect("taken");
    let stream = stores
        .context()
        .await
        .get_stream("KV_EVENTFLOW_LEASES")
        .await;
    let stream = stream.expect("a stream");
    let mut stays = Vec::new();
    for key in ["node.a", "partition.0"] {
        let subject = format!("$KV.EVENTFLOW_LEASES.{key}");
        let message = stream.get_last_raw_message_by_subject(&subject).await;
        let headers = message.expect("a message").headers;
        stays.push(headers.get("Nats-TTL").map(|ttl| ttl.as_str().to_owned()));
    }
    assert_eq!(stays, [Some("3600".to_owned()), None]);
    // Somebody else's key is in nobody's way for long: it is named.
    let bucket = stores
        .context()
        .await
        .get_key_value("EVENTFLOW_LEASES")
        .await;
    let bucket = bucket.expect("a bucket");
    bucket.put("stranger", "x".into()).await.expect("put");
    let refused = leadership.roll().await.expect_err("a stranger's key");
    assert!(refused.to_string().contains("stranger"), "{refused}");
}
