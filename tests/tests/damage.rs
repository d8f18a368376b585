//! A journal that was cut or changed below its last durable record: named, and only that partition stops.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;
use eventflow_domain::{
    ExecutionId, PartitionId, Tenant, Timestamp,
    record::{Body, Chain, Entry, FORMAT_LEVEL},
};
use eventflow_tests::{
    Client, Said, Service,
    directory::contents,
    process,
    service::{free_port, program, workspace},
};
use reqwest::Method;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const PARTITIONS: u16 = 4;
/// The one that is damaged in every test.
const DAMAGED: PartitionId = PartitionId(1);
/// In each partition, before the damage.
const ENDED: usize = 6;
/// Longer than the heads of the journal are behind.
const HEADS_ARE_WRITTEN: Duration = Duration::from_millis(1300);
/// Longer than an open execution waits for its snapshot in the view.
const SNAPSHOT_IS_TAKEN: Duration = Duration::from_millis(6500);

/// A store in which every partition has ended executions and an open one.
struct Store {
    directory: TempDir,
    service: Service,
    client: Client,
}

impl Store {
    async fn begin() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let service = Self::serve(directory.path());
        let client = Client::new(&service.url, PATIENCE)?;
        for partition in partitions() {
            for id in ids("ended", partition, ENDED) {
                client
                    .start("greeting", &id, &json!({"name": "Ada"}))
                    .await?;
                client.ended(&id).await?;
            }
            let open = &ids("open", partition, 1)[0];
            client.start("retrying", open, &Value::Null).await?;
        }
        Ok(Self {
            directory,
            service,
            client,
        })
    }

    fn serve(directory: &Path) -> Service {
        Service::start(
            directory,
            &["--workflows", &fixtures(), "--partitions", "4"],
        )
    }

    /// Ends the service and takes the WAL away, which holds nothing then: what is changed in the file is read.
    fn close(&mut self) {
        assert_eq!(self.service.terminate(), Some(0));
        for beside in ["journal.db-wal", "journal.db-shm"] {
            fs::remove_file(self.file(beside)).expect("there after closing");
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("store").join(name)
    }

    fn journal(&self) -> Connection {
        Connection::open(self.file("journal.db")).expect("opened")
    }

    /// Without its views, every record is replayed at the next start.
    fn forget_views(&self) {
        for partition in partitions() {
            fs::remove_file(self.file(&format!("view-{partition}.db"))).expect("a view");
        }
    }

    /// Flips a bit in the midst of a record, wherever the file holds its bytes.
    fn flip_record(&self, position: i64, at: usize) {
        let record: Vec<u8> = self
            .journal()
            .query_row(
                "SELECT record FROM records_1 WHERE position = ?1",
                [position],
                |row| row.get(0),
            )
            .expect("a record");
        let file = self.file("journal.db");
        let mut bytes = fs::read(&file).expect("read");
        // Its beginning, with the checksum, is the record's own.
        let starts: Vec<_> = (0..bytes.len() - 64)
            .filter(|start| bytes[*start..*start + 64] == record[..64])
            .collect();
        assert!(!starts.is_empty(), "the record is in the file");
        for start in starts {
            bytes[start + at] ^= 0x10;
        }
        fs::write(&file, bytes).expect("written");
    }

    /// Starts again and expects the damage to be named with all of these words.
    async fn only_one_partition_stops(&mut self, words: &[&str]) -> anyhow::Result<()> {
        self.service.restart();
        let is_named = |system: &Value| system["partitions"][1]["reason"].is_string();
        let system = self.client.until("/v1/system", is_named).await?;
        let (status, readiness) = self.client.get_once("/readyz").await?;
        ensure!(status == 503, "ready with a damaged partition: {readiness}");
        let reason = system["partitions"][1]["reason"]
            .as_str()
            .unwrap_or_default();
        for word in words {
            ensure!(reason.contains(word), "no `{word}` in: {reason}");
            ensure!(
                readiness.to_string().contains(word),
                "no `{word}` in: {readiness}"
            );
        }
        for partition in partitions() {
            let view = &system["partitions"][usize::from(partition.0)];
            ensure!(
                view["leader"].is_null() == (partition == DAMAGED),
                "{system}"
            );
            self.serves(partition, partition != DAMAGED).await?;
        }
        // Agents get the work of the others.
        let task = self.client.lease("flaky").await?;
        self.client.complete(&task, &json!("done")).await
    }

    /// Whether what is in the partition is shown, and something new is let in.
    async fn serves(&self, partition: PartitionId, serves: bool) -> anyhow::Result<()> {
        for id in ids("ended", partition, ENDED) {
            let path = format!("/v1/executions/{id}");
            let (status, view) = self.client.get_once(&path).await?;
            ensure!(
                status == if serves { 200 } else { 503 },
                "{id}: {status} {view}"
            );
        }
        let id = &ids("new", partition, 1)[0];
        let body = json!({"workflow": {"name": "greeting"}, "executionId": id});
        let request = self
            .client
            .request(Method::POST, "/v1/executions")
            .json(&body);
        let response = request.send().await?;
        if serves {
            ensure!(response.status() == 202, "{id}: {}", response.status());
            self.client.ended(id).await?;
        } else {
            ensure!(response.status() == 503, "{id}: {}", response.status());
            ensure!(
                response.headers().contains_key("retry-after"),
                "when to try again"
            );
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_journal_that_lost_its_end_is_named() -> anyhow::Result<()> {
    let mut store = Store::begin().await?;
    store.close();
    let journal = store.journal();
    let head = head(&journal);
    journal.execute("DELETE FROM records_1 WHERE position > ?1", [head - 3])?;
    drop(journal);
    let (ends, durable) = (
        format!("ends at record {}", head - 3),
        format!("record {head} was durable"),
    );
    let words = ["partition 1", &ends, &durable, "restore a backup"];
    store.only_one_partition_stops(&words).await
}

#[tokio::test]
async fn a_journal_with_another_end_is_named() -> anyhow::Result<()> {
    let mut store = Store::begin().await?;
    store.close();
    let journal = store.journal();
    let head = head(&journal);
    journal.execute(
        "UPDATE records_1 SET record = zeroblob(100) WHERE position = ?1",
        [head],
    )?;
    drop(journal);
    let other = format!("record {head} of partition 1 is not the one that was durable");
    store
        .only_one_partition_stops(&[&other, "restore a backup"])
        .await
}

#[tokio::test]
async fn a_bit_that_flipped_in_the_wal_is_named() -> anyhow::Result<()> {
    let mut store = Store::begin().await?;
    tokio::time::sleep(HEADS_ARE_WRITTEN).await;
    let wal = store.file("journal.db-wal");
    let end = |bytes: &[u8]| {
        bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .unwrap_or_default()
    };
    let before = end(&fs::read(&wal)?);
    // From here on only the partition that is to be damaged writes.
    for id in ids("last", DAMAGED, 3) {
        store.client.start("greeting", &id, &Value::Null).await?;
        store.client.ended(&id).await?;
    }
    tokio::time::sleep(HEADS_ARE_WRITTEN).await;
    store.service.kill();
    let mut bytes = fs::read(&wal)?;
    ensure!(end(&bytes) > before + 100, "it has written nothing");
    // SQLite takes the first frame that does not fit for the end of the WAL.
    bytes[before + 100] ^= 1;
    fs::write(&wal, bytes)?;
    let words = ["partition 1 ends at record", "was durable", "is lost"];
    store.only_one_partition_stops(&words).await
}

#[tokio::test]
async fn a_bit_that_flipped_in_a_record_is_named_when_it_is_replayed() -> anyhow::Result<()> {
    let mut store = Store::begin().await?;
    store.close();
    store.flip_record(5, 70);
    store.forget_views();
    let words = [
        "partition 1 is damaged at record 5",
        "checksum",
        "Restore a backup",
    ];
    store.only_one_partition_stops(&words).await
}

#[tokio::test]
async fn a_bit_that_flipped_where_nothing_is_replayed_is_named_soon_after_the_start()
-> anyhow::Result<()> {
    let mut store = Store::begin().await?;
    store.close();
    store.flip_record(2, 70);
    store
        .only_one_partition_stops(&["record 2", "checksum", "restore a backup"])
        .await
}

#[tokio::test]
async fn a_page_that_is_none_any_more_is_named() -> anyhow::Result<()> {
    let mut store = Store::begin().await?;
    store.close();
    let journal = store.journal();
    let root: i64 = journal.query_row(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'records_1'",
        [],
        |row| row.get(0),
    )?;
    let page_bytes: i64 = journal.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    drop(journal);
    let file = store.file("journal.db");
    let mut bytes = fs::read(&file)?;
    // The byte that says what kind of page it is.
    bytes[usize::try_from((root - 1) * page_bytes)?] ^= 0x40;
    fs::write(&file, bytes)?;
    let words = ["partition 1", "malformed", "restore a backup"];
    store.only_one_partition_stops(&words).await
}

#[tokio::test]
async fn heads_that_are_missing_or_damaged_stop_nothing() -> anyhow::Result<()> {
    let mut store = Store::begin().await?;
    store.close();
    let heads = store.file("journal.heads");
    let whole = fs::read_to_string(&heads)?;
    ensure!(
        whole.starts_with("eventflow journal heads 1\n0 "),
        "{whole}"
    );
    fs::write(&heads, whole.replace("heads 1\n0 ", "heads 1\n0 9"))?;
    store.service.restart();
    store.client.get("/readyz").await?;
    for partition in partitions() {
        store.serves(partition, true).await?;
    }
    // They are written anew within a second, and once more at the end.
    assert_eq!(store.service.terminate(), Some(0));
    let anew = fs::read_to_string(&heads)?;
    ensure!(
        anew != whole && anew.lines().count() == whole.lines().count(),
        "{anew}"
    );
    fs::remove_file(&heads)?;
    store.service.restart();
    store.client.get("/readyz").await?;
    Ok(())
}

#[tokio::test]
async fn the_only_partition_of_a_store_is_refused_and_left_as_it_is() -> anyhow::Result<()> {
    let (directory, _) = closed_store(Duration::ZERO).await?;
    let file = directory.path().join("store/journal.db");
    Connection::open(&file)?.execute("DELETE FROM records_0 WHERE position > 2", [])?;
    let before = contents(directory.path());
    let said = refused(directory.path());
    for words in [
        "partition 0",
        "ends at record 2",
        "was durable",
        "restore a backup",
    ] {
        ensure!(said.err.contains(words), "no `{words}` in: {}", said.err);
    }
    ensure!(
        before == contents(directory.path()),
        "the refusal changed something"
    );
    Ok(())
}

#[tokio::test]
async fn a_record_of_a_higher_level_is_refused_and_left_as_it_is() -> anyhow::Result<()> {
    let (directory, _) = closed_store(Duration::ZERO).await?;
    let journal = Connection::open(directory.path().join("store/journal.db"))?;
    let (head, last): (i64, Vec<u8>) = journal.query_row(
        "SELECT position, record FROM records_0 ORDER BY position DESC LIMIT 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let chain = Chain::at(PartitionId(0), &last)?;
    let header = chain.next_header(chain.epoch.next(), Timestamp(chain.time.0 + 1));
    let mut body = Body::default();
    body.push(&Entry::EpochStarted {
        level: FORMAT_LEVEL + 1,
        writer: "a later release".to_owned(),
    });
    let record = body.seal(&header);
    journal.execute(
        "INSERT INTO records_0 VALUES (?1, ?2)",
        params![head + 1, record],
    )?;
    drop(journal);
    let before = contents(directory.path());
    let said = refused(directory.path());
    let newer = format!(
        "format level {}, newer than {FORMAT_LEVEL}",
        FORMAT_LEVEL + 1
    );
    ensure!(said.err.contains(&newer), "{}", said.err);
    ensure!(
        before == contents(directory.path()),
        "the refusal changed something"
    );
    Ok(())
}

#[tokio::test]
async fn a_view_of_another_version_is_rebuilt() -> anyhow::Result<()> {
    let (directory, id) = closed_store(Duration::ZERO).await?;
    let view = Connection::open(directory.path().join("store/view-0.db"))?;
    view.execute_batch(
        "PRAGMA user_version = 99; UPDATE executions SET summary = 'of a later release'",
    )?;
    drop(view);
    let service = Service::with_fixtures(directory.path());
    let client = Client::new(&service.url, PATIENCE)?;
    let listed = client.get("/v1/executions").await?;
    ensure!(
        listed["executions"][1]["executionId"] == json!(id),
        "{listed}"
    );
    ensure!(client.get(&format!("/v1/executions/{id}")).await?["status"] == "completed");
    Ok(())
}

#[tokio::test]
async fn a_snapshot_of_another_version_is_replayed_from_the_journal() -> anyhow::Result<()> {
    let (directory, id) = closed_store(SNAPSHOT_IS_TAKEN).await?;
    let view = Connection::open(directory.path().join("store/view-0.db"))?;
    let changed = view.execute(
        "UPDATE states SET state = CAST(x'63' || substr(state, 2) AS BLOB)",
        [],
    )?;
    ensure!(changed > 1, "there is an open execution and an ended one");
    drop(view);
    let service = Service::with_fixtures(directory.path());
    let client = Client::new(&service.url, PATIENCE)?;
    ensure!(client.get(&format!("/v1/executions/{id}")).await?["status"] == "completed");
    let task = client.lease("flaky").await?;
    client.complete(&task, &json!("done")).await?;
    client.ended("open").await?;
    Ok(())
}

/// A store of one partition, closed after a while, its WAL taken away; the id of its ended execution, beside an open one.
async fn closed_store(open_for: Duration) -> anyhow::Result<(TempDir, &'static str)> {
    let directory = tempfile::tempdir()?;
    let mut service = Service::with_fixtures(directory.path());
    let client = Client::new(&service.url, PATIENCE)?;
    client.start("greeting", "ended", &Value::Null).await?;
    client.ended("ended").await?;
    client.start("retrying", "open", &Value::Null).await?;
    tokio::time::sleep(open_for).await;
    let code = tokio::task::spawn_blocking(move || service.terminate()).await?;
    ensure!(code == Some(0), "it did not end well");
    for beside in ["journal.db-wal", "journal.db-shm"] {
        fs::remove_file(directory.path().join("store").join(beside))?;
    }
    Ok((directory, "ended"))
}

/// One line, exit 2.
fn refused(directory: &Path) -> Said {
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = program(directory);
    command.args([
        "--listen",
        &listen,
        "--store",
        "sqlite:./store",
        "--workflows",
        &fixtures(),
    ]);
    let said = process::run(&mut command).exits(2);
    assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
    said
}

fn partitions() -> impl Iterator<Item = PartitionId> {
    (0..PARTITIONS).map(PartitionId)
}

/// The first ids with this prefix that are at home in the partition.
fn ids(prefix: &str, partition: PartitionId, count: usize) -> Vec<String> {
    let home = |id: &String| {
        let id = ExecutionId::try_from(id.clone()).expect("an id");
        PartitionId::of(&Tenant::default_tenant(), &id, PARTITIONS) == partition
    };
    let numbered = (0..).map(|number| format!("{prefix}-{number}"));
    numbered.filter(home).take(count).collect()
}

fn head(journal: &Connection) -> i64 {
    let query = "SELECT max(position) FROM records_1";
    journal
        .query_row(query, [], |row| row.get(0))
        .expect("records")
}

fn fixtures() -> String {
    let fixtures = workspace().join("fixtures/workflows");
    fixtures
        .to_str()
        .expect("the workspace's path is text")
        .to_owned()
}
