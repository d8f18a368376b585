//! The run that is recorded: two lives of the real service under a load that knows what it was told.

use std::{
    fmt::Write as _,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service, service::STOP_MAX};
use serde_json::{Value, json};

use super::trace::{Acknowledged, Notes};

/// Fixed for the life of the store: more than one, so that partitions share commits.
pub(crate) const PARTITIONS: u16 = 2;
/// Executions of the first life.
const FIRST_EXECUTIONS: usize = 27;
/// Of both.
const EXECUTIONS: usize = 36;
/// Started side by side.
const STARTERS: usize = 3;
/// Between two starts of one starter: the first life goes on until open executions have been snapshotted.
const START_EVERY: Duration = Duration::from_millis(600);
/// Open executions are in the view by then, 5 s after their last change.
const FIRST_LIFE: Duration = Duration::from_millis(6_500);
/// Documents, each written to the WAL: enough for it to be checkpointed, and begun anew, more than once.
const FIRST_DOCUMENTS: usize = 22;
const DOCUMENTS: usize = 27;
const DOCUMENT_BYTES: usize = 600 * 1024;
const PATIENCE: Duration = Duration::from_mins(1);

/// Two in a row.
pub(crate) fn workflow(capability: &str) -> Value {
    let work = |retry: &str| json!({"call": "agent:1.0.0@default", "with": {"capability": capability, "input": {"with": retry}}});
    json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": capability, "version": "1.0.0"},
        "do": [{"first": work("one")}, {"second": work("two")}],
    })
}

/// Execution number `number`: an agent does `now` at once, and `later` in the second life at the earliest.
pub(crate) fn capability(number: usize) -> &'static str {
    if number.is_multiple_of(6) {
        "later"
    } else {
        "now"
    }
}

/// An agent that leases the tasks of this one in the first life brings their results in the second.
fn is_held(number: usize) -> bool {
    number % 9 == 4
}

pub(crate) fn id(number: usize) -> String {
    format!("e-{number}")
}

fn number(id: &str) -> anyhow::Result<usize> {
    Ok(id
        .strip_prefix("e-")
        .context("it is one of ours")?
        .parse()?)
}

/// The input of an execution: mostly small, some large, some so large that they are blobs.
pub(crate) fn input(number: usize) -> Value {
    let bytes = [64, 70_000, 64, 64, 64, 64, 30_000, 64][number % 8];
    json!({"number": number, "text": text(&id(number), bytes)})
}

/// What an agent makes of a task.
pub(crate) fn output(execution: &str, task: &str) -> anyhow::Result<Value> {
    let bytes = [16, 16, 16, 80_000, 16, 20_000, 16, 16][number(execution)? % 8];
    Ok(json!({"of": [execution, task], "text": text(&format!("{execution}{task}"), bytes)}))
}

pub(crate) fn document_name(number: usize) -> String {
    format!("document-{number}")
}

fn document(number: usize) -> Value {
    let name = document_name(number);
    let text = text(&name, DOCUMENT_BYTES);
    json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"},
        "do": [{"say": {"set": {"text": text}}}],
    })
}

/// Always the same text of so many letters, which does not compress.
fn text(of: &str, bytes: usize) -> String {
    let seed = of.bytes().fold(0, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        write!(text, "{:016x}", rng.u64(..)).expect("text takes everything");
    }
    text
}

/// Records a run below `directory`; the trace and what else is needed for it goes to `beside`.
pub(crate) async fn record(directory: &Path, beside: &Path) -> anyhow::Result<()> {
    let (trace, boot) = (beside.join("trace"), beside.join("boot"));
    let notes = Notes::in_trace(&trace)?;
    std::fs::write(&boot, "the boot that lost its power")?;
    let workflows = beside.join("workflows");
    std::fs::create_dir(&workflows)?;
    for capability in ["now", "later"] {
        let file = workflows.join(format!("{capability}.json"));
        std::fs::write(file, workflow(capability).to_string())?;
    }
    let environment = vec![
        ("LD_PRELOAD", recorder(beside)?),
        ("RECORD_DIRECTORY", directory.to_owned()),
        ("RECORD_TRACE", trace),
        ("RECORD_BOOT_ID", boot),
    ];
    let folder = workflows.to_str().context("a temporary path is text")?;
    let partitions = PARTITIONS.to_string();
    let arguments = ["--workflows", folder, "--partitions", &partitions];
    let mut service = Service::start_in(directory, &arguments, environment);
    notes.note(&ready()?)?;
    let load = Arc::new(Load {
        client: Client::new(&service.url, PATIENCE)?,
        notes,
        started: AtomicUsize::new(0),
        held: Mutex::default(),
    });
    let began = Instant::now();
    load.clone()
        .run(0..FIRST_DOCUMENTS, 0..FIRST_EXECUTIONS, &["now"])
        .await?;
    tokio::time::sleep(FIRST_LIFE.saturating_sub(began.elapsed())).await;
    let code = service.terminate();
    ensure!(
        code == Some(0),
        "the service ended with {code:?} within {STOP_MAX:?}"
    );

    service.restart();
    load.notes.note(&ready()?)?;
    load.complete_held().await?;
    let (documents, executions) = (FIRST_DOCUMENTS..DOCUMENTS, FIRST_EXECUTIONS..EXECUTIONS);
    load.run(documents, executions, &["now", "later"]).await?;
    service.kill();
    Ok(())
}

fn ready() -> anyhow::Result<Acknowledged> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    Ok(Acknowledged::Ready {
        at: i64::try_from(now)?,
    })
}

/// Compiles `record.c`.
fn recorder(beside: &Path) -> anyhow::Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_loss/record.c");
    let library = beside.join("record.so");
    let compiled = Command::new("cc")
        .args([
            "-std=gnu11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-o",
        ])
        .args([&library, &source])
        .status()
        .context("a C compiler, `cc`, is needed")?;
    ensure!(compiled.success(), "record.c does not compile");
    Ok(library)
}

/// Clients of the service.
struct Load {
    client: Client,
    notes: Notes,
    started: AtomicUsize,
    /// Results that are brought in the second life: token, execution, task.
    held: Mutex<Vec<(String, String, String)>>,
}

impl Load {
    /// Registers these documents, starts these executions, and performs what can be done now.
    async fn run(
        self: Arc<Self>,
        documents: Range<usize>,
        executions: Range<usize>,
        capabilities: &'static [&'static str],
    ) -> anyhow::Result<()> {
        let mut parts = tokio::task::JoinSet::new();
        parts.spawn(self.clone().register(documents));
        for starter in 0..STARTERS {
            let own = executions.clone().skip(starter).step_by(STARTERS);
            parts.spawn(self.clone().start(own));
        }
        parts.spawn(self.clone().perform(executions.end, capabilities));
        while let Some(part) = parts.join_next().await {
            part??;
        }
        Ok(())
    }

    async fn register(self: Arc<Self>, documents: Range<usize>) -> anyhow::Result<()> {
        for number in documents {
            let (status, answer) = self.client.post("/v1/workflows", &document(number)).await?;
            ensure!(status == 201, "a document was answered {status}: {answer}");
            self.notes
                .note(&Acknowledged::Registered { document: number })?;
        }
        Ok(())
    }

    async fn start(
        self: Arc<Self>,
        numbers: impl Iterator<Item = usize> + Send,
    ) -> anyhow::Result<()> {
        for number in numbers {
            let (capability, execution) = (capability(number), id(number));
            self.client
                .start(capability, &execution, &input(number))
                .await?;
            self.notes.note(&Acknowledged::Started { execution })?;
            self.started.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(START_EVERY).await;
        }
        Ok(())
    }

    /// An agent: until so many have been started and there is nothing to do.
    async fn perform(self: Arc<Self>, end: usize, capabilities: &[&str]) -> anyhow::Result<()> {
        let request =
            json!({"agent": "one", "capabilities": capabilities, "max": 3, "wait": "100ms"});
        loop {
            let all_started = self.started.load(Ordering::SeqCst) == end;
            let (status, leased) = self.client.post("/v1/tasks/lease", &request).await?;
            ensure!(status == 200, "a lease was answered {status}: {leased}");
            let tasks = leased["tasks"].as_array().context("a lease has tasks")?;
            if tasks.is_empty() && all_started {
                return Ok(());
            }
            for task in tasks {
                let of = |key: &str| {
                    task[key]
                        .as_str()
                        .map(str::to_owned)
                        .context(key.to_owned())
                };
                let (token, execution, task) = (of("token")?, of("executionId")?, of("task")?);
                self.notes.note(&Acknowledged::Leased {
                    execution: execution.clone(),
                    task: task.clone(),
                    token: token.clone(),
                })?;
                if is_held(number(&execution)?) && end == FIRST_EXECUTIONS {
                    let mut held = self.held.lock().expect("nobody panics");
                    held.push((token, execution, task));
                } else {
                    self.complete(&token, execution, task).await?;
                }
            }
        }
    }

    async fn complete(&self, token: &str, execution: String, task: String) -> anyhow::Result<()> {
        let body = json!({"output": output(&execution, &task)?});
        let path = format!("/v1/tasks/{token}/complete");
        let (status, answer) = self.client.post(&path, &body).await?;
        ensure!(status == 200, "a result was answered {status}: {answer}");
        self.notes
            .note(&Acknowledged::Completed { execution, task })
    }

    /// Brings the results of what was leased before the restart.
    async fn complete_held(&self) -> anyhow::Result<()> {
        let held = std::mem::take(&mut *self.held.lock().expect("nobody panics"));
        ensure!(!held.is_empty(), "no lease outlived the restart");
        for (token, execution, task) in held {
            self.complete(&token, execution, task).await?;
        }
        Ok(())
    }
}
