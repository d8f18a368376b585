//! The service over NATS: one connection, and requests for what agents say. Tasks come from queues: see `queue`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, Message, Request, RequestErrorKind,
    ServerAddr, ServerError, connection::State,
};
use eventflow_domain::{NodeName, Tenant};
use eventflow_wire::v1::{
    Problem,
    tasks::{ResultItem, ResultsAnswer, ResultsBody},
};
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{OnceCell, watch};

use crate::calls::{Refused, Settled};

/// A service says within a second or two what it can do now; what was lost on the way, as to a server that hangs, is asked
/// again. Meanwhile the slots of what was asked are idle.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// One server of several that does not answer must not hold up the others.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// The connection is given up after three pings without an answer: one that was cut without a word costs 6 s.
const PING_EVERY: Duration = Duration::from_secs(2);
/// At the end, what was said without waiting for an answer gets so long to leave.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// As long as any other name.
const PREFIX_BYTES_MAX: usize = 64;

/// A service by its NATS servers; cheap to clone, clones share their connection.
#[derive(Clone)]
pub struct Nats {
    inner: Arc<Inner>,
}

struct Inner {
    /// Without credentials.
    url: String,
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    prefix: String,
    tenant: Tenant,
    /// Connected at the first use; from then on the client connects again by itself, for ever.
    client: OnceCell<Client>,
    /// Whether this user may not tell a node itself.
    is_denied: watch::Sender<bool>,
    requests: AtomicU64,
}

/// What an agent needs to know of a service on NATS.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// `nats://host:port`, several with commas between them.
    pub(crate) url: &'a str,
    /// A credentials file.
    pub(crate) creds: Option<&'a Path>,
    /// What its subjects begin with.
    pub(crate) prefix: &'a str,
    /// Whose tasks.
    pub(crate) tenant: Tenant,
    /// What the server shows of the connection.
    pub(crate) name: &'a str,
}

/// A NATS server's address, credentials or prefix that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNats {
    /// Not an address.
    #[error("`{given}` is not the address of a NATS server ({why}): write it as nats://host:port")]
    Url {
        /// Without the credentials in it.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// The credentials file cannot be used.
    #[error("the credentials file {} cannot be used: {why}", file.display())]
    Credentials {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No subject can begin with it.
    #[error(
        "`{0}` is not a prefix of subjects: use the service's own, 1 to {PREFIX_BYTES_MAX} of A-Z a-z 0-9 _ -"
    )]
    Prefix(String),
}

/// Whether a URL is one of NATS servers.
pub(crate) fn is_nats(url: &str) -> bool {
    url.starts_with("nats://") || url.starts_with("tls://")
}

impl Nats {
    /// A service on these servers. Nothing is sent yet.
    pub(crate) fn new(place: Place<'_>) -> Result<Self, InvalidNats> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let prefix = place.prefix;
        if !(1..=PREFIX_BYTES_MAX).contains(&prefix.len()) || !prefix.bytes().all(allowed) {
            return Err(InvalidNats::Prefix(prefix.into()));
        }
        let servers = place.url.split(',').map(|url| address(url.trim()));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let shown = servers.iter().map(|server| {
            let (scheme, host) = (server.scheme(), server.host());
            format!("{scheme}://{host}:{}", server.port())
        });
        let options = ConnectOptions::new()
            .name(place.name)
            .connection_timeout(CONNECT_WITHIN)
            .ping_interval(PING_EVERY);
        Ok(Self {
            inner: Arc::new(Inner {
                url: shown.collect::<Vec<_>>().join(","),
                options: identified(options, place.creds, &servers)?,
                servers,
                prefix: prefix.to_owned(),
                tenant: place.tenant,
                client: OnceCell::new(),
                is_denied: watch::Sender::new(false),
                requests: AtomicU64::new(0),
            }),
        })
    }

    /// Its servers, without credentials.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// How many requests were sent so far: those that bring results, signs of life and begins.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    pub(crate) async fn results(
        &self,
        body: &ResultsBody,
        node: Option<&NodeName>,
    ) -> Result<ResultsAnswer, Refused> {
        let answer = self.ask(body, node).await?;
        read(&answer).map_err(|why| match read::<Problem>(&answer) {
            Ok(problem) => Refused::by(problem, retry_after(&answer)),
            Err(_) => why,
        })
    }

    /// Brings one result by its own request: `{"status": 200}`, or the problem.
    pub(crate) async fn result(
        &self,
        item: &ResultItem,
        node: Option<&NodeName>,
    ) -> Result<Settled, Refused> {
        let answer = self.ask(item, node).await?;
        let problem: Problem = read(&answer)?;
        match problem.status {
            200 => Ok(Settled::Accepted),
            status => Settled::refused(status, || problem, retry_after(&answer)),
        }
    }

    /// Where any node is told; a node itself one token further down.
    fn told_on(&self) -> String {
        format!("{}.results.{}", self.inner.prefix, self.inner.tenant)
    }

    /// The stream of the tasks of all tenants.
    pub(crate) fn stream(&self) -> String {
        format!("{}_TASKS", self.inner.prefix.to_ascii_uppercase())
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        &self.inner.tenant
    }

    /// The client, while it is connected: what is said to one that is not would come when it is not wanted any more.
    pub(crate) async fn client(&self) -> Result<&Client, Refused> {
        let client = self.inner.client.get_or_try_init(|| self.connect());
        let client = client.await?;
        match client.connection_state() {
            State::Connected => Ok(client),
            State::Pending | State::Disconnected => {
                Err(Refused::unheard(format!("not connected to {}", self.url())))
            }
        }
    }

    pub(crate) async fn flush(&self) {
        if let Ok(client) = self.client().await
            && let Ok(Err(error)) = tokio::time::timeout(FLUSH_WITHIN, client.flush()).await
        {
            tracing::warn!(%error, "the connection ended before all was said");
        }
    }

    async fn connect(&self) -> Result<Client, Refused> {
        let is_denied = self.inner.is_denied.clone();
        let told_on = format!("\"{}.", self.told_on());
        let options = self.inner.options.clone().event_callback(move |event| {
            if is_denied_by(&event, &told_on) {
                is_denied.send_replace(true);
            }
            std::future::ready(())
        });
        options
            .connect(&self.inner.servers[..])
            .await
            .map_err(|error| {
                let why = format!("no connection to {}: {error}", self.url());
                match error.kind() {
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                        Refused::Never(Box::new(Problem::new(401, "Unauthorized", why)))
                    }
                    _ => Refused::unheard(why),
                }
            })
    }

    async fn ask(
        &self,
        body: &impl Serialize,
        node: Option<&NodeName>,
    ) -> Result<Message, Refused> {
        let client = self.client().await?;
        let text = serde_json::to_vec(body).expect("a body of the protocol serialises");
        let mut is_denied = self.inner.is_denied.subscribe();
        let node = node.filter(|_| !*is_denied.borrow_and_update());
        let subject = match node {
            Some(node) => format!("{}.{node}", self.told_on()),
            None => self.told_on(),
        };
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
        let request = Request::new()
            .payload(text.into())
            .timeout(Some(ANSWER_WITHIN));
        let answered = client.send_request(subject.clone(), request);
        let answer = tokio::select! {
            answer = answered => answer,
            Ok(()) = is_denied.changed(), if node.is_some() => {
                return Err(Refused::unheard(format!("publishing on `{subject}` is not permitted")));
            }
        };
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::MaxPayloadExceeded => {
                let detail = format!(
                    "{} takes messages up to its `max_payload`: {error}",
                    self.url()
                );
                Refused::Never(Box::new(Problem::new(413, "Payload Too Large", detail)))
            }
            RequestErrorKind::NoResponders => Refused::unheard(format!(
                "no service answers on `{subject}` at {}: is it running, with this prefix?",
                self.url()
            )),
            _ => Refused::unheard(format!(
                "no answer on `{subject}` from {}: {error}",
                self.url()
            )),
        })
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("url", &self.inner.url)
            .field("prefix", &self.inner.prefix)
            .field("tenant", &self.inner.tenant)
            .finish_non_exhaustive()
    }
}

/// Whether the server says that this user may not publish on a subject that begins so: the request itself gets no answer.
fn is_denied_by(event: &Event, subject: &str) -> bool {
    let Event::ServerError(ServerError::Other(said)) = event else {
        return false;
    };
    let what = said.to_ascii_lowercase();
    what.contains("permissions violation for publish") && said.contains(subject)
}

fn address(url: &str) -> Result<ServerAddr, InvalidNats> {
    url.parse()
        .map_err(|error: std::io::Error| InvalidNats::Url {
            given: url.rsplit('@').next().unwrap_or_default().to_owned(),
            why: error.to_string(),
        })
}

/// As whom: what the credentials file says, or else the URL, of which the client looks at the host only.
fn identified(
    options: ConnectOptions,
    creds: Option<&Path>,
    servers: &[ServerAddr],
) -> Result<ConnectOptions, InvalidNats> {
    if let Some(file) = creds {
        let unusable = |error: std::io::Error| InvalidNats::Credentials {
            file: file.to_owned(),
            why: error.to_string(),
        };
        let text = fs::read_to_string(file).map_err(unusable)?;
        return options.credentials(&text).map_err(unusable);
    }
    let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let named = servers.iter().find_map(|server| {
        let user = decoded(server.username()?);
        Some((user, server.password().map(decoded)))
    });
    Ok(match named {
        Some((user, Some(password))) => options.user_and_password(user, password),
        Some((token, None)) => options.token(token),
        None => options,
    })
}

fn read<T: DeserializeOwned>(answer: &Message) -> Result<T, Refused> {
    serde_json::from_slice(&answer.payload)
        .map_err(|error| Refused::unheard(format!("the service's answer cannot be read: {error}")))
}

fn retry_after(answer: &Message) -> Option<Duration> {
    let headers = answer.headers.as_ref()?;
    let seconds = headers.get("retry-after")?.as_str().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place<'_> {
        Place {
            url,
            creds: None,
            prefix: "eventflow",
            tenant: Tenant::parse("default").unwrap(),
            name: "agent",
        }
    }

    #[test]
    fn servers_are_shown_without_credentials() {
        let nats = Nats::new(place("nats://ada:s3cret@a:4222, nats://b")).unwrap();
        assert_eq!(nats.url(), "nats://a:4222,nats://b:4222");
        assert!(!format!("{nats:?}").contains("s3cret"));
        assert_eq!(nats.stream(), "EVENTFLOW_TASKS");
    }

    #[test]
    fn what_is_wrong_is_said_without_credentials() {
        let wrong = Nats::new(place("nats://ada:s3cret@a:port")).unwrap_err();
        assert!(matches!(&wrong, InvalidNats::Url { given, .. } if given == "a:port"));
        let long = "a".repeat(65);
        let prefixed = |prefix| {
            let place = Place {
                prefix,
                ..place("nats://a")
            };
            Nats::new(place)
        };
        for prefix in ["", "a.b", "a b", "a*", long.as_str()] {
            assert_eq!(
                prefixed(prefix).unwrap_err(),
                InvalidNats::Prefix(prefix.into())
            );
        }
        assert!(prefixed("a-B_9").is_ok());
        let creds = Some(Path::new("no/such/file.creds"));
        let wrong = Nats::new(Place {
            creds,
            ..place("nats://a")
        })
        .unwrap_err();
        assert!(wrong.to_string().contains("no/such/file.creds"), "{wrong}");
    }
}
