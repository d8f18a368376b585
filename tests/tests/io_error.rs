//! A disk that fails under the service: a sync that fails stops what shares it and is never tried again; one that is full
//! holds up and goes on. By an interposer, `tests/shims/io_error.c`; `full_disk.rs` fills a real one.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service, service::workspace};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const PARTITIONS: usize = 4;
/// A request that is held up gets no answer; this is longer than one takes that is answered.
const HELD_UP: Duration = Duration::from_secs(1);

/// A service on a disk that can be made to fail.
struct Disk {
    directory: TempDir,
    service: Service,
    client: Client,
}

impl Disk {
    async fn with_service() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let shim = directory.path().join("io_error.so");
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&shim)
            .arg(workspace().join("tests/shims/io_error.c"))
            .status()
            .context("the tests need a C compiler, `cc`")?;
        ensure!(compiled.success(), "the interposer does not compile");
        let fixtures = workspace().join("fixtures/workflows");
        let fixtures = fixtures.to_str().context("the workspace's path is text")?;
        let partitions = PARTITIONS.to_string();
        let service = Service::start_in(
            directory.path(),
            &["--workflows", fixtures, "--partitions", &partitions],
            vec![
                ("LD_PRELOAD", shim),
                ("IO_ERROR_TRIGGER", directory.path().join("trigger")),
            ],
        );
        let client = Client::new(&service.url, PATIENCE)?;
        let disk = Self {
            directory,
            service,
            client,
        };
        for number in 0..8 {
            disk.client
                .start("greeting", &format!("before-{number}"), &Value::Null)
                .await?;
        }
        Ok(disk)
    }

    fn trigger(&self) -> PathBuf {
        self.directory.path().join("trigger")
    }

    /// From now on such calls fail.
    fn fail(&self, how: &str) {
        fs::write(self.trigger(), how).expect("written");
    }

    fn recover(&self) {
        fs::remove_file(self.trigger()).expect("it was failing");
    }

    /// The paths of the calls that have failed so far.
    fn failed(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("trigger.log")).unwrap_or_default();
        log.lines().map(ToOwned::to_owned).collect()
    }

    /// Whether a start is refused with 503 and the time to try again; a status where it is answered otherwise.
    async fn start_once(&self, id: &str, input: &Value) -> anyhow::Result<u16> {
        let body = json!({"workflow": {"name": "greeting"}, "executionId": id, "input": input});
        let request = self
            .client
            .request(Method::POST, "/v1/executions")
            .json(&body);
        let answered = tokio::time::timeout(PATIENCE, request.send()).await;
        let response = answered.context("the start is not answered")??;
        let status = response.status().as_u16();
        if status == 503 {
            ensure!(
                response.headers().contains_key("retry-after"),
                "when to try again"
            );
        }
        Ok(status)
    }

    /// All partitions have stopped, for this reason, and stay so although the disk is well again.
    async fn everything_stops(&self, reason: &str) -> anyhow::Result<()> {
        let have_stopped = |system: &Value| {
            let partitions = system["partitions"].as_array().into_iter().flatten();
            partitions
                .filter(|partition| partition["leader"].is_null())
                .count()
                == PARTITIONS
        };
        let system = self.client.until("/v1/system", have_stopped).await?;
        let failed = self.failed();
        ensure!(failed.len() == 1, "tried again: {failed:?}");
        self.recover();
        for number in 0..8 {
            ensure!(
                self.start_once(&format!("refused-{number}"), &Value::Null)
                    .await?
                    == 503
            );
        }
        let (status, readiness) = self.client.get_once("/readyz").await?;
        ensure!(status == 503, "{readiness}");
        for partition in 0..PARTITIONS {
            let stopped = system["partitions"][partition]["reason"].as_str();
            ensure!(
                stopped.is_some_and(|stopped| stopped.contains(reason)),
                "{system}"
            );
            let named = format!("partition {partition}: ");
            ensure!(readiness.to_string().contains(&named), "{readiness}");
        }
        Ok(())
    }

    /// Ends well, and after a restart everything that was acknowledged is there and everything goes on.
    async fn restarts_well(mut self) -> anyhow::Result<()> {
        let mut service = self.service;
        self.service = tokio::task::spawn_blocking(move || {
            assert_eq!(service.terminate(), Some(0));
            service.restart();
            service
        })
        .await?;
        self.client.get("/readyz").await?;
        for number in 0..8 {
            self.client.ended(&format!("before-{number}")).await?;
            let after = format!("after-{number}");
            self.client.start("greeting", &after, &Value::Null).await?;
            self.client.ended(&after).await?;
        }
        Ok(())
    }
}

/// Above 64 KiB: kept as a blob.
fn large() -> Value {
    json!({ "name": "x".repeat(100_000) })
}

#[tokio::test]
async fn a_sync_of_the_journal_that_fails_stops_every_partition_and_is_not_tried_again()
-> anyhow::Result<()> {
    let disk = Disk::with_service().await?;
    disk.fail("EIO journal.db-wal");
    ensure!(disk.start_once("unlucky", &Value::Null).await? == 503);
    disk.everything_stops("journal.db").await?;
    disk.restarts_well().await
}

#[tokio::test]
async fn a_sync_of_a_blob_that_fails_stops_every_partition() -> anyhow::Result<()> {
    let disk = Disk::with_service().await?;
    disk.fail("EIO blobs/");
    ensure!(disk.start_once("unlucky", &large()).await? == 503);
    disk.everything_stops("blobs/").await?;
    disk.restarts_well().await
}

#[tokio::test]
async fn a_sync_of_the_heads_that_fails_stops_every_partition() -> anyhow::Result<()> {
    let disk = Disk::with_service().await?;
    disk.fail("EIO journal.heads");
    // Heads are written because something has moved.
    disk.start_once("moves", &Value::Null).await?;
    disk.everything_stops("journal.heads").await?;
    disk.restarts_well().await
}

#[tokio::test]
async fn where_there_is_no_room_for_a_blob_the_partition_waits_and_goes_on() -> anyhow::Result<()> {
    let disk = Disk::with_service().await?;
    disk.fail("ENOSPC blobs/");
    let input = large();
    let held_up = disk.start_once("held-up", &input);
    ensure!(
        tokio::time::timeout(HELD_UP, held_up).await.is_err(),
        "answered without its blob"
    );
    let (status, readiness) = disk.client.get_once("/readyz").await?;
    ensure!(
        status == 503
            && readiness
                .to_string()
                .contains("a large value cannot be stored"),
        "{readiness}"
    );
    // The same home, so the same partition.
    ensure!(disk.start_once("held-up", &input).await? == 503);
    disk.recover();
    disk.client.get("/readyz").await?;
    let view = disk.client.ended("held-up").await?;
    ensure!(view["output"]["length"] == 100_008, "{view}");
    disk.restarts_well().await
}

#[tokio::test]
async fn where_there_is_no_room_for_views_or_heads_the_journal_goes_on() -> anyhow::Result<()> {
    for file in ["view-", "journal.heads"] {
        let disk = Disk::with_service().await?;
        disk.fail(&format!("ENOSPC {file}"));
        for number in 0..20 {
            let id = format!("meanwhile-{number}");
            disk.client.start("greeting", &id, &Value::Null).await?;
            disk.client.ended(&id).await?;
        }
        tokio::time::sleep(HELD_UP).await;
        ensure!(
            disk.failed().iter().any(|path| path.contains(file)),
            "nothing has failed"
        );
        disk.client.get("/readyz").await?;
        disk.recover();
        disk.restarts_well().await?;
    }
    Ok(())
}
