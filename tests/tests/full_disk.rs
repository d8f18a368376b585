//! A disk that is really full: a small file system in memory, mounted for this test alone.
//!
//! In turns it is the journal that finds no room, and a blob. Mounting takes a mount namespace of its own, so the test runs itself once more inside of one. `EVENTFLOW_FULL_DISKS`
//! says how often the disk fills.

use std::{
    env,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use eventflow_tests::{
    Client, Service,
    service::{binary, workspace},
};
use reqwest::Method;
use serde_json::{Value, json};

/// Where the inner run finds the directory to mount on.
const MOUNT_ON: &str = "EVENTFLOW_TEST_MOUNT_ON";
/// Of the whole disk: the WAL takes 16 MiB from the start.
const DISK_BYTES: &str = "size=80m";
/// How often the disk fills where `EVENTFLOW_FULL_DISKS` says nothing.
const FULL: usize = 2;
/// Starts at a time.
const STARTERS: usize = 8;
const PATIENCE: Duration = Duration::from_mins(1);
/// A request that is held up by the disk is given up after this, and repeated.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// The service goes on within this once there is room.
const GOES_ON_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_full_disk_refuses_loses_nothing_and_goes_on_by_itself() {
    if let Some(directory) = env::var_os(MOUNT_ON) {
        return on_a_small_disk(&PathBuf::from(directory));
    }
    // Built before it is needed inside.
    binary("event-flow-workflow-execution");
    let directory = tempfile::tempdir().unwrap();
    let status = namespace()
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "a_full_disk_refuses_loses_nothing_and_goes_on_by_itself",
            "--nocapture",
        ])
        .env(MOUNT_ON, directory.path())
        .status()
        .unwrap();
    assert!(status.success(), "it failed on the small disk: {status}");
}

/// Runs a program where it may mount: in a user's own namespace, or as root.
fn namespace() -> Command {
    let ways: [&[&str]; 2] = [&["--user", "--map-root-user", "--mount"], &["--mount"]];
    for way in ways {
        let mut command = Command::new("unshare");
        command.args(way);
        let works = Command::new("unshare")
            .args(way)
            .arg("true")
            .stderr(Stdio::null())
            .status();
        if works.is_ok_and(|status| status.success()) {
            return command;
        }
    }
    panic!(
        "this test mounts a small file system: it needs `unshare` of util-linux, and either user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1 or user.max_user_namespaces above 0) or root"
    );
}

fn on_a_small_disk(directory: &Path) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", DISK_BYTES, "tmpfs"])
        .arg(directory)
        .status()
        .unwrap();
    assert!(mounted.success(), "a tmpfs cannot be mounted: {mounted}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fill_and_free(directory)).unwrap();
}

async fn fill_and_free(directory: &Path) -> anyhow::Result<()> {
    let times = env::var("EVENTFLOW_FULL_DISKS").map_or(Ok(FULL), |times| times.parse())?;
    let fixtures = workspace().join("fixtures/workflows");
    let fixtures = fixtures.to_str().context("the workspace's path is text")?;
    let mut service = Service::start(directory, &["--workflows", fixtures]);
    let client = Client::new(&service.url, PATIENCE)?;
    let load = Arc::new(Load::default());
    for time in 0..times {
        let starters: Vec<_> = (0..STARTERS)
            .map(|starter| tokio::spawn(load.clone().start(client.clone(), time, starter)))
            .collect();
        let before = load.acknowledged();
        load.until("some starts", || load.acknowledged() > before + 20)
            .await?;
        let filler = Filler::fill(directory)?;
        load.until("a refusal", || load.refused.load(Ordering::SeqCst))
            .await?;
        let reason = if with_blobs(time) {
            "a large value cannot be stored"
        } else {
            "the journal does not answer"
        };
        let (status, readiness) = client.get_once("/readyz").await?;
        ensure!(
            status == 503 && readiness.to_string().contains(reason),
            "{readiness}"
        );
        ensure!(client.get_once("/healthz").await?.0 == 200, "it is alive");
        drop(filler);
        let freed = Instant::now();
        client.get("/readyz").await?;
        ensure!(
            freed.elapsed() < GOES_ON_WITHIN,
            "it took {:?}",
            freed.elapsed()
        );
        let before = load.acknowledged();
        load.until("more starts", || load.acknowledged() > before + 20)
            .await?;
        load.is_over.store(true, Ordering::SeqCst);
        for starter in starters {
            starter.await??;
        }
        load.is_over.store(false, Ordering::SeqCst);
        load.refused.store(false, Ordering::SeqCst);
        println!(
            "full and freed: {} starts, ready after {:?}",
            load.acknowledged(),
            freed.elapsed()
        );
    }
    // As it runs, and after a kill: whatever was acknowledged has come to its end.
    load.all_are_there(&client).await?;
    service.kill();
    service.restart();
    load.all_are_there(&client).await
}

/// Whether what is started has an input above the 64 KiB that are kept in a blob.
fn with_blobs(time: usize) -> bool {
    time % 2 == 1
}

/// Starts that are repeated until they are acknowledged.
#[derive(Default)]
struct Load {
    acknowledged: Mutex<Vec<String>>,
    refused: AtomicBool,
    is_over: AtomicBool,
}

impl Load {
    async fn start(
        self: Arc<Self>,
        client: Client,
        time: usize,
        starter: usize,
    ) -> anyhow::Result<()> {
        for number in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let id = format!("full-{time}-{starter}-{number}");
            // What does not compress, so that the disk fills.
            let bytes = if with_blobs(time) { 70_000 } else { 30_000 };
            let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
                .take(bytes)
                .collect();
            let body = json!({"workflow": {"name": "greeting"}, "executionId": id, "input": {"name": noise}});
            while !self.is_over.load(Ordering::SeqCst) {
                if self.is_acknowledged(&client, &body).await? {
                    self.acknowledged.lock().unwrap().push(id);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    async fn is_acknowledged(&self, client: &Client, body: &Value) -> anyhow::Result<bool> {
        let request = client.request(Method::POST, "/v1/executions").json(body);
        let Ok(response) = tokio::time::timeout(ANSWERED_WITHIN, request.send()).await else {
            return Ok(false);
        };
        let response = response?;
        match response.status().as_u16() {
            202 => Ok(true),
            503 => {
                ensure!(
                    response.headers().contains_key("retry-after"),
                    "when to try again"
                );
                self.refused.store(true, Ordering::SeqCst);
                Ok(false)
            }
            status => bail!("a start was answered {status}: {}", response.text().await?),
        }
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn until(&self, what: &str, fits: impl Fn() -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !fits() {
            ensure!(began.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn all_are_there(&self, client: &Client) -> anyhow::Result<()> {
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        for id in acknowledged {
            let view = client.ended(&id).await.with_context(|| id.clone())?;
            ensure!(view["status"] == "completed", "{id}: {view}");
        }
        Ok(())
    }
}

/// A file that takes all the room there is, until it is dropped.
struct Filler(PathBuf);

impl Filler {
    fn fill(directory: &Path) -> anyhow::Result<Self> {
        let filler = Self(directory.join("filler"));
        let mut file = File::create(&filler.0)?;
        // In ever smaller pieces, to the last block.
        for piece in [1 << 20, 4096] {
            let zeros = vec![0; piece];
            loop {
                match file.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it was written");
    }
}
