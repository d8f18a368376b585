//! `eventflow backup DIR`: copies a store while a service goes on writing to it. The copy is a store: to restore it,
//! start a service on it.

use std::path::PathBuf;

use anyhow::bail;
use eventflow_adapter_sqlite::Backup as Copy;
use serde_json::json;

use crate::{
    Common, Outcome,
    output::{self, Format},
    store::{Location, StoreArgument},
};

/// `eventflow backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "To restore, start a service on DIR or on a copy of it: --store sqlite:DIR")]
pub(crate) struct Backup {
    /// Where to: a directory that does not exist yet
    #[arg(value_name = "DIR")]
    target: PathBuf,
    #[command(flatten)]
    store: StoreArgument,
}

impl Backup {
    pub(crate) fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let Location::Embedded(store) = self.store.location() else {
            bail!(
                "a store on NATS is copied by the tool of NATS: stop the nodes and use `nats account backup DIR`, or \
                 `nats stream backup STREAM DIR` for each stream, journals first; nothing was copied"
            );
        };
        let copy = Copy::take(&store, &self.target)?;
        let directory = self.target.display();
        match common.output {
            Format::Json => output::json(&json!({
                "directory": directory.to_string(),
                "positions": copy.heads,
                "blobs": copy.blobs,
                "bytes": copy.bytes,
            }))?,
            Format::Text => {
                let records: u64 = copy.heads.iter().map(|head| head.0).sum();
                let (blobs, bytes) = (copy.blobs, copy.bytes);
                output::line(format!(
                    "{directory}: {records} records, {blobs} blobs, {bytes} bytes, verified; start a service on it with --store sqlite:{directory}"
                ))?;
            }
        }
        Ok(Outcome::Yes)
    }
}
