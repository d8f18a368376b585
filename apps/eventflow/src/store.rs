//! The store that a command reads, with or without a service on it: embedded, or on NATS.

mod embedded;
mod nats;

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use eventflow_adapter_nats::ConnectOptions;
use eventflow_adapter_sqlite::ViewReader;
use eventflow_domain::{Digest, Json, PartitionId, Position, Tenant, Timestamp};
use eventflow_ports::{JournalEntry, ReadLimit};

pub(crate) use self::{embedded::Embedded, nats::Nats};

/// Where a service keeps its store that was started without arguments.
const USUAL: &str = "./.eventflow";

/// Where the store is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StoreArgument {
    /// The store, `sqlite:<directory>` or `nats://host:port[,…]` (`nats:` for the servers of `NATS_URL` or of the context);
    /// a service may have it open [default: sqlite:./.eventflow]
    #[arg(long = "store", env = "EVENTFLOW_STORE", value_name = "URL", value_parser = location)]
    location: Option<Location>,
    /// The credentials for NATS, as `nsc` makes them
    #[arg(long, env = "EVENTFLOW_NATS_CREDS", value_name = "FILE")]
    nats_creds: Option<PathBuf>,
    /// A context of the `nats` tool: its servers and credentials
    #[arg(long, env = "EVENTFLOW_NATS_CONTEXT", value_name = "NAME")]
    nats_context: Option<String>,
    /// What subjects, streams and buckets begin with on NATS
    #[arg(
        long,
        visible_alias = "prefix",
        env = "EVENTFLOW_NATS_PREFIX",
        value_name = "NAME",
        default_value = "eventflow"
    )]
    nats_prefix: String,
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A directory.
    Embedded(PathBuf),
    /// Servers of NATS; those of the context or of `NATS_URL` where none is named.
    Nats(Vec<String>),
}

/// A store that is read from outside.
pub(crate) enum Store {
    Embedded(Box<Embedded>),
    Nats(Box<Nats>),
}

/// What a command asks of a store, wherever it is.
pub(crate) trait Reading {
    /// How many partitions it has.
    fn partitions(&self) -> u16;
    /// The last record of a partition, and what is wrong with its log as a whole, if anything is.
    fn head(&self, partition: PartitionId) -> anyhow::Result<(Position, Option<String>)>;
    /// The next records after a position, whatever they are; empty at the end.
    fn records(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, RecordsError>;
    /// What the store knows of a record beside its bytes that nobody would write so.
    fn remark(&self, partition: PartitionId, position: Position) -> anyhow::Result<Option<String>>;
    /// A tenant's document by its digest.
    fn document(&self, tenant: &Tenant, digest: &Digest) -> anyhow::Result<Option<Json>>;
    /// Whether a tenant has this large value.
    fn has_blob(&self, tenant: &Tenant, digest: &Digest) -> anyhow::Result<bool>;
    /// The view of a partition, where there is one that a service would go on with.
    fn view(&self, partition: PartitionId) -> anyhow::Result<Option<ViewReader>>;
    /// Everything that was set aside, oldest first.
    fn quarantined(&self) -> anyhow::Result<Vec<Quarantined>>;
    /// The positions that would be set aside if this one were.
    fn planned(
        &self,
        partition: PartitionId,
        first: Position,
    ) -> anyhow::Result<Vec<RangeInclusive<u64>>>;
    /// Sets a record aside, with all that cannot follow it.
    fn set_aside(&self, order: &Order) -> anyhow::Result<Quarantined>;
}

/// Why records were not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    /// What is stored cannot be read.
    #[error("{0}")]
    Damaged(String),
    /// Anything else: try again.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// A record to be set aside.
pub(crate) struct Order {
    pub(crate) partition: PartitionId,
    pub(crate) first: Position,
    pub(crate) at: Timestamp,
    pub(crate) by: String,
    pub(crate) reason: String,
}

/// Records that were set aside, and why.
pub(crate) struct Quarantined {
    /// What kind of thing they lie in, and its name.
    pub(crate) lies_in: (&'static str, String),
    pub(crate) partition: PartitionId,
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) records: u64,
    /// Whether something that was acknowledged may be among them.
    pub(crate) loses: bool,
    pub(crate) at: Timestamp,
    /// By whom, where the store knows it.
    pub(crate) by: Option<String>,
    pub(crate) reason: String,
}

impl StoreArgument {
    /// Whether somebody named it.
    pub(crate) fn is_given(&self) -> bool {
        self.location.is_some()
    }

    pub(crate) fn location(&self) -> Location {
        let usual = || Location::Embedded(USUAL.into());
        self.location.clone().unwrap_or_else(usual)
    }

    /// The store, to be read.
    pub(crate) fn read(&self) -> anyhow::Result<Store> {
        match self.location() {
            Location::Embedded(directory) => {
                Ok(Store::Embedded(Box::new(Embedded::open(&directory)?)))
            }
            Location::Nats(urls) => {
                let options = self.connect_options(urls);
                let store = Nats::open(&options, &self.nats_prefix)?;
                Ok(Store::Nats(Box::new(store)))
            }
        }
    }

    fn connect_options(&self, urls: Vec<String>) -> ConnectOptions {
        ConnectOptions {
            name: "eventflow command line".to_owned(),
            urls,
            creds: self.nats_creds.clone(),
            context: self.nats_context.clone(),
            ..ConnectOptions::default()
        }
    }
}

impl Store {
    /// What every command can ask.
    pub(crate) fn reading(&self) -> &dyn Reading {
        match self {
            Self::Embedded(store) => &**store,
            Self::Nats(store) => &**store,
        }
    }
}

fn location(url: &str) -> Result<Location, String> {
    match url.split_once(':') {
        Some(("sqlite", directory)) if !directory.is_empty() => Ok(Location::Embedded(
            Path::new(directory.trim_start_matches("//")).into(),
        )),
        Some(("nats", "" | "//")) => Ok(Location::Nats(Vec::new())),
        Some(("nats" | "tls", servers)) if servers.starts_with("//") => {
            Ok(Location::Nats(vec![url.to_owned()]))
        }
        _ => Err(
            "only an embedded store, sqlite:<directory>, or one on NATS, nats://<host>:<port>[,…], can be read from outside"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_as_the_service_names_it() {
        let embedded = |path: &str| Ok(Location::Embedded(path.into()));
        assert_eq!(location("sqlite:./here"), embedded("./here"));
        assert_eq!(location("sqlite:///var/lib"), embedded("/var/lib"));
        let two = "nats://one:4222,two:4223";
        assert_eq!(location(two), Ok(Location::Nats(vec![two.to_owned()])));
        assert_eq!(location("nats:"), Ok(Location::Nats(Vec::new())));
        for other in ["here", "sqlite:", "memory:", "nats:host"] {
            assert!(location(other).is_err(), "{other}");
        }
    }
}
