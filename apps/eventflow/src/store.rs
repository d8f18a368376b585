//! The embedded store that a command reads, with or without a service on it.

use std::path::{Path, PathBuf};

use eventflow_adapter_sqlite::StoreReader;

/// Where a service keeps its store that was started without arguments.
const USUAL: &str = "./.eventflow";

/// Where the store is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StoreArgument {
    /// The store, `sqlite:<directory>`; a service may have it open [default: sqlite:./.eventflow]
    #[arg(long = "store", env = "EVENTFLOW_STORE", value_name = "URL", value_parser = directory)]
    directory: Option<PathBuf>,
}

impl StoreArgument {
    /// The store's directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new(USUAL))
    }

    /// Whether somebody named it.
    pub(crate) fn is_given(&self) -> bool {
        self.directory.is_some()
    }

    /// The store, to be read.
    pub(crate) fn read(&self) -> anyhow::Result<StoreReader> {
        Ok(StoreReader::open(self.directory())?)
    }
}

/// The directory of an embedded store.
fn directory(url: &str) -> Result<PathBuf, String> {
    match url.split_once(':') {
        Some(("sqlite", directory)) if !directory.is_empty() => {
            Ok(directory.trim_start_matches("//").into())
        }
        _ => Err("only an embedded store, sqlite:<directory>, can be read from outside".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_as_the_service_names_it() {
        assert_eq!(directory("sqlite:./here"), Ok("./here".into()));
        assert_eq!(directory("sqlite:///var/lib"), Ok("/var/lib".into()));
        for other in ["here", "sqlite:", "memory:", "nats://host"] {
            assert!(directory(other).is_err(), "{other}");
        }
    }
}
