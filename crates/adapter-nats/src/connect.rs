//! Connecting to NATS: where, as whom, and whether the server is one that EventFlow can be kept on.

mod context;

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, Event, ServerAddr, ServerInfo,
    jetstream::{self, ErrorCode, context::AccountErrorKind},
};
use eventflow_ports::Source;
use percent_encoding::percent_decode_str;
use semver::Version;
use tokio::time::{Instant, sleep};

/// How long servers that cannot be reached are tried: some are only starting.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// One server of several that does not answer must not take all of that.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// A connection that was lost is tried again for ever: at once, and then ever more seldom, up to this. A service that
/// waits for a server costs next to nothing so, and goes on a second after that is back.
const RECONNECT_EVERY: Duration = Duration::from_secs(1);
/// The connection is given up after three pings without an answer: one that is cut without a word is noticed before
/// anybody has waited for 10 s.
const PING_EVERY: Duration = Duration::from_secs(2);
/// The first release that has what is built on.
const SERVER_OLDEST: Version = Version::new(2, 15, 0);
/// The environment's servers, as every tool of NATS reads them.
const SERVERS_VARIABLE: &str = "NATS_URL";
/// Where a server is looked for if nothing is said.
const SERVER_DEFAULT: &str = "nats://127.0.0.1:4222";

/// Where to connect, and as whom. What is given here goes before what the context says.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// What the server shows of the connection.
    pub name: String,
    /// Servers, `nats://host:port` or `tls://host:port`; where there are none the context's, those of `NATS_URL`, or else
    /// this machine's.
    pub urls: Vec<String>,
    /// A credentials file: a JWT and its seed.
    pub creds: Option<PathBuf>,
    /// A file with an nkey's seed.
    pub nkey: Option<PathBuf>,
    /// Certificates that the server's is checked against, besides the system's.
    pub tls_ca: Option<PathBuf>,
    /// The client's own certificate, and its key.
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// A context of the `nats` tool.
    pub context: Option<String>,
    /// Where the contexts lie; `~/.config/nats/context` where nothing is said.
    pub contexts: Option<PathBuf>,
}

impl fmt::Debug for ConnectOptions {
    /// Without URLs, which may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("name", &self.name)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection: each prints as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// This is no server's address.
    #[error("`{given}` is not the address of a NATS server ({cause}): use nats://host:port")]
    Url {
        /// Without the credentials in it.
        given: String,
        /// What is wrong with it.
        cause: io::Error,
    },
    /// The context cannot be used.
    #[error("the NATS context `{name}` in {} cannot be used: {reason}", file.display())]
    Context {
        /// As it was given.
        name: String,
        /// Where it lies.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file with credentials or certificates cannot be used.
    #[error("cannot use the file {}: {reason}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No server answers.
    #[error(
        "no NATS server answers at {servers} within {} s: {cause}; start one, or say another address", within.as_secs()
    )]
    Unreachable {
        /// All that were tried.
        servers: String,
        /// For so long.
        within: Duration,
        /// What the last one said.
        cause: Source,
    },
    /// A server answers, and does not want us.
    #[error("the NATS server at {servers} refuses the connection: {cause}; check the credentials")]
    Refused {
        /// All that were tried.
        servers: String,
        /// Its reason.
        cause: Source,
    },
    /// The server lacks what is built on.
    #[error(
        "NATS server {server} has version {version}, EventFlow needs {SERVER_OLDEST} or newer: upgrade the server"
    )]
    TooOld {
        /// Its name.
        server: String,
        /// Its version.
        version: String,
    },
    /// Nothing can be kept there.
    #[error(
        "NATS server {server} has no JetStream for this account: {reason}; enable it in the server's configuration"
    )]
    NoJetStream {
        /// Its name.
        server: String,
        /// What it says.
        reason: String,
    },
}

/// Connects to a server of version 2.15 or newer with `JetStream`. From then on the client connects again by itself, for
/// as long as it lives; so it does to the other servers of a cluster, which it learns of.
pub async fn connect(options: &ConnectOptions) -> Result<Client, ConnectError> {
    let deadline = Instant::now() + CONNECT_WITHIN;
    let (client, servers) = reach(options, deadline).await?;
    check_jetstream(&client, servers, deadline).await?;
    Ok(client)
}

/// The same for the system account, which has no `JetStream`: see [`Findings::look`](crate::Findings::look).
pub async fn connect_system(options: &ConnectOptions) -> Result<Client, ConnectError> {
    let (client, _) = reach(options, Instant::now() + CONNECT_WITHIN).await?;
    Ok(client)
}

/// A client of a server that is new enough, and the servers' names.
async fn reach(
    options: &ConnectOptions,
    deadline: Instant,
) -> Result<(Client, String), ConnectError> {
    let login = context::resolve(options)?;
    let servers = login.servers()?;
    let names = listed(&servers);
    let client = loop {
        let connecting = login.options(&options.name, &servers)?;
        let error = match connecting.connect(&servers[..]).await {
            Ok(client) => break client,
            Err(error) => error,
        };
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                return Err(ConnectError::Refused {
                    servers: names,
                    cause: error.into(),
                });
            }
            _ if Instant::now() < deadline => sleep(TRY_AGAIN).await,
            _ => return Err(unreachable(names, error)),
        }
    };
    check_version(&client.server_info())?;
    Ok((client, names))
}

/// Everything that a connection needs, read and put together.
#[derive(Default)]
struct Login {
    urls: Vec<String>,
    identity: Identity,
    tls_ca: Option<PathBuf>,
    tls_identity: Option<(PathBuf, PathBuf)>,
    tls_first: bool,
    inbox_prefix: Option<String>,
}

/// As whom.
#[derive(Default)]
enum Identity {
    /// What the URLs say, if anything.
    #[default]
    Nobody,
    Creds(PathBuf),
    Nkey(PathBuf),
    Password {
        user: String,
        password: String,
    },
    Token(String),
}

impl Login {
    fn servers(&self) -> Result<Vec<ServerAddr>, ConnectError> {
        let usual = || {
            let said = env::var(SERVERS_VARIABLE).ok();
            said.filter(|urls| !urls.trim().is_empty())
                .unwrap_or_else(|| SERVER_DEFAULT.to_owned())
        };
        let given = match &self.urls[..] {
            [] => usual(),
            urls => urls.join(","),
        };
        let urls = given.split(',').map(str::trim);
        let parse = |url: &str| {
            url.parse::<ServerAddr>().map_err(|cause| {
                let given = url.rsplit('@').next().unwrap_or_default().to_owned();
                ConnectError::Url { given, cause }
            })
        };
        urls.map(parse).collect()
    }

    fn options(
        &self,
        name: &str,
        servers: &[ServerAddr],
    ) -> Result<async_nats::ConnectOptions, ConnectError> {
        let mut options = async_nats::ConnectOptions::new()
            .name(name)
            .connection_timeout(ANSWER_WITHIN)
            .ping_interval(PING_EVERY)
            .reconnect_delay_callback(pause)
            .event_callback(|event| async move { tell(&event) });
        options = match &self.identity {
            Identity::Nobody => named_by(servers, options),
            Identity::Creds(file) => {
                let text = read(file)?;
                let known = options.credentials(&text);
                known.map_err(|error| unusable(file, &error))?
            }
            Identity::Nkey(file) => options.nkey(seed(file)?),
            Identity::Password { user, password } => {
                options.user_and_password(user.clone(), password.clone())
            }
            Identity::Token(token) => options.token(token.clone()),
        };
        if let Some(ca) = &self.tls_ca {
            // The client would only say that it cannot connect.
            read(ca)?;
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &self.tls_identity {
            read(certificate)?;
            read(key)?;
            options = options
                .add_client_certificate(certificate.clone(), key.clone())
                .require_tls(true);
        }
        if self.tls_first {
            options = options.tls_first();
        }
        if let Some(prefix) = &self.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        Ok(options)
    }
}

/// As whom the URLs say: the client looks at their hosts only.
fn named_by(
    servers: &[ServerAddr],
    options: async_nats::ConnectOptions,
) -> async_nats::ConnectOptions {
    let named = servers.iter().find_map(|server| {
        let user = decoded(server.username()?);
        Some((user, server.password().map(decoded)))
    });
    match named {
        Some((user, Some(password))) => options.user_and_password(user, password),
        Some((token, None)) => options.token(token),
        None => options,
    }
}

/// A part of a URL as it was meant.
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// Before the next try: 0, 20 ms, 40 ms, …
fn pause(tries: usize) -> Duration {
    let doubled = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    match doubled {
        0 => Duration::ZERO,
        _ => Duration::from_millis(10)
            .saturating_mul(2_u32.saturating_pow(doubled))
            .min(RECONNECT_EVERY),
    }
}

/// What becomes of the connection is for whoever reads the log.
fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("the connection to NATS is lost, it is tried again"),
        other => tracing::warn!("NATS: {other}"),
    }
}

fn check_version(server: &ServerInfo) -> Result<(), ConnectError> {
    let is_new = Version::parse(&server.version).is_ok_and(|mut version| {
        // A candidate of a release has what that has.
        version.pre = semver::Prerelease::EMPTY;
        version >= SERVER_OLDEST
    });
    if is_new {
        Ok(())
    } else {
        Err(ConnectError::TooOld {
            server: server.server_name.clone(),
            version: server.version.clone(),
        })
    }
}

/// Asks until `deadline`: a cluster that is starting has no leader to answer.
async fn check_jetstream(
    client: &Client,
    names: String,
    deadline: Instant,
) -> Result<(), ConnectError> {
    let server = client.server_info();
    let jetstream = jetstream::context::ContextBuilder::new()
        .timeout(ANSWER_WITHIN)
        .build(client.clone());
    loop {
        let Err(error) = jetstream.query_account().await else {
            return Ok(());
        };
        let is_off = match error.kind() {
            AccountErrorKind::JetStream(cause) => [
                ErrorCode::JETSTREAM_NOT_ENABLED,
                ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
            ]
            .contains(&cause.error_code()),
            // Where this server has none, another one that is reached through it may.
            AccountErrorKind::JetStreamUnavailable => !server.jetstream,
            AccountErrorKind::TimedOut | AccountErrorKind::Other => false,
        };
        if is_off {
            return Err(ConnectError::NoJetStream {
                server: server.server_name,
                reason: error.to_string(),
            });
        }
        if Instant::now() >= deadline {
            return Err(unreachable(names, error));
        }
        sleep(TRY_AGAIN).await;
    }
}

fn unreachable(servers: String, error: impl Into<Source>) -> ConnectError {
    ConnectError::Unreachable {
        servers,
        within: CONNECT_WITHIN,
        cause: error.into(),
    }
}

/// Hosts and ports, without credentials.
fn listed(servers: &[ServerAddr]) -> String {
    let listed: Vec<String> = servers
        .iter()
        .map(|server| format!("{}:{}", server.host(), server.port()))
        .collect();
    listed.join(", ")
}

/// The line of the file that is an nkey's seed.
fn seed(file: &Path) -> Result<String, ConnectError> {
    let text = read(file)?;
    let seed = text
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with('S'));
    seed.map(str::to_owned)
        .ok_or_else(|| unusable(file, &"it holds no seed of an nkey, S…"))
}

fn read(file: &Path) -> Result<String, ConnectError> {
    fs::read_to_string(file).map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, reason: &dyn fmt::Display) -> ConnectError {
    ConnectError::File {
        file: file.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_tried_again_at_once_and_never_seldomer_than_said() {
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!(pause(1), Duration::ZERO);
        assert_eq!(pause(2), Duration::from_millis(20));
        for tries in [8, 9, 64, usize::MAX] {
            assert_eq!(pause(tries), RECONNECT_EVERY, "{tries}");
        }
    }

    #[test]
    fn a_version_is_old_or_new_enough() {
        let of = |version: &str| {
            check_version(&ServerInfo {
                version: version.to_owned(),
                ..ServerInfo::default()
            })
        };
        for version in ["2.15.0", "2.15.1", "2.15.0-RC.2", "2.16.0-dev", "3.0.0"] {
            assert!(of(version).is_ok(), "{version}");
        }
        for version in ["2.14.9", "2.9.99", "1.0.0", "", "latest"] {
            assert!(of(version).is_err(), "{version}");
        }
    }
}
