//! The processes of a benchmark, and what the system knows of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use clap::ValueEnum;
use eventflow_agent::Call;
use rustix::process::{Resource, Rlimit};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{Bench, agent::Performed};
use crate::service::Service;

/// The service's program, beside this one.
const SERVICE: &str = "event-flow-workflow-execution";
/// A process that does not say within this that it is ready never will.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The agent has nothing left to do at the end of a load.
const END_WITHIN: Duration = Duration::from_secs(40);
/// Lines that a process may print before it says where it listens.
const LINES_BEFORE_READY_MAX: usize = 1_000;
/// `/proc` counts CPU time in hundredths of a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const MIB: f64 = 1024.0 * 1024.0;

/// A process that listens.
pub(crate) struct Spawned {
    pub(crate) url: String,
    child: Child,
    /// Ends with the process.
    _stdin: Option<ChildStdin>,
    /// Removed with it.
    store: Option<TempDir>,
}

/// The agent's process.
pub(crate) struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

/// One look at a service.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rss_peak_mib: Option<f64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) device_bytes: Option<u64>,
    pub(crate) fsyncs: Option<f64>,
    /// Of this process: the load.
    pub(crate) load_cpu_seconds: Option<f64>,
    pub(crate) agent_cpu_seconds: Option<f64>,
}

/// As many sockets as the system allows: a load has one per execution under way. Children inherit it.
pub(crate) fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it is refused, the usual limit is enough for most loads, and a lack of sockets is told as such.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

/// The services of a benchmark: one on a store of its own, or so many on NATS.
pub(crate) async fn services(bench: &Bench, prefix: &str) -> anyhow::Result<Vec<Spawned>> {
    let mut services = Vec::new();
    for _ in 0..bench.nodes {
        services.push(service(bench, prefix).await?);
    }
    Ok(services)
}

/// A service with a directory of its own in the working directory, whose disk is then what is measured.
async fn service(bench: &Bench, prefix: &str) -> anyhow::Result<Spawned> {
    let program = beside(SERVICE)?;
    let store = tempfile::Builder::new()
        .prefix(".eventflow-bench-")
        .tempdir_in(".")
        .context("cannot make a directory for the store here")?;
    let directory = store.path().canonicalize()?;
    let mut command = Command::new(program);
    command
        .args(["--listen", "127.0.0.1:0"])
        .current_dir(&directory)
        .env(
            "RUST_LOG",
            std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into()),
        );
    if let Some(url) = &bench.nats {
        command.args(["--store", url, "--nats-prefix", prefix]);
    } else {
        let store = directory.join("store");
        command
            .arg("--store")
            .arg(format!("sqlite:{}", store.display()));
    }
    if let Some(partitions) = bench.partitions {
        command.args(["--partitions", &partitions.to_string()]);
    }
    let mut spawned = listening(command)
        .await
        .context("the service did not start")?;
    spawned.store = Some(store);
    Ok(spawned)
}

/// The stub of the `http` workload.
pub(crate) async fn stub() -> anyhow::Result<Spawned> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bench-stub");
    listening(command).await.context("the stub did not start")
}

async fn listening(mut command: Command) -> anyhow::Result<Spawned> {
    let (mut child, mut lines) = spawn(&mut command)?;
    let url = tokio::time::timeout(READY_WITHIN, async {
        for _ in 0..LINES_BEFORE_READY_MAX {
            let Some(line) = lines.next_line().await? else {
                bail!("it ended: {}", child.wait().await?);
            };
            if let Some(url) = line
                .split_whitespace()
                .find(|word| word.starts_with("http://"))
            {
                return Ok(url.trim_end_matches(['/', ',', '.']).to_owned());
            }
        }
        bail!("it printed {LINES_BEFORE_READY_MAX} lines, and no URL")
    })
    .await
    .map_err(|_elapsed| anyhow!("it was not ready within {} s", READY_WITHIN.as_secs()))??;
    // Whatever it prints later must not fill the pipe and stop it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Spawned {
        url,
        _stdin: child.stdin.take(),
        child,
        store: None,
    })
}

/// The agent, ready to lease.
pub(crate) async fn agent(
    url: &str,
    prefix: &str,
    token: Option<&str>,
    bench: &Bench,
) -> anyhow::Result<Agent> {
    let results = bench
        .results
        .to_possible_value()
        .context("every way has a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([
            "bench-agent",
            "--server",
            url,
            "--prefix",
            prefix,
            "--results",
            results.get_name(),
        ])
        .args(["--step-ms", &bench.step_ms.to_string()])
        .args(["--fail-percent", &bench.fail_percent.to_string()])
        .args(["--concurrency", &bench.agent_concurrency.to_string()]);
    if let Some(token) = token {
        command.env("EVENTFLOW_TOKEN", token);
    }
    let (mut child, mut lines) = spawn(&mut command)?;
    let first = tokio::time::timeout(READY_WITHIN, lines.next_line()).await;
    ensure!(matches!(first, Ok(Ok(Some(_)))), "the agent did not start");
    Ok(Agent {
        stdin: child.stdin.take(),
        child,
        lines,
    })
}

impl Agent {
    /// Lets it end, and gives what it counted.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Performed> {
        drop(self.stdin.take());
        let last = tokio::time::timeout(END_WITHIN, self.lines.next_line()).await;
        let last = last.context("the agent did not end")??;
        let last = last.context("the agent ended without its count")?;
        self.child.wait().await?;
        Ok(serde_json::from_str(&last)?)
    }
}

/// Waits for services that must not end.
pub(crate) async fn died(spawned: &mut [Spawned]) -> String {
    if spawned.is_empty() {
        std::future::pending::<()>().await;
    }
    let ends = spawned
        .iter_mut()
        .map(|spawned| Box::pin(ended(&mut spawned.child)));
    futures::future::select_all(ends).await.0
}

/// Waits for an agent that must not end.
pub(crate) async fn agent_died(agent: &mut Option<Agent>) -> String {
    match agent {
        Some(agent) => ended(&mut agent.child).await,
        None => std::future::pending().await,
    }
}

async fn ended(child: &mut Child) -> String {
    match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", command.as_std().get_program().display()))?;
    let stdout = child.stdout.take().context("its stdout is a pipe")?;
    Ok((child, BufReader::new(stdout).lines()))
}

fn beside(program: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().unwrap_or(Path::new(".")).join(program);
    ensure!(
        path.exists(),
        "{} is not there: build it with `cargo build --release --package {program}`",
        path.display()
    );
    Ok(path)
}

impl Measured {
    /// Looks at services now, all together; at their processes only where they were spawned here.
    pub(crate) async fn now(
        services: &[Service],
        spawned: &[Spawned],
        agent: Option<&Agent>,
    ) -> Self {
        let mut counts = Vec::new();
        for service in services {
            counts.extend(fsyncs(service).await);
        }
        let fsyncs = counts.into_iter().reduce(|sum, count| sum + count);
        let cpu_of = |pid: u32| cpu_seconds(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
        let load_cpu_seconds = cpu_of(std::process::id());
        let agent_cpu_seconds = agent.and_then(|agent| agent.child.id()).and_then(cpu_of);
        let processes: Vec<_> = spawned.iter().filter_map(|one| one.child.id()).collect();
        let read = |pid: &u32, file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
        };
        let rss = processes
            .iter()
            .map(|pid| field(&read(pid, "status"), "VmHWM:"));
        let bytes = processes
            .iter()
            .map(|pid| number_after(&read(pid, "io"), "write_bytes:"));
        let is_known = !processes.is_empty();
        Self {
            rss_peak_mib: rss
                .sum::<Option<f64>>()
                .filter(|_| is_known)
                .map(|kib| kib * 1024.0 / MIB),
            cpu_seconds: processes
                .iter()
                .map(|&pid| cpu_of(pid))
                .sum::<Option<f64>>()
                .filter(|_| is_known),
            device_bytes: bytes.sum::<Option<u64>>().filter(|_| is_known),
            fsyncs,
            load_cpu_seconds,
            agent_cpu_seconds,
        }
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// User and system time: the 14th and 15th fields, the second of which ends with the last `)`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

async fn fsyncs(service: &Service) -> Option<f64> {
    let answer = service.ask(Call::get("/metrics")).await.ok()?;
    counted(&String::from_utf8_lossy(&answer.body), "fsync")
}

/// The sum of the counters whose name holds a word, in Prometheus' text format.
fn counted(metrics: &str, word: &str) -> Option<f64> {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let values = samples.filter_map(|line| {
        let name = line.split(['{', ' ']).next()?;
        let counter = name.contains(word) && name.ends_with("_total");
        counter.then(|| line.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(
            field("VmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n", "VmHWM:"),
            Some(2048.0)
        );
        assert_eq!(
            number_after("read_bytes: 1\nwrite_bytes: 77\n", "write_bytes:"),
            Some(77)
        );
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn counters_of_a_name_are_added_up() {
        let metrics = "# TYPE eventflow_journal_fsyncs_total counter\n\
                       eventflow_journal_fsyncs_total{partition=\"0\"} 3\n\
                       eventflow_journal_fsyncs_total{partition=\"1\"} 4\n\
                       eventflow_fsync_seconds_sum 9\n";
        assert_eq!(counted(metrics, "fsync"), Some(7.0));
        assert_eq!(counted(metrics, "nothing"), None);
    }
}
