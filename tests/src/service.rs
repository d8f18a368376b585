//! The real service as a process: started, killed and started again on the same directory.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use crate::process::{self, Said};

/// A service that is not ready by then never will be.
const READY_MAX: Duration = Duration::from_secs(30);

/// How long the service may take to end once it was told to (INTERFACES section 1).
pub const STOP_MAX: Duration = Duration::from_secs(10);
/// Linux gives outgoing connections ports from 32,768 on.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// The path of one of the workspace's programs, built as this test was: in release where it is.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "event-flow-workflow-execution",
            "--package",
            "eventflow",
        ]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        // What cargo said of this package is not to look like a change to those that watch it, as ring does.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                build.env_remove(name);
            }
        }
        let status = build.current_dir(workspace()).status().expect("cargo runs");
        assert!(status.success(), "the programs do not build");
        // A test lies in <profile>/deps, beside the programs of the same profile.
        let own = std::env::current_exe().expect("a test has a path");
        own.ancestors()
            .nth(2)
            .expect("a test lies below its profile's folder")
            .to_owned()
    });
    directory.join(name)
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the workspace")
}

/// A port that nobody listens on, and that no outgoing connection gets: otherwise a client that knocks while the service
/// is down could take the service's own port.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests of other processes begin elsewhere.
    let begin = u16::try_from(std::process::id() % u32::from(PORTS)).expect("it is below PORTS");
    for _ in 0..PORTS {
        let offset = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = FIRST_PORT + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {FIRST_PORT} on is free");
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    directory: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    /// As `http://127.0.0.1:<port>`; the same for all of its lives.
    pub url: String,
    /// What it said when it was ready.
    pub ready_line: String,
}

impl Service {
    /// Starts a service in `directory` (its store is `directory/store`) and waits until it is ready.
    pub fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_in(directory, arguments, Vec::new())
    }

    /// The same with more in its environment.
    pub fn start_in(
        directory: &Path,
        arguments: &[&str],
        environment: Vec<(&'static str, PathBuf)>,
    ) -> Self {
        let port = free_port();
        let mut all = vec![
            "--listen".to_owned(),
            format!("127.0.0.1:{port}"),
            "--store".to_owned(),
            format!("sqlite:{}", directory.join("store").display()),
        ];
        all.extend(arguments.iter().map(ToString::to_string));
        let mut child = command(directory, &all)
            .envs(environment.clone())
            .spawn()
            .expect("the service runs");
        let ready_line = ready_line(&mut child);
        let url = format!("http://127.0.0.1:{port}");
        Self {
            child,
            directory: directory.to_owned(),
            arguments: all,
            environment,
            url,
            ready_line,
        }
    }

    /// Starts a service with the workflows that ship with it.
    pub fn with_fixtures(directory: &Path) -> Self {
        let fixtures = workspace().join("fixtures/workflows");
        let fixtures = fixtures.to_str().expect("the workspace's path is text");
        Self::start(directory, &["--workflows", fixtures])
    }

    /// Back again on the same store and port, after it was killed or has ended.
    pub fn restart(&mut self) {
        self.child = self.spawn();
        self.ready_line = ready_line(&mut self.child);
    }

    /// Back again for a moment, whether or not that is enough to be ready.
    pub fn kill_while_starting(&mut self, after: Duration) {
        self.child = self.spawn();
        std::thread::sleep(after);
        self.kill();
    }

    /// Its resident memory, MiB.
    pub fn rss_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("a running process has a status");
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a status holds VmRSS in kB") / 1024
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        let path = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(path)
            .expect("a running process has threads")
            .count()
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(path)
            .expect("a running process has files")
            .count()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // Fails only where it has ended already, which `wait` tells as well.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM; answers the exit code, `None` where it has not ended in time.
    pub fn terminate(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .expect("kill runs");
        assert!(status.success(), "the service had ended already");
        process::ended_within(&mut self.child, STOP_MAX).and_then(|status| status.code())
    }

    /// The command line against this service, run to its end.
    pub fn eventflow(&self, arguments: &[&str]) -> Said {
        process::run(&mut self.eventflow_command(arguments))
    }

    /// The command line against this service.
    pub fn eventflow_command(&self, arguments: &[&str]) -> Command {
        let mut command = eventflow(arguments);
        command.env("EVENTFLOW_SERVER", &self.url);
        command
    }

    fn spawn(&self) -> Child {
        command(&self.directory, &self.arguments)
            .envs(self.environment.clone())
            .spawn()
            .expect("the service runs")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The service's program in a directory, as if nothing were configured there.
pub fn program(directory: &Path) -> Command {
    let mut command = Command::new(binary("event-flow-workflow-execution"));
    without_configuration(&mut command)
        .current_dir(directory)
        .env("RUST_LOG", "warn");
    command
}

/// The command line's program, as if nothing were configured.
pub fn eventflow(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("eventflow"));
    without_configuration(&mut command).args(arguments);
    command
}

fn without_configuration(command: &mut Command) -> &mut Command {
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("EVENTFLOW_")) {
        command.env_remove(name);
    }
    command
}

fn command(directory: &Path, arguments: &[String]) -> Command {
    let mut command = program(directory);
    command.args(arguments).stdout(Stdio::piped());
    command
}

fn ready_line(child: &mut Child) -> String {
    let output = child.stdout.take().expect("it is piped");
    let began = Instant::now();
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .expect("its output can be read");
    assert!(
        line.contains("ready on http://"),
        "the service ended with {:?} after {:?} instead of being ready: {line}",
        child.wait(),
        began.elapsed()
    );
    assert!(
        began.elapsed() < READY_MAX,
        "the service took {:?} to be ready",
        began.elapsed()
    );
    line
}
