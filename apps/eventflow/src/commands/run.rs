//! `eventflow run FILE`: a document in this process, without a service.

use std::path::PathBuf;

use crate::{Common, Outcome};

/// `eventflow run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// An OWS or DAG document, in YAML or JSON; `-` is stdin
    file: PathBuf,
    /// The input: JSON, `@file` or `@-` for stdin
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
}

impl Run {
    pub(crate) async fn run(self, _common: &Common) -> anyhow::Result<Outcome> {
        anyhow::bail!("{:?}", self)
    }
}
