//! A backup taken under load holds everything that was acknowledged before it began, and a service goes on from it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use eventflow_tests::{
    Client, Said, Service,
    directory::contents,
    process,
    service::{eventflow, workspace},
};
use rusqlite::Connection;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);
/// Clients that start executions, each one after the other.
const STARTERS: usize = 4;
/// Executions before each backup where `EVENTFLOW_BACKUP_EXECUTIONS` says nothing.
const EXECUTIONS: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_what_was_acknowledged_before_it_began() -> anyhow::Result<()> {
    let executions = std::env::var("EVENTFLOW_BACKUP_EXECUTIONS")
        .map_or(Ok(EXECUTIONS), |executions| executions.parse())?;
    let directory = tempfile::tempdir()?;
    let fixtures = workspace().join("fixtures/workflows");
    let fixtures = fixtures.to_str().context("the workspace's path is text")?;
    let arguments = ["--workflows", fixtures, "--partitions", "2"];
    let service = Service::start(directory.path(), &arguments);
    let client = Client::new(&service.url, PATIENCE)?;
    let load = Arc::new(Load::default());
    let starters: Vec<_> = (0..STARTERS)
        .map(|starter| tokio::spawn(load.clone().keep_on(client.clone(), starter)))
        .collect();

    let mut backups = Vec::new();
    for number in 1..=2 {
        load.until(number * executions).await?;
        let acknowledged = load.acknowledged();
        // A service is started on `<directory>/store`.
        let target = directory.path().join(format!("backup-{number}/store"));
        let source = directory.path().join("store");
        let said = tokio::task::spawn_blocking(move || back_up(&source, &target)).await?;
        let said = said.exits(0).json();
        ensure!(
            said["positions"].as_array().map(Vec::len) == Some(2),
            "{said}"
        );
        ensure!(said["blobs"].as_u64() > Some(0), "{said}");
        backups.push((number, acknowledged));
    }
    load.is_over.store(true, Ordering::SeqCst);
    for starter in starters {
        starter.await??;
    }
    let (_, readiness) = client.get_once("/readyz").await?;
    ensure!(
        readiness["status"] == "ready",
        "the service goes on: {readiness}"
    );
    // An agent's token and lease are from before as well.
    for (number, acknowledged) in backups {
        let restored = directory.path().join(format!("backup-{number}"));
        let names: Vec<_> = listed(&restored.join("store"));
        ensure!(
            names == ["blobs", "journal.db", "journal.heads"],
            "{names:?}"
        );
        let restored = Service::start(&restored, &arguments);
        let client = Client::new(&restored.url, PATIENCE)?;
        for id in &acknowledged {
            let view = client.get(&format!("/v1/executions/{id}")).await?;
            if id.starts_with("open") {
                ensure!(
                    matches!(view["status"].as_str(), Some("running" | "waiting")),
                    "{view}"
                );
            } else {
                let ended = client.ended(id).await?;
                ensure!(ended["status"] == "completed", "{ended}");
            }
        }
        let open = acknowledged
            .iter()
            .filter(|id| id.starts_with("open"))
            .count();
        for _ in 0..open {
            let task = client.lease("flaky").await?;
            client.complete(&task, &json!("done")).await?;
        }
        println!(
            "backup {number}: {} acknowledged executions, {open} of them went on",
            acknowledged.len()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_backup_of_a_stopped_store_changes_nothing_of_it_and_overwrites_nothing()
-> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("store");
    let mut service = Service::with_fixtures(directory.path());
    let client = Client::new(&service.url, PATIENCE)?;
    client.start("greeting", "one", &Value::Null).await?;
    client.ended("one").await?;
    // As a kill leaves it: the last records are in the WAL.
    service.kill();
    let before = contents(&store);

    let target = directory.path().join("copies/first/store");
    back_up(&store, &target).exits(0);
    ensure!(before == contents(&store), "the store has changed");
    let copy = contents(&target);
    let again = back_up(&store, &target).exits(2);
    ensure!(
        again.err.contains("exists") && again.err.contains("nothing is overwritten"),
        "{}",
        again.err
    );
    ensure!(copy == contents(&target), "the backup has changed");

    // A backup of a backup is one as well.
    let second = directory.path().join("copies/second/store");
    back_up(&target, &second).exits(0);
    let restored = Service::with_fixtures(&directory.path().join("copies/second"));
    let client = Client::new(&restored.url, PATIENCE)?;
    ensure!(client.get("/v1/executions/one").await?["status"] == "completed");
    Ok(())
}

#[tokio::test]
async fn what_is_no_store_or_a_damaged_one_is_not_backed_up() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("store");
    let target = directory.path().join("backup");
    let none = back_up(&store, &target).exits(2);
    ensure!(none.err.contains("journal.db"), "{}", none.err);
    let memory = process::run(&mut eventflow(&["backup", "x", "--store", "memory:"])).exits(2);
    ensure!(memory.err.contains("sqlite:<directory>"), "{}", memory.err);

    let mut service = Service::with_fixtures(directory.path());
    let client = Client::new(&service.url, PATIENCE)?;
    client.start("greeting", "one", &Value::Null).await?;
    ensure!(service.terminate() == Some(0));
    // Not the last one, which the heads would tell.
    let journal = Connection::open(store.join("journal.db"))?;
    journal.execute(
        "UPDATE records_0 SET record = CAST(substr(record, 1, 60) || x'5A' || substr(record, 62) AS BLOB) WHERE position = 1",
        [],
    )?;
    drop(journal);
    let damaged = back_up(&store, &target).exits(2);
    for words in ["damaged", "partition 0", "checksum", "was not backed up"] {
        ensure!(
            damaged.err.contains(words),
            "no `{words}` in: {}",
            damaged.err
        );
    }
    ensure!(
        listed(directory.path()) == ["store"],
        "something is left of it"
    );
    Ok(())
}

/// Starts until it is told to stop.
#[derive(Default)]
struct Load {
    acknowledged: Mutex<BTreeSet<String>>,
    is_over: AtomicBool,
}

impl Load {
    /// Most end at once, one in ten stays open, one in five has a large input.
    async fn keep_on(self: Arc<Self>, client: Client, starter: usize) -> anyhow::Result<()> {
        for number in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let (workflow, state) = if number % 10 == 0 {
                ("retrying", "open")
            } else {
                ("greeting", "ended")
            };
            let id = format!("{state}-{starter}-{number}");
            let bytes = if number % 5 == 1 { 80_000 } else { 10 };
            let name: String = std::iter::repeat_with(fastrand::alphanumeric)
                .take(bytes)
                .collect();
            client
                .start(workflow, &id, &json!({ "name": name }))
                .await?;
            self.acknowledged.lock().unwrap().insert(id);
        }
        Ok(())
    }

    fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    async fn until(&self, count: usize) -> anyhow::Result<()> {
        let began = std::time::Instant::now();
        while self.acknowledged().len() < count {
            ensure!(
                began.elapsed() < PATIENCE,
                "only {} starts",
                self.acknowledged().len()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn back_up(store: &Path, target: &Path) -> Said {
    let store = format!("sqlite:{}", store.display());
    let mut command = eventflow(&["backup", "--store", &store, "--output", "json"]);
    process::run(command.arg(target))
}

fn listed(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).expect("a directory").map(|entry| {
        let name = entry.expect("a directory can be listed").file_name();
        name.to_string_lossy().into_owned()
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
