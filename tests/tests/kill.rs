//! The real service under load, killed again and again: whatever it acknowledged comes to its right end.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service, verified};
use serde_json::{Value, json};

/// Kills where `EVENTFLOW_KILLS` says nothing.
const KILLS: usize = 20;
/// Executions that are open at any time, at least.
const OPEN_MIN: usize = 100;
/// Kept open, so that those that end within a moment leave the least.
const OPEN_WANTED: usize = 200;
/// So often an agent dies as well, with whatever it holds.
const AGENT_KILLED_EVERY: u64 = 7;
/// So often the service dies again before it is ready.
const KILLED_WHILE_STARTING_EVERY: u64 = 4;
/// Agents, each a process.
const AGENTS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(90);

/// Three in a row, each one more than the one before.
const CHAIN: &str = "
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
";

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
    let service = Service::start(directory.path(), &["--workflows", folder]);
    let client = Client::new(&service.url, PATIENCE)?;
    let agents = Agents::start(&service.url, directory.path())?;

    let began = Instant::now();
    let load = Arc::new(Load::default());
    let starting = tokio::spawn(load.clone().keep_busy(client.clone()));
    let killing = {
        let load = load.clone();
        tokio::task::spawn_blocking(move || kill(service, agents, kills, &load))
    };
    let killed = killing.await??;
    load.is_over.store(true, Ordering::SeqCst);
    starting.await??;
    let of_kills = began.elapsed();

    let mut ended = HashMap::new();
    let acknowledged = load.acknowledged.lock().unwrap().clone();
    for start in &acknowledged {
        let view = client.ended(&start.id).await?;
        check_end(&view, start.workflow).with_context(|| format!("{}: {view}", start.id))?;
        check_history(&client, start)
            .await
            .with_context(|| start.id.clone())?;
        check_repeat(&client, start, &view).await?;
        ended.insert(start.id.clone(), view);
    }
    let mut service = killed.service;
    let results = killed.agents.accepted()?;
    for result in &results {
        check_result(&ended, result)?;
    }
    // One more kill, with nobody to tidy up.
    service.kill();
    verified(directory.path(), &evidence(&acknowledged, &results));
    let least = (killed.at_ms.iter())
        .map(|&at_ms| open_at(at_ms, &acknowledged, &ended))
        .min()
        .unwrap_or_default();
    println!(
        "{kills} kills, {} acknowledged starts all ended right, {} acknowledged results all stand, \
         at least {least} open at each kill; {of_kills:.1?} of kills, {:.1?} to the last end",
        acknowledged.len(),
        results.len(),
        began.elapsed().saturating_sub(of_kills),
    );
    ensure!(
        least >= OPEN_MIN,
        "only {least} executions were open at some kill"
    );
    ensure!(!results.is_empty(), "no agent got any result acknowledged");
    Ok(())
}

/// What is left of the service after the last kill, and when each was.
struct Killed {
    service: Service,
    agents: Agents,
    at_ms: Vec<u64>,
}

/// Kills the service, now and then twice in a row, or an agent besides.
fn kill(
    mut service: Service,
    mut agents: Agents,
    kills: usize,
    load: &Load,
) -> anyhow::Result<Killed> {
    let mut at_ms = Vec::new();
    while at_ms.len() < kills {
        let number = at_ms.len() as u64;
        // From right after the start to deep in the work.
        std::thread::sleep(Duration::from_millis(20 + number * 37 % 280));
        load.wait_until_busy()?;
        if number % AGENT_KILLED_EVERY == 1 {
            agents.replace_one()?;
        }
        service.kill();
        at_ms.push(now_ms());
        if number % KILLED_WHILE_STARTING_EVERY == 2 && at_ms.len() < kills {
            service.kill_while_starting(Duration::from_millis(5 + number * 13 % 80));
            at_ms.push(now_ms());
        }
        // What was open before says little of what is open at the next kill.
        load.open.store(0, Ordering::SeqCst);
        service.restart();
    }
    Ok(Killed {
        service,
        agents,
        at_ms,
    })
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let since_epoch = since_epoch.expect("it is after 1970").as_millis();
    u64::try_from(since_epoch).expect("this is not the far future")
}

/// A start that was answered.
#[derive(Clone)]
struct Acknowledged {
    id: String,
    workflow: &'static str,
    at_ms: u64,
}

impl Acknowledged {
    fn body(id: &str, workflow: &str) -> Value {
        json!({"workflow": {"name": workflow}, "executionId": id, "input": {"n": 0}})
    }
}

/// Keeps executions open.
#[derive(Default)]
struct Load {
    acknowledged: Mutex<Vec<Acknowledged>>,
    /// Open when it was last looked.
    open: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    fn wait_until_busy(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.open.load(Ordering::SeqCst) < usize::midpoint(OPEN_MIN, OPEN_WANTED) {
            ensure!(began.elapsed() < PATIENCE, "too little is started");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts executions until it is over.
    async fn keep_busy(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let mut number = 0_usize;
        while !self.is_over.load(Ordering::SeqCst) {
            let list = client
                .get("/v1/executions?status=pending,running,waiting&limit=500")
                .await?;
            let open = list["executions"].as_array().map_or(0, Vec::len);
            self.open.store(open, Ordering::SeqCst);
            for _ in open..OPEN_WANTED {
                let workflow = ["chain", "graph"][number % 2];
                let id = format!("e-{number}");
                number += 1;
                let body = Acknowledged::body(&id, workflow);
                let (status, answer) = client.post("/v1/executions", &body).await?;
                ensure!(status == 202, "a start was answered {status}: {answer}");
                let at_ms = now_ms();
                self.acknowledged.lock().unwrap().push(Acknowledged {
                    id,
                    workflow,
                    at_ms,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// What the checker must find in the journal.
fn evidence(acknowledged: &[Acknowledged], results: &[Value]) -> Vec<Value> {
    let starts = acknowledged
        .iter()
        .map(|start| json!({"start": {"executionId": start.id, "status": "completed"}}));
    let results = results.iter().map(|result| json!({ "result": result }));
    starts.chain(results).collect()
}

/// How many executions had been acknowledged and had not ended at some time.
fn open_at(at_ms: u64, acknowledged: &[Acknowledged], ended: &HashMap<String, Value>) -> usize {
    let is_open = |start: &&Acknowledged| {
        start.at_ms <= at_ms
            && ended[&start.id]["endedAt"]
                .as_str()
                .and_then(|end| end.parse::<jiff::Timestamp>().ok())
                .is_some_and(|end| end.as_millisecond() >= i64::try_from(at_ms).unwrap_or(i64::MAX))
    };
    acknowledged.iter().filter(is_open).count()
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
async fn check_history(client: &Client, start: &Acknowledged) -> anyhow::Result<()> {
    let (id, workflow) = (&start.id, start.workflow);
    let events = client.history(id).await?;
    let mut completed = Vec::new();
    for (place, event) in events.iter().enumerate() {
        ensure!(event["sequence"] == place + 1, "a gap before {event}");
        let before = &events[place.saturating_sub(1)];
        // RFC 3339 in UTC with milliseconds sorts as text.
        ensure!(
            before["time"].as_str() <= event["time"].as_str(),
            "{event} is earlier than the event before"
        );
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

/// The same start again is the same execution.
async fn check_repeat(client: &Client, start: &Acknowledged, view: &Value) -> anyhow::Result<()> {
    let body = Acknowledged::body(&start.id, start.workflow);
    let (status, answer) = client.post("/v1/executions", &body).await?;
    ensure!(
        status == 202 && answer["createdAt"] == view["createdAt"],
        "{} was started again: {status} {answer}",
        start.id
    );
    Ok(())
}

/// A result that was acknowledged is the task's output.
fn check_result(ended: &HashMap<String, Value>, result: &Value) -> anyhow::Result<()> {
    let id = result["executionId"]
        .as_str()
        .context("a result has an execution")?;
    let view = ended.get(id).context("nobody started it")?;
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
struct Agents {
    url: String,
    directory: PathBuf,
    alive: VecDeque<Child>,
    files: Vec<PathBuf>,
}

impl Agents {
    fn start(url: &str, directory: &Path) -> anyhow::Result<Self> {
        let mut agents = Self {
            url: url.to_owned(),
            directory: directory.to_owned(),
            alive: VecDeque::new(),
            files: Vec::new(),
        };
        for _ in 0..AGENTS {
            agents.add()?;
        }
        Ok(agents)
    }

    fn add(&mut self) -> anyhow::Result<()> {
        let name = format!("agent-{}", self.files.len());
        let file = self.directory.join(format!("accepted-by-{name}"));
        let child = Command::new(env!("CARGO_BIN_EXE_accountable-agent"))
            .arg(&self.url)
            .arg(&name)
            .arg(&file)
            .spawn()?;
        self.alive.push_back(child);
        self.files.push(file);
        Ok(())
    }

    /// Kills the one that has lived longest; another takes its place.
    fn replace_one(&mut self) -> anyhow::Result<()> {
        let mut oldest = self.alive.pop_front().context("an agent is alive")?;
        end(&mut oldest)?;
        self.add()
    }

    /// Everything that was acknowledged to them. They must still be alive.
    fn accepted(mut self) -> anyhow::Result<Vec<Value>> {
        for agent in &mut self.alive {
            end(agent)?;
        }
        let mut results = Vec::new();
        for file in &self.files {
            for line in std::fs::read_to_string(file)?.lines() {
                // The last line may have been cut by the kill.
                results.extend(serde_json::from_str::<Value>(line));
            }
        }
        Ok(results)
    }
}

fn end(agent: &mut Child) -> anyhow::Result<()> {
    ensure!(agent.try_wait()?.is_none(), "an agent has given up");
    agent.kill()?;
    agent.wait()?;
    Ok(())
}

impl Drop for Agents {
    fn drop(&mut self) {
        for agent in &mut self.alive {
            // Fails where it has ended already.
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}
