//! One server process: its ports, its directory, its life and death.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{
    binary, monitor,
    port::{self, Port},
};

/// A start takes some 50 ms; a machine that builds beside the tests may be slow.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at a server that is starting.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Somebody without a lease may take a port between our look and the server's.
const STARTS_MAX: usize = 5;
/// The end of a log says why a server did not start.
const LOG_TAIL_LINES: usize = 20;

/// How a server keeps its promises.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// `sync_interval: always`: an acknowledged message is on the disk. Otherwise the server's default, which
    /// acknowledges what the kernel has and syncs every two minutes.
    pub sync_always: bool,
}

/// A `nats-server` with `JetStream` on 127.0.0.1, with ports and a directory of its own; killed when dropped.
#[derive(Debug)]
pub struct NatsServer {
    name: String,
    client: Port,
    monitor: Port,
    dir: TempDir,
    /// What stands in its configuration and is another thing here: where it listens and keeps its store.
    overrides: Vec<String>,
    /// `None` while it is dead.
    process: Option<Process>,
}

/// A running server, and a shell that kills it should this process be killed before it can do so itself.
#[derive(Debug)]
struct Process {
    server: Child,
    /// Reads from a pipe that only this process holds: its end is our end.
    watchdog: Child,
}

/// Where the servers of a cluster listen for each other.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) own: u16,
    pub(crate) others: Vec<u16>,
}

impl NatsServer {
    /// Starts a single server and waits until `JetStream` is ready.
    pub fn start(options: Options) -> Self {
        Self::try_start(options).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Starts a single server with this configuration, whatever it says of ports and the store: those are its own.
    pub fn configured(text: &str) -> Self {
        let start = || {
            let mut server = Self::prepare("configured", Options::default(), None)?;
            let store = server.dir.path().join("store").display().to_string();
            let [client, monitor] = [&server.client, &server.monitor];
            let (client, monitor) = (client.number.to_string(), monitor.number.to_string());
            let overrides = [
                "--addr",
                "127.0.0.1",
                "--port",
                &client,
                "--http_port",
                &monitor,
            ];
            server.overrides = [&overrides[..], &["--store_dir", &store]]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect();
            fs::write(server.dir.path().join("server.conf"), text)
                .context("cannot write the server's configuration")?;
            server.spawn()?;
            server.wait_ready()?;
            Ok(server)
        };
        let tries = std::iter::repeat_with(start).take(STARTS_MAX);
        let mut taken = tries.skip_while(|tried| tried.as_ref().is_err_and(is_address_in_use));
        let server = taken.next();
        server
            .unwrap_or_else(|| panic!("no port is free after {STARTS_MAX} tries"))
            .unwrap_or_else(|error: anyhow::Error| panic!("{error:#}"))
    }

    /// Where clients connect: `nats://127.0.0.1:<port>`, the same after a restart.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.client.number)
    }

    /// Where its system account connects, which alone is told how the server is configured.
    pub fn system_url(&self) -> String {
        format!("nats://system:system@127.0.0.1:{}", self.client.number)
    }

    /// Its name, as a stream's information gives it for leaders and replicas.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the process at once (SIGKILL) and waits for its end: what it had not written is lost to it.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The watchdog first: once the server is reaped, its id may be somebody else's. An error means that the
            // process had ended by itself.
            for child in [&mut process.watchdog, &mut process.server] {
                child.kill().ok();
                child.wait().ok();
            }
        }
    }

    /// Starts the server again with the same directory and ports, after a kill where it still lives, and waits until
    /// `JetStream` is ready.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn()
            .and_then(|()| self.wait_ready())
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Freezes the process (SIGSTOP): connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_stopped() {
            assert!(Instant::now() < deadline, "the server does not stop");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets a frozen process go on (SIGCONT): it carries out what reached it meanwhile.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn try_start(options: Options) -> Result<Self> {
        for _ in 1..STARTS_MAX {
            match Self::start_once(options) {
                Err(error) if is_address_in_use(&error) => {}
                result => return result,
            }
        }
        Self::start_once(options)
    }

    fn start_once(options: Options) -> Result<Self> {
        let mut server = Self::prepare("single", options, None)?;
        server.spawn()?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Leases ports and writes the configuration; starts nothing.
    pub(crate) fn prepare(name: &str, options: Options, routes: Option<&Routes>) -> Result<Self> {
        let dir = tempfile::tempdir_in(binary::dir("run")?)
            .context("cannot make the server's directory")?;
        let server = Self {
            name: name.to_owned(),
            client: port::lease()?,
            monitor: port::lease()?,
            dir,
            overrides: Vec::new(),
            process: None,
        };
        fs::write(
            server.dir.path().join("server.conf"),
            server.config(options, routes)?,
        )
        .context("cannot write the server's configuration")?;
        Ok(server)
    }

    pub(crate) fn spawn(&mut self) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))
            .context("cannot open the server's log")?;
        let server = Command::new(binary::path()?)
            .arg("--config")
            .arg(self.dir.path().join("server.conf"))
            .args(&self.overrides)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start nats-server")?;
        let watchdog = Command::new("sh")
            .args(["-c", "read _; kill -9 $0", &server.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start a shell")?;
        self.process = Some(Process { server, watchdog });
        Ok(())
    }

    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !monitor::is_healthy(self.monitor.number) {
            let ended = match &mut self.process {
                Some(process) => process.server.try_wait()?.is_some(),
                None => true,
            };
            if ended || Instant::now() > deadline {
                let what = if ended { "ended" } else { "is not ready" };
                bail!("nats-server {} {what}; its log: {}", self.name, self.log());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    pub(crate) fn leads_complete_cluster(&self, size: usize) -> bool {
        self.process.is_some()
            && monitor::leads_complete_cluster(self.monitor.number, &self.name, size)
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(LOG_TAIL_LINES).collect();
        lines.iter().rev().fold(String::new(), |mut tail, line| {
            tail.push('\n');
            tail.push_str(line);
            tail
        })
    }

    fn config(&self, options: Options, routes: Option<&Routes>) -> Result<String> {
        let mut config = format!(
            "server_name: {}\nlisten: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\n\
             accounts {{ $SYS: {{ users: [{{user: system, password: system}}] }} }}\n\
             jetstream {{\n  store_dir: \"{}\"\n",
            self.name,
            self.client.number,
            self.monitor.number,
            self.dir.path().join("store").display()
        );
        if options.sync_always {
            config.push_str("  sync_interval: always\n");
        }
        config.push_str("}\n");
        if let Some(Routes { own, others }) = routes {
            let urls: Vec<_> = others
                .iter()
                .map(|port| format!("\"nats://127.0.0.1:{port}\""))
                .collect();
            let urls = urls.join(", ");
            write!(
                config,
                "cluster {{\n  name: eventflow\n  listen: \"127.0.0.1:{own}\"\n  routes: [{urls}]\n  \
                 no_advertise: true\n}}\n"
            )?;
        }
        Ok(config)
    }

    fn signal(&self, signal: &str) {
        // The shell's own `kill`: small systems have no program of that name.
        let status = Command::new("sh")
            .args(["-c", &format!("kill {signal} {}", self.id())])
            .status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "`kill {signal}` failed: {status:?}"
        );
    }

    fn id(&self) -> u32 {
        self.process.as_ref().expect("the server lives").server.id()
    }

    /// Whether a signal to stop has reached the process; where there is no `/proc` to tell, it is believed at once.
    fn is_stopped(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.id())).map_or(true, |stat| {
            // After the program's name in parentheses.
            stat.rsplit(") ")
                .next()
                .is_some_and(|fields| fields.starts_with('T'))
        })
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn is_address_in_use(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("address already in use")
}
