//! The real service as a process: started, killed and started again on the same directory.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// A service that is not ready by then never will be.
const READY_MAX: Duration = Duration::from_secs(30);

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

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    directory: PathBuf,
    arguments: Vec<String>,
    /// As `http://127.0.0.1:<port>`; the same for all of its lives.
    pub url: String,
    /// What it said when it was ready.
    pub ready_line: String,
}

impl Service {
    /// Starts a service in `directory` (its store is `directory/store`) and waits until it is ready.
    pub fn start(directory: &Path, arguments: &[&str]) -> Self {
        let port = free_port();
        let mut all = vec![
            "--listen".to_owned(),
            format!("127.0.0.1:{port}"),
            "--store".to_owned(),
            format!("sqlite:{}", directory.join("store").display()),
        ];
        all.extend(arguments.iter().map(ToString::to_string));
        let mut child = command(directory, &all).spawn().expect("the service runs");
        let ready_line = ready_line(&mut child);
        let url = format!("http://127.0.0.1:{port}");
        Self {
            child,
            directory: directory.to_owned(),
            arguments: all,
            url,
            ready_line,
        }
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

    /// `kill -9`.
    pub fn kill(&mut self) {
        // Fails only where it has ended already, which `wait` tells as well.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM; answers the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .expect("kill runs");
        assert!(status.success(), "the service had ended already");
        self.child.wait().expect("a child can be waited for").code()
    }

    fn spawn(&self) -> Child {
        command(&self.directory, &self.arguments)
            .spawn()
            .expect("the service runs")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(directory: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(binary("event-flow-workflow-execution"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped());
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
