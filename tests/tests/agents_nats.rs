//! Agents over NATS against the real service: any program, and the examples in Python and TypeScript.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use eventflow_domain::Digest;
use eventflow_nats_server::{NatsServer, Options};
use eventflow_tests::{
    Client, Service,
    process::{self, run_within},
    service::eventflow,
    workspace,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const DOUBLE: &str = "\
document: {dsl: 1.0.3, namespace: default, name: double, version: 1.0.0}
do:
  - first:
      call: agent:1.0.0@default
      with: {capability: double, input: '${ . }'}
  - second:
      call: agent:1.0.0@default
      with: {capability: double, input: '${ {n: .doubled} }'}
";
/// Executions at a time: more than an agent has slots.
const EXECUTIONS: u64 = 15;
/// A service that is just there answers within this, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// An agent that has nothing to do ends within the 5 s that it waits for a task.
const AGENT_ENDS_WITHIN: Duration = Duration::from_secs(15);
/// Fetching the packages of an example, once.
const INSTALL_WITHIN: Duration = Duration::from_mins(5);

/// A service on a NATS server of its own, with a workflow of two agent steps.
struct Site {
    server: NatsServer,
    client: Client,
    _service: Service,
    _directory: TempDir,
}

impl Site {
    async fn start() -> anyhow::Result<Self> {
        let server = NatsServer::start(Options { sync_always: true });
        let directory = tempfile::tempdir()?;
        let service = Service::start_at(server.url(), directory.path(), &[]);
        let client = Client::new(&service.url, PATIENCE)?;
        let registered = client
            .request("POST".parse()?, "/v1/workflows")
            .header("content-type", "application/yaml")
            .body(DOUBLE)
            .send()
            .await?;
        ensure!(registered.status() == 201, "{}", registered.text().await?);
        Ok(Self {
            server,
            client,
            _service: service,
            _directory: directory,
        })
    }

    /// Runs executions at a time, and checks what became of each and who performed it.
    async fn doubles_by(&self, agent: &str) -> anyhow::Result<()> {
        let inputs: Vec<Value> = (0..EXECUTIONS).map(|n| json!({ "n": n })).collect();
        let runs = inputs.iter().map(|input| self.client.run("double", input));
        for (n, view) in futures::future::try_join_all(runs)
            .await?
            .iter()
            .enumerate()
        {
            assert_eq!(view["output"], json!({ "doubled": 4 * n }), "{view:#}");
            for task in view["tasks"].as_array().context("tasks")? {
                assert_eq!(task["agent"], agent, "{view:#}");
                assert_eq!(task["attempt"], 1, "{view:#}");
            }
        }
        Ok(())
    }
}

/// An agent that is a process; killed when dropped.
struct Agent(Child);

impl Agent {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().expect("the agent runs"))
    }

    /// SIGTERM: it ends by itself, and well.
    fn ends(mut self) {
        let id = self.0.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.expect("kill runs").success(), "it had ended already");
        let status = process::ended_within(&mut self.0, AGENT_ENDS_WITHIN);
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_program_is_an_agent_over_nats() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let script = r#"read -r input; n=${input##*:}; echo "{\"doubled\": $((2 * ${n%\}*}))}""#;
    let url = site.server.url();
    let mut command = eventflow(&["agent", "exec", "--nats", &url, "--concurrency", "4"]);
    let agent = Agent::start(command.args(["-C", "double", "--", "sh", "-c", script]));
    site.doubles_by("exec").await?;
    agent.ends();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_python_is_an_agent() -> anyhow::Result<()> {
    let source = example("python");
    let packages = installed(&source.join("requirements.txt"), "python", |folder| {
        let pip = ["-m", "pip", "install", "--disable-pip-version-check"];
        let mut command = Command::new("python3");
        command.args(pip).arg("--target").arg(folder);
        command.arg("-r").arg(source.join("requirements.txt"));
        command
    })?;
    let site = Site::start().await?;
    let agent = Agent::start(
        Command::new("python3")
            .arg(source.join("agent.py"))
            .env("PYTHONPATH", packages)
            .env("NATS_URL", site.server.url()),
    );
    site.doubles_by("python").await?;
    agent.ends();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_typescript_is_an_agent() -> anyhow::Result<()> {
    let source = example("typescript");
    let folder = installed(&source.join("package-lock.json"), "typescript", |folder| {
        for file in ["package.json", "package-lock.json", "tsconfig.json"] {
            fs::copy(source.join(file), folder.join(file)).expect("a file can be copied");
        }
        let mut command = Command::new("npm");
        command.args(["ci", "--no-audit", "--no-fund"]);
        command.current_dir(folder);
        command
    })?;
    fs::copy(source.join("agent.ts"), folder.join("agent.ts"))?;
    let mut build = Command::new("npm");
    run_within(
        build.args(["run", "build"]).current_dir(&folder),
        INSTALL_WITHIN,
    )
    .exits(0);
    let site = Site::start().await?;
    let agent = Agent::start(
        Command::new("node")
            .arg("agent.js")
            .current_dir(&folder)
            .env("NATS_URL", site.server.url()),
    );
    site.doubles_by("typescript").await?;
    agent.ends();
    Ok(())
}

fn example(language: &str) -> PathBuf {
    workspace().join("examples/agents").join(language)
}

/// A folder below `target/` where the packages of an example are, fetched once for each content of the file that pins
/// them. A tool that is missing fails the test.
fn installed(
    pins: &Path,
    language: &str,
    install: impl FnOnce(&Path) -> Command,
) -> anyhow::Result<PathBuf> {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("agents");
    fs::create_dir_all(&all)?;
    // One process fetches, the others wait; the lock goes with the file.
    let lock = File::create(all.join(format!("{language}.lock")))?;
    lock.lock()?;
    let digest = Digest::of(&fs::read(pins)?).to_string();
    let folder = all.join(format!("{language}-{}", &digest[..16]));
    if !folder.exists() {
        // Installed aside and renamed, so that a fetch that was killed leaves nothing that looks complete.
        let aside = tempfile::tempdir_in(&all)?;
        run_within(&mut install(aside.path()), INSTALL_WITHIN).exits(0);
        fs::rename(aside.keep(), &folder)?;
    }
    Ok(folder)
}
