//! The configuration: flags over environment over `eventflow.toml` over defaults (INTERFACES section 1).

use std::{fmt, net::SocketAddr, path::PathBuf};

use clap::{Parser, ValueEnum};
use figment::{
    Figment, Source,
    providers::{Format, Serialized, Toml},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Read where `--config` names no other; it need not exist.
const CONFIG_FILE: &str = "eventflow.toml";
/// Of a store on NATS, so that as many nodes can share its work.
const NATS_PARTITIONS: u16 = 4;
/// Registered at start where nothing is said and the folder exists, as in a checkout of this project.
const SHIPPED_WORKFLOWS: &str = "fixtures/workflows";

/// What the service was told, complete and checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) store: Store,
    pub(crate) nats_creds: Option<PathBuf>,
    pub(crate) nats_context: Option<String>,
    pub(crate) nats_prefix: String,
    pub(crate) nats_replicas: usize,
    pub(crate) workflows: Option<PathBuf>,
    partitions: Option<u16>,
    #[serde(default)]
    pub(crate) http_allow: Vec<IpNet>,
    pub(crate) log: LogFormat,
}

/// Executes workflows durably and emits an event for every transition.
///
/// Every flag has an environment variable and a key of the same name in eventflow.toml.
#[derive(Debug, Parser, Serialize)]
#[command(version)]
#[serde(rename_all = "kebab-case")]
struct Flags {
    /// Where to listen [default: 127.0.0.1:8080]; port 0 chooses a free one.
    #[arg(long, env = "EVENTFLOW_LISTEN", value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// Where everything is kept [default: sqlite:./.eventflow]: `sqlite:<directory>`, `nats://host:port[,...]` (`nats:`
    /// for the servers of `NATS_URL` or of the context) or `memory:` (lost at the end).
    #[arg(long, env = "EVENTFLOW_STORE", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The credentials for NATS, as `nsc` makes them.
    #[arg(long, env = "EVENTFLOW_NATS_CREDS", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nats_creds: Option<PathBuf>,
    /// A context of the `nats` tool: its servers and credentials.
    #[arg(long, env = "EVENTFLOW_NATS_CONTEXT", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nats_context: Option<String>,
    /// What subjects, streams and buckets begin with on NATS [default: eventflow].
    #[arg(long, env = "EVENTFLOW_NATS_PREFIX", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nats_prefix: Option<String>,
    /// On how many servers everything is kept on NATS [default: 1]; 3 in production.
    #[arg(long, env = "EVENTFLOW_NATS_REPLICAS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nats_replicas: Option<usize>,
    /// Definitions to register at start [default: ./fixtures/workflows where it exists].
    #[arg(long, env = "EVENTFLOW_WORKFLOWS", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    workflows: Option<PathBuf>,
    /// Shards with one writer each [default: 1, 4 on NATS]; fixed for the life of a store.
    #[arg(long, env = "EVENTFLOW_PARTITIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<u16>,
    /// Private ranges that HTTP steps may reach; loopback is allowed while the service listens on loopback.
    #[arg(
        long,
        env = "EVENTFLOW_HTTP_ALLOW",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    http_allow: Option<Vec<IpNet>>,
    /// Another file than ./eventflow.toml.
    #[arg(long, env = "EVENTFLOW_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// How to log, to standard error [default: text]; `RUST_LOG` filters.
    #[arg(long, env = "EVENTFLOW_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogFormat>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Store {
    /// A directory of SQLite files and blobs.
    Sqlite(PathBuf),
    /// Servers of NATS, by URL; those of the context or of `NATS_URL` where none is named.
    Nats(Vec<String>),
    /// This process' memory.
    Memory,
}

impl TryFrom<String> for Store {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        match url.split_once(':') {
            Some(("sqlite", directory)) if !directory.is_empty() => {
                Ok(Self::Sqlite(directory.trim_start_matches("//").into()))
            }
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("nats", "" | "//")) => Ok(Self::Nats(Vec::new())),
            Some(("nats" | "tls", servers)) if servers.starts_with("//") => {
                Ok(Self::Nats(url.split(',').map(server).collect()))
            }
            _ => Err(format!(
                "`{url}` is no store: use sqlite:<directory>, nats://<host>:<port>[,…] or memory:"
            )),
        }
    }
}

/// One server of a list: only the first needs to say that it speaks NATS.
fn server(server: &str) -> String {
    let server = server.trim();
    if server.contains("://") {
        server.to_owned()
    } else {
        format!("nats://{server}")
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(directory) => write!(f, "sqlite:{}", directory.display()),
            // Not what may be in it for the server alone.
            Self::Nats(servers) if servers.is_empty() => f.write_str("nats:"),
            Self::Nats(servers) => {
                let hosts: Vec<_> = servers.iter().map(|server| host(server)).collect();
                write!(f, "nats://{}", hosts.join(","))
            }
            Self::Memory => f.write_str("memory:"),
        }
    }
}

/// A server without its user and password.
fn host(server: &str) -> &str {
    let after_scheme = server.split_once("://").map_or(server, |(_, rest)| rest);
    after_scheme
        .rsplit_once('@')
        .map_or(after_scheme, |(_, host)| host)
}

impl Config {
    /// Reads flags, environment and file. `--help` and a wrong flag end the process here.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let flags = Flags::parse();
        let mut figment = Figment::from(Serialized::default("listen", "127.0.0.1:8080"))
            .merge(Serialized::default("store", "sqlite:./.eventflow"))
            .merge(Serialized::default("nats-prefix", "eventflow"))
            .merge(Serialized::default("nats-replicas", 1))
            .merge(Serialized::default("log", LogFormat::Text));
        let file = flags.config.clone().unwrap_or_else(|| CONFIG_FILE.into());
        if file.is_file() {
            figment = figment.merge(Toml::file_exact(file));
        } else if flags.config.is_some() {
            anyhow::bail!("there is no configuration file {}", file.display());
        }
        let mut config: Self = figment
            .merge(Serialized::globals(&flags))
            .extract()
            .map_err(|error| anyhow::anyhow!(wrong(&error)))?;
        let shipped = PathBuf::from(SHIPPED_WORKFLOWS);
        if config.workflows.is_none() && shipped.is_dir() {
            config.workflows = Some(shipped);
        }
        anyhow::ensure!(config.partitions() > 0, "--partitions must be at least 1");
        Ok(config)
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.partitions.unwrap_or(match self.store {
            Store::Nats(_) => NATS_PARTITIONS,
            Store::Sqlite(_) | Store::Memory => 1,
        })
    }
}

/// What is wrong, with which key, and in which file where it is one.
fn wrong(error: &figment::Error) -> String {
    let key = match error.path.join(".") {
        key if key.is_empty() => String::new(),
        key => format!(" for `{key}`"),
    };
    let source = error
        .metadata
        .as_ref()
        .and_then(|data| data.source.as_ref());
    let file = match source {
        Some(Source::File(path)) => format!(" in {}", path.display()),
        _ => String::new(),
    };
    format!("the configuration is wrong{key}{file}: {}", error.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_directory_or_memory() {
        let store = |url: &str| Store::try_from(url.to_owned());
        assert_eq!(store("sqlite:./here"), Ok(Store::Sqlite("./here".into())));
        assert_eq!(
            store("sqlite:///var/lib/eventflow"),
            Ok(Store::Sqlite("/var/lib/eventflow".into()))
        );
        assert_eq!(store("memory:"), Ok(Store::Memory));
    }

    #[test]
    fn anything_else_says_what_to_use() {
        for url in [
            "",
            "sqlite:",
            "postgres://host",
            "here",
            "memory:x",
            "nats:host",
        ] {
            let error = Store::try_from(url.to_owned()).unwrap_err();
            assert!(
                error.contains("use sqlite:<directory>, nats://<host>:<port>[,…] or memory:"),
                "{error}"
            );
        }
    }

    #[test]
    fn servers_of_nats_are_a_list_and_shown_without_their_secrets() {
        let store = Store::try_from("nats://me:secret@one:4222,two:4223".to_owned()).unwrap();
        let servers = ["nats://me:secret@one:4222", "nats://two:4223"];
        assert_eq!(
            store,
            Store::Nats(servers.map(str::to_owned).to_vec()),
            "only the first needs its scheme"
        );
        assert_eq!(store.to_string(), "nats://one:4222,two:4223");
        assert_eq!(Store::try_from("nats:".to_owned()), Ok(Store::Nats(vec![])));
    }
}
