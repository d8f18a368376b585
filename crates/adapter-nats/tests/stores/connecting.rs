//! Connecting: to servers that are there, gone for a while, too old, without `JetStream`, or not there at all.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use eventflow_adapter_nats::{
    ConnectError, ConnectOptions, Findings, NatsConfig, NatsJournal, SyncInterval, connect,
    connect_system,
};
use eventflow_nats_server::{NatsServer, Options};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinHandle,
};

use super::support::Servers;

/// Whatever happens by itself happens long before.
const PATIENCE: Duration = Duration::from_secs(30);

fn to(url: &str) -> ConnectOptions {
    ConnectOptions {
        name: "eventflow test".to_owned(),
        urls: vec![url.to_owned()],
        ..ConnectOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_by_itself_after_its_server_was_away() {
    // Longer than the longest pause between two tries.
    const AWAY: Duration = Duration::from_secs(4);
    let mut servers = Servers::single();
    let client = connect(&to(&servers.urls()[0])).await.expect("connected");
    servers.server().kill();
    tokio::time::sleep(AWAY).await;
    servers.server().restart();
    let back = Instant::now();
    while client.flush().await.is_err() || client.request("$JS.API.INFO", "".into()).await.is_err()
    {
        assert!(back.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        back.elapsed() < Duration::from_secs(10),
        "{:?}",
        back.elapsed()
    );
}

#[tokio::test]
async fn where_no_server_is_one_error_says_so_in_time() {
    let begun = Instant::now();
    // The discard service of no machine that tests run on.
    let refused = connect(&to("nats://user:secret@127.0.0.1:9")).await;
    let error = refused.expect_err("nobody is there");
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(
        said.contains("127.0.0.1:9") && !said.contains("secret"),
        "{said}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn an_old_server_is_refused_with_its_version() {
    let (url, _server) = pretend(json!({"version": "2.14.9", "server_name": "old"})).await;
    let error = connect(&to(&url)).await.expect_err("too old");
    let said = error.to_string();
    assert!(said.contains("2.14.9") && said.contains("2.15"), "{said}");
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused_with_the_reason() {
    // The system account of a real server has none.
    let server = NatsServer::start(Options::default());
    let error = connect(&to(&server.system_url()))
        .await
        .expect_err("no JetStream");
    assert!(
        matches!(error, ConnectError::NoJetStream { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn wrong_credentials_are_refused_at_once() {
    let server = NatsServer::start(Options::default());
    let url = server.system_url().replace("system@", "wrong@");
    let begun = Instant::now();
    let error = connect(&to(&url)).await.expect_err("refused");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_context_says_where_and_as_whom_and_options_go_before_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (url, server) = pretend(json!({"version": "2.14.0"})).await;
    let context = json!({
        "description": "a test's", "url": url, "user": "alice", "password": "s3cr3t",
        "creds": "", "nkey": "", "token": "", "nsc": "", "color_scheme": "x",
    });
    save(directory.path(), "here", &context);
    let from_context = ConnectOptions {
        name: "eventflow node-1".to_owned(),
        context: Some("here".to_owned()),
        contexts: Some(directory.path().to_owned()),
        ..ConnectOptions::default()
    };
    connect(&from_context).await.expect_err("too old");
    let said = login(server).await;
    assert_eq!(said["user"], "alice");
    assert_eq!(said["pass"], "s3cr3t");
    assert_eq!(said["name"], "eventflow node-1");

    // An nkey of the options instead of the context's user.
    let (url, server) = pretend(json!({"version": "2.14.0", "nonce": "bm9uY2U"})).await;
    let nkey = directory.path().join("user.nk");
    let seed = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM";
    std::fs::write(&nkey, format!("{seed}\n")).expect("written");
    let with_nkey = ConnectOptions {
        urls: vec![url],
        nkey: Some(nkey),
        ..from_context.clone()
    };
    connect(&with_nkey).await.expect_err("too old");
    let said = login(server).await;
    let public = said["nkey"].as_str().expect("a public key");
    assert!(public.starts_with('U'), "{said}");
    assert!(
        said["sig"].as_str().is_some_and(|sig| !sig.is_empty()),
        "{said}"
    );
    assert!(said["user"].is_null(), "{said}");
}

#[tokio::test]
async fn a_context_that_cannot_be_used_is_named_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, context, reason) in [
        ("two", json!({"creds": "a", "token": "b"}), "more than one"),
        ("half", json!({"cert": "a"}), "belong together"),
        ("proxied", json!({"socks_proxy": "b"}), "socks_proxy"),
        ("text", json!("x"), "invalid"),
        ("../up", Value::Null, "not the name"),
        ("absent", Value::Null, "No such file"),
    ] {
        if !context.is_null() {
            save(directory.path(), name, &context);
        }
        let options = ConnectOptions {
            context: Some(name.to_owned()),
            contexts: Some(directory.path().to_owned()),
            ..ConnectOptions::default()
        };
        let said = connect(&options).await.expect_err(name).to_string();
        assert!(said.contains(name) && said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("some.creds");
    let missing = Some(file.clone());
    let here = to("nats://127.0.0.1:9");
    let with_creds = ConnectOptions {
        creds: missing.clone(),
        ..here.clone()
    };
    let with_nkey = ConnectOptions {
        nkey: missing.clone(),
        ..here.clone()
    };
    let with_ca = ConnectOptions {
        tls_ca: missing,
        ..here
    };
    for options in [&with_creds, &with_nkey, &with_ca] {
        let error = connect(options).await.expect_err("no such file");
        assert!(matches!(&error, ConnectError::File { .. }), "{error:?}");
        assert!(error.to_string().contains("some.creds"), "{error}");
    }
    std::fs::write(&file, "no credentials").expect("written");
    for options in [&with_creds, &with_nkey] {
        let error = connect(options).await.expect_err("nothing in it");
        assert!(matches!(&error, ConnectError::File { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_is_said_and_what_cannot_be_known_as_well() {
    for sync_always in [true, false] {
        let server = NatsServer::start(Options { sync_always });
        let client = connect(&to(&server.url())).await.expect("connected");
        let config = NatsConfig {
            partitions: 2,
            ..NatsConfig::default()
        };
        NatsJournal::open(&client, config.clone())
            .await
            .expect("opened");
        let found = Findings::look(&client, &config, None).await.expect("found");
        assert_eq!(found.sync_interval, SyncInterval::Unknown);
        assert_eq!((found.replicas, found.storage), (1, "file"));
        assert_eq!(found.server, "single");
        let line = found.to_string();
        assert!(!line.contains('\n'), "{line}");
        for part in ["NATS 2.", "single", "file", "1 replica", "unknown: "] {
            assert!(line.contains(part), "{line}");
        }

        let system = connect_system(&to(&server.system_url()))
            .await
            .expect("connected");
        let found = Findings::look(&client, &config, Some(&system)).await;
        let found = found.expect("found");
        let (needed, concerns) = if sync_always {
            (SyncInterval::Always, 1)
        } else {
            (SyncInterval::Every(Duration::from_mins(2)), 2)
        };
        assert_eq!(found.sync_interval, needed);
        assert_eq!(found.concerns().len(), concerns, "{:?}", found.concerns());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_are_found_and_one_that_is_gone_is_named() {
    let Servers::Three(mut cluster) = Servers::replicated() else {
        panic!("three servers");
    };
    let config = NatsConfig {
        partitions: 1,
        replicas: 3,
        ..NatsConfig::default()
    };
    let options = ConnectOptions {
        urls: vec![cluster.urls().join(",")],
        ..ConnectOptions::default()
    };
    let client = connect(&options).await.expect("connected");
    NatsJournal::open(&client, config.clone())
        .await
        .expect("opened");
    let begun = Instant::now();
    let mut found = Findings::look(&client, &config, None).await.expect("found");
    while !found.behind.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{found:?}");
        found = Findings::look(&client, &config, None).await.expect("found");
    }
    assert_eq!(found.replicas, 3);
    assert_eq!(found.cluster.as_deref(), Some("eventflow"));

    let here = client.server_info().server_name;
    let gone = ["node-1", "node-2", "node-3"]
        .into_iter()
        .find(|name| *name != here);
    let gone = gone.expect("another one");
    cluster.server(gone).kill();
    let begun = Instant::now();
    loop {
        let found = Findings::look(&client, &config, None).await;
        if found.is_ok_and(|found| found.behind.values().flatten().any(|name| name == gone)) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody misses {gone}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn login(server: JoinHandle<Value>) -> Value {
    let said = tokio::time::timeout(PATIENCE, server).await;
    said.expect("the client hangs up").expect("no panic")
}

fn save(directory: &Path, name: &str, context: &Value) {
    let file = directory.join(format!("{name}.json"));
    std::fs::write(file, context.to_string()).expect("written");
}

/// A server that says this of itself and takes every login; what the first client said in its own.
async fn pretend(info: Value) -> (String, JoinHandle<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut stream = BufReader::new(stream);
        let mut info = info;
        info["max_payload"] = json!(1_048_576);
        info["headers"] = json!(true);
        let info = format!("INFO {info}\r\n");
        stream.write_all(info.as_bytes()).await.expect("said");
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a login");
        let login = line.strip_prefix("CONNECT ").expect("a login");
        let login = serde_json::from_str(login).expect("JSON");
        stream.write_all(b"PONG\r\n").await.expect("said");
        // The client hangs up.
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {}
        login
    });
    (url, server)
}
