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

use eventflow_nats_server::{NatsServer, Options};

use crate::{
    process::{self, Said},
    verified::verified_at,
};

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

/// Where the services of a test keep everything: `EVENTFLOW_TEST_STORE`.
enum Store {
    /// In the test's own directory; where nothing is said.
    Sqlite,
    /// On a server of the test's own, which syncs everything that it acknowledges: `nats`.
    Nats(NatsServer),
    /// At this URL: the test itself sees to it.
    At(String),
}

impl Store {
    fn of_this_run() -> Self {
        match std::env::var("EVENTFLOW_TEST_STORE").as_deref() {
            Ok("nats") => Self::Nats(NatsServer::start(Options { sync_always: true })),
            Ok("sqlite") | Err(_) => Self::Sqlite,
            Ok(other) => panic!("EVENTFLOW_TEST_STORE is `{other}`: use sqlite or nats"),
        }
    }

    fn url(&self, directory: &Path) -> String {
        match self {
            Self::Sqlite => sqlite_url(directory),
            Self::Nats(server) => server.url(),
            Self::At(url) => url.clone(),
        }
    }
}

/// The embedded store of a test's directory.
pub(crate) fn sqlite_url(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("store").display())
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    store: Store,
    directory: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    /// As `http://127.0.0.1:<port>`; the same for all of its lives.
    pub url: String,
    /// What it said when it was ready.
    pub ready_line: String,
}

impl Service {
    /// Starts a service in `directory` (its store is `directory/store`, or a server of its own) and waits until it is
    /// ready.
    pub fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_in(directory, arguments, Vec::new())
    }

    /// The same with more in its environment.
    pub fn start_in(
        directory: &Path,
        arguments: &[&str],
        environment: Vec<(&'static str, PathBuf)>,
    ) -> Self {
        Self::start_on(Store::of_this_run(), directory, arguments, environment)
    }

    /// A service in `directory` on a store that the test sees to.
    pub fn start_at(store_url: String, directory: &Path, arguments: &[&str]) -> Self {
        Self::start_on(Store::At(store_url), directory, arguments, Vec::new())
    }

    fn start_on(
        store: Store,
        directory: &Path,
        arguments: &[&str],
        environment: Vec<(&'static str, PathBuf)>,
    ) -> Self {
        let port = free_port();
        let mut all = vec![
            "--listen".to_owned(),
            format!("127.0.0.1:{port}"),
            "--store".to_owned(),
            store.url(directory),
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
            store,
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

    /// Checks every invariant on its store, once it has ended, and panics with what does not hold.
    #[track_caller]
    pub fn verified(&self, evidence: &[serde_json::Value]) -> serde_json::Value {
        verified_at(&self.store_url(), evidence)
    }

    /// Where it keeps everything.
    pub fn store_url(&self) -> String {
        self.store.url(&self.directory)
    }

    /// The server that it keeps everything on, where it is one: to kill it, too.
    pub fn nats(&mut self) -> Option<&mut NatsServer> {
        match &mut self.store {
            Store::Sqlite | Store::At(_) => None,
            Store::Nats(server) => Some(server),
        }
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

    /// Its user and system time so far.
    pub fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("a running process has a status");
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        // The 14th and 15th of all, in hundredths of a second on every Linux.
        let ticks = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
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

    /// SIGSTOP: its connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT: it goes on with what reached it meanwhile.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(
            status.expect("kill runs").success(),
            "the service had ended already"
        );
    }

    /// SIGTERM; answers the exit code, `None` where it has not ended in time.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
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

/// The service's program in a directory, as if nothing were configured there but what `RUST_LOG` says.
pub fn program(directory: &Path) -> Command {
    let mut command = Command::new(binary("event-flow-workflow-execution"));
    without_configuration(&mut command).current_dir(directory);
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "warn");
    }
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
