//! The real service under load, killed again and again: whatever it acknowledged comes to its right end.

use std::{
    collections::HashMap,
    path::Path,
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service};
use serde_json::{Value, json};

/// Kills where `EVENTFLOW_KILLS` says nothing.
const KILLS: usize = 20;
/// Executions that are open at any time, at least.
const OPEN_MIN: usize = 100;
/// Agents, each a process.
const AGENTS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(90);

/// Three in a row, each one more than the one before.
const CHAIN: &str = r#"
document: {dsl: 1.0.3, namespace: default, name: chain, version: 1.0.0}
do:
  - first: &work
      call: agent:1.0.0@default
      with:
        capability: work
        heartbeat: PT1S
        retry: {delay: {milliseconds: 50}, backoff: {constant: {}}, limit: {attempt: {count: 1000}}}
  - second: *work
  - third: *work
"#;

/// c needs a; d needs a and b.
const GRAPH: &str = r#"{
  "dag": "1.0", "namespace": "default", "name": "graph", "version": "1.0.0",
  "steps": [
    {"id": "a", "uses": "agent", "with": {"capability": "work", "heartbeat": "PT1S"}, "inputs": {"n": "${input.n}"},
     "retry": {"limit": 1000, "delay": "50ms", "backoff": "constant"}},
    {"id": "b", "uses": "agent", "with": {"capability": "work", "heartbeat": "PT1S"}, "inputs": {"n": "${input.n}"},
     "retry": {"limit": 1000, "delay": "50ms", "backoff": "constant"}},
    {"id": "c", "uses": "agent", "with": {"capability": "work", "heartbeat": "PT1S"}, "inputs": {"n": "${a.n}"},
     "retry": {"limit": 1000, "delay": "50ms", "backoff": "constant"}},
    {"id": "d", "uses": "agent", "with": {"capability": "work", "heartbeat": "PT1S"}, "inputs": {"n": "${a.n}", "m": "${b.n}"},
     "retry": {"limit": 1000, "delay": "50ms", "backoff": "constant"}}
  ],
  "output": {"c": "${c.n}", "d": "${d.n}"}
}"#;

/// What a task may not begin before: by workflow, the task and what it needs.
const NEEDS: [(&str, &str, &[&str]); 4] = [
    ("chain", "/do/1/second", &["/do/0/first"]),
    ("chain", "/do/2/third", &["/do/1/second"]),
    ("graph", "/steps/2", &["/steps/0"]),
    ("graph", "/steps/3", &["/steps/0", "/steps/1"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_kill_9() -> anyhow::Result<()> {
    let kills = std::env::var("EVENTFLOW_KILLS")
        .ok()
        .map_or(Ok(KILLS), |kills| kills.parse())?;
    let directory = tempfile::tempdir()?;
    let workflows = directory.path().join("workflows");
    std::fs::create_dir(&workflows)?;
    std::fs::write(workflows.join("chain.yaml"), CHAIN)?;
    std::fs::write(workflows.join("graph.json"), GRAPH)?;
    let folder = workflows.to_str().context("a temporary path is text")?;
    let mut service = Service::start(directory.path(), &["--workflows", folder]);
    let client = Client::new(&service.url, PATIENCE)?;
    let agents = Agents::start(&service.url, directory.path())?;

    let load = Arc::new(Load::default());
    let starting = tokio::spawn(load.clone().start_executions(client.clone()));
    let (service, open_at_kills) = tokio::task::spawn_blocking({
        let load = load.clone();
        move || {
            let mut open = Vec::new();
            for kill in 0..kills {
                // From right after the start to deep in the work.
                std::thread::sleep(Duration::from_millis(20 + (kill as u64 * 37) % 280));
                load.wait_until_busy();
                open.push(load.open());
                service.crash();
            }
            (service, open)
        }
    })
    .await?;
    load.is_over.store(true, Ordering::SeqCst);
    starting.await??;

    let acknowledged = load.acknowledged.lock().unwrap().clone();
    let mut ended = HashMap::new();
    for (id, workflow) in &acknowledged {
        let view = client.ended(id).await?;
        check_end(&view, workflow).with_context(|| format!("{id}: {view}"))?;
        check_history(&client, id, workflow)
            .await
            .with_context(|| id.clone())?;
        ended.insert(id.clone(), view);
    }
    let results = agents.accepted()?;
    for result in &results {
        check_result(&ended, result)?;
    }
    drop(service);
    let least = open_at_kills.iter().min().copied().unwrap_or_default();
    println!(
        "{kills} kills, {} acknowledged starts all ended right, {} acknowledged results all stand, at least {least} open",
        acknowledged.len(),
        results.len(),
    );
    ensure!(
        least >= OPEN_MIN,
        "only {least} executions were open at some kill"
    );
    ensure!(!results.is_empty(), "no agent got any result acknowledged");
    Ok(())
}

/// Executions started, and those known to have ended.
#[derive(Default)]
struct Load {
    acknowledged: Mutex<Vec<(String, &'static str)>>,
    ended: Mutex<usize>,
    is_over: AtomicBool,
}

impl Load {
    fn open(&self) -> usize {
        self.acknowledged.lock().unwrap().len() - *self.ended.lock().unwrap()
    }

    fn wait_until_busy(&self) {
        let began = Instant::now();
        while self.open() < OPEN_MIN && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Keeps more than `OPEN_MIN` executions open until it is over.
    async fn start_executions(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let mut number = 0_usize;
        let mut oldest = 0_usize;
        while !self.is_over.load(Ordering::SeqCst) {
            while self.open() < OPEN_MIN * 3 / 2 {
                let workflow = if number.is_multiple_of(2) {
                    "chain"
                } else {
                    "graph"
                };
                let id = format!("e-{number}");
                number += 1;
                let body =
                    json!({"workflow": {"name": workflow}, "executionId": id, "input": {"n": 0}});
                let (status, answer) = client.post("/v1/executions", &body).await?;
                ensure!(status == 202, "a start was answered {status}: {answer}");
                self.acknowledged.lock().unwrap().push((id, workflow));
            }
            // They end about in the order they began.
            let (id, _) = self.acknowledged.lock().unwrap()[oldest].clone();
            let Ok((200, view)) = client.get_once(&format!("/v1/executions/{id}")).await else {
                continue;
            };
            if view["status"] == "completed" {
                oldest += 1;
                *self.ended.lock().unwrap() = oldest;
            } else {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        Ok(())
    }
}

fn check_end(view: &Value, workflow: &str) -> anyhow::Result<()> {
    ensure!(view["status"] == "completed", "it ended {}", view["status"]);
    let right = match workflow {
        "chain" => view["output"]["n"] == 3,
        _ => view["output"] == json!({"c": 2, "d": 2}),
    };
    ensure!(right, "its output is wrong");
    Ok(())
}

/// No gap, one end, and nothing before what it needs.
async fn check_history(client: &Client, id: &str, workflow: &str) -> anyhow::Result<()> {
    let history = client
        .get(&format!("/v1/executions/{id}/history?limit=1000"))
        .await?;
    let events = history["events"]
        .as_array()
        .context("a history has events")?;
    let mut completed = Vec::new();
    for (place, event) in events.iter().enumerate() {
        ensure!(event["sequence"] == place + 1, "a gap before {event}");
        let task = event["data"]["task"].as_str().unwrap_or_default();
        match event["type"].as_str() {
            Some("task_completed") => {
                ensure!(!completed.contains(&task), "{task} completed twice");
                completed.push(task);
            }
            Some("task_scheduled" | "task_started") => {
                let needs = NEEDS
                    .iter()
                    .filter(|(of, needing, _)| *of == workflow && *needing == task);
                for need in needs.flat_map(|(_, _, needs)| *needs) {
                    ensure!(
                        completed.contains(need),
                        "{task} came before {need} had completed"
                    );
                }
            }
            _ => {}
        }
    }
    let ends = events
        .iter()
        .filter(|event| event["type"] == "execution_completed")
        .count();
    ensure!(ends == 1, "it ended {ends} times");
    Ok(())
}

/// A result that was acknowledged is the task's output.
fn check_result(ended: &HashMap<String, Value>, result: &Value) -> anyhow::Result<()> {
    let id = result["executionId"]
        .as_str()
        .context("a result has an execution")?;
    // A start whose answer was lost in the last kill is not ours to check.
    let Some(view) = ended.get(id) else {
        return Ok(());
    };
    let tasks = view["tasks"].as_array().context("a view has tasks")?;
    let task = tasks
        .iter()
        .find(|task| task["reference"] == result["task"])
        .context("the task is there")?;
    ensure!(
        task["output"] == result["output"],
        "{id}: {result} was acknowledged, but there is {task}"
    );
    Ok(())
}

/// Agent processes and where they write down what was acknowledged.
struct Agents(Vec<(Child, std::path::PathBuf)>);

impl Agents {
    fn start(url: &str, directory: &Path) -> anyhow::Result<Self> {
        let agent = |number: usize| {
            let file = directory.join(format!("accepted-{number}"));
            let child = Command::new(env!("CARGO_BIN_EXE_accountable-agent"))
                .arg(url)
                .arg(format!("agent-{number}"))
                .arg(&file)
                .spawn()?;
            Ok((child, file))
        };
        (0..AGENTS)
            .map(agent)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    /// Everything that was acknowledged to them. They must still be alive.
    fn accepted(mut self) -> anyhow::Result<Vec<Value>> {
        let mut results = Vec::new();
        for (child, file) in &mut self.0 {
            ensure!(child.try_wait()?.is_none(), "an agent has given up");
            child.kill()?;
            child.wait()?;
            for line in std::fs::read_to_string(file)?.lines() {
                // The last line may have been cut by the kill.
                results.extend(serde_json::from_str::<Value>(line));
            }
        }
        Ok(results)
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
