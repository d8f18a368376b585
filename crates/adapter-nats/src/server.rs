//! What the servers are like, as far as a client can know it: for the start-up line and `eventflow doctor`.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_nats::{
    Client,
    jetstream::stream::{ClusterInfo, StorageType},
};
use bytes::Bytes;
use eventflow_domain::PartitionId;
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{NatsConfig, OpenError, journal, stream};

/// All servers answer at once, or not at all.
const SYSTEM_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// After an answer, how long others are waited for.
const SYSTEM_ANSWERS_APART: Duration = Duration::from_millis(300);
/// Servers of one cluster of clusters; the answers of more are not waited for.
const SERVERS_MAX: usize = 1000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The server of this connection.
    pub server: String,
    /// Its version.
    pub version: String,
    /// Its cluster, where it is in one.
    pub cluster: Option<String>,
    /// Copies of each record.
    pub replicas: usize,
    /// Whether records are in files: `file`, or `memory`.
    pub storage: &'static str,
    /// When records are synced to the disk.
    pub sync_interval: SyncInterval,
    /// Journals whose copies are not all there and current: by partition, the servers.
    pub behind: BTreeMap<PartitionId, Vec<String>>,
    /// The largest message that the server takes, in bytes.
    pub payload_bytes_max: usize,
}

/// When a server syncs to the disk what it has acknowledged; of several servers, the one that does so last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncInterval {
    /// Before it acknowledges.
    Always,
    /// So often: a power loss of all servers that hold a record takes what came since.
    Every(Duration),
    /// It does not say.
    Unknown,
}

impl Findings {
    /// Looks at the servers through the connection, and, for what only the system account is told, through one of that
    /// account where there is one. The journal is open.
    pub async fn look(
        client: &Client,
        config: &NatsConfig,
        system: Option<&Client>,
    ) -> Result<Self, OpenError> {
        let context = config.patient_context(client);
        let mut findings = Self {
            server: client.server_info().server_name,
            version: client.server_info().version,
            cluster: client.server_info().cluster,
            replicas: config.replicas,
            storage: "file",
            sync_interval: sync_interval(system.unwrap_or(client)).await,
            behind: BTreeMap::new(),
            payload_bytes_max: client.server_info().max_payload,
        };
        for partition in (0..config.partitions).map(PartitionId) {
            let needed = journal::needed(config, partition);
            let stream = context.get_stream(&needed.name).await;
            let stream = stream.map_err(|error| stream::unavailable(&needed, error))?;
            let found = stream.cached_info();
            findings.replicas = findings.replicas.min(found.config.num_replicas);
            if found.config.storage == StorageType::Memory {
                findings.storage = "memory";
            }
            let behind = found.cluster.as_ref().map(behind).unwrap_or_default();
            if !behind.is_empty() {
                findings.behind.insert(partition, behind);
            }
        }
        Ok(findings)
    }

    /// What may lose acknowledged records, or stop the service, and what to do about it.
    pub fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        if self.replicas < 3 {
            concerns.push(format!(
                "each record lies on {} of the servers: that one's disk is all there is; keep 3 replicas in production",
                self.replicas
            ));
        }
        if self.storage != "file" {
            concerns.push("records are in memory only: use file storage".to_owned());
        }
        match &self.sync_interval {
            SyncInterval::Always => {}
            SyncInterval::Every(interval) => concerns.push(format!(
                "acknowledged records are synced to the disk every {} s: a power loss may take them; set `sync_interval: \
                 always` in the `jetstream` block of each server's configuration",
                interval.as_secs_f32()
            )),
            SyncInterval::Unknown => concerns.push(format!(
                "whether acknowledged records are on the disk is {}",
                self.sync_interval
            )),
        }
        for (partition, servers) in &self.behind {
            concerns.push(format!(
                "copies of partition {partition}'s journal are offline or behind on {}",
                servers.join(", ")
            ));
        }
        concerns
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            version,
            storage,
            replicas,
            sync_interval,
            ..
        } = self;
        write!(f, "NATS {version} (server {server}")?;
        if let Some(cluster) = &self.cluster {
            write!(f, ", cluster {cluster}")?;
        }
        let replicas = match replicas {
            1 => "1 replica".to_owned(),
            more => format!("{more} replicas"),
        };
        write!(f, "), {storage}, {replicas}, sync_interval {sync_interval}")
    }
}

impl fmt::Display for SyncInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Every(interval) => write!(f, "{} s", interval.as_secs_f32()),
            Self::Unknown => f.write_str(
                "unknown: only the system account is told; ask with it, `nats server request jetstream`, or look at \
                 `sync_interval` in the servers' configuration",
            ),
        }
    }
}

/// Replicas that a leader has lost sight of, or that lag.
fn behind(cluster: &ClusterInfo) -> Vec<String> {
    let replicas = cluster.replicas.iter();
    let behind = replicas.filter(|replica| replica.offline || !replica.current);
    behind.map(|replica| replica.name.clone()).collect()
}

/// A server's answer to the system account.
#[derive(Debug, Deserialize)]
struct Answer {
    data: Option<Jetstream>,
}

#[derive(Debug, Deserialize)]
struct Jetstream {
    config: Option<Config>,
}

#[derive(Debug, Deserialize)]
struct Config {
    /// In nanoseconds.
    #[serde(default)]
    sync_interval: u64,
    #[serde(default)]
    sync_always: bool,
}

/// Asks all servers. An account that may not is answered by nobody.
async fn sync_interval(client: &Client) -> SyncInterval {
    let asked = timeout(SYSTEM_ANSWERS_WITHIN, ask(client)).await;
    let intervals = asked.ok().and_then(Result::ok).unwrap_or_default();
    match intervals.into_iter().max() {
        None => SyncInterval::Unknown,
        Some(Duration::ZERO) => SyncInterval::Always,
        Some(longest) => SyncInterval::Every(longest),
    }
}

/// The interval of each server that answers; zero for `always`.
async fn ask(client: &Client) -> Result<Vec<Duration>, async_nats::Error> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client
        .publish_with_reply("$SYS.REQ.SERVER.PING.JSZ", inbox, Bytes::new())
        .await?;
    let mut intervals = Vec::new();
    let mut until = Instant::now() + SYSTEM_ANSWERS_WITHIN / 2;
    while intervals.len() < SERVERS_MAX
        && let Ok(Some(message)) = timeout_at(until, answers.next()).await
    {
        if message.status.is_some() {
            // Nobody is there to answer.
            break;
        }
        let answer: Answer = serde_json::from_slice(&message.payload)?;
        // A server without JetStream keeps nothing.
        if let Some(config) = answer.data.and_then(|jetstream| jetstream.config) {
            intervals.push(if config.sync_always {
                Duration::ZERO
            } else {
                Duration::from_nanos(config.sync_interval)
            });
        }
        until = Instant::now() + SYSTEM_ANSWERS_APART;
    }
    Ok(intervals)
}
