//! Definitions that are registered at start: every document of a folder.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use eventflow_adapter_http_api::{Format, parse_document};
use eventflow_domain::Tenant;
use eventflow_ports::inbound::{Refusal, Workflows};

/// Registers every `.yaml`, `.yml` and `.json` file of the folder and says how many there are.
pub(crate) async fn register(
    workflows: &dyn Workflows,
    folder: Option<&Path>,
) -> anyhow::Result<usize> {
    let Some(folder) = folder else { return Ok(0) };
    let mut registered = 0;
    for (path, format) in documents(folder)? {
        let bytes =
            std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let document =
            parse_document(&bytes, format).with_context(|| path.display().to_string())?;
        match workflows
            .register(&Tenant::default_tenant(), document)
            .await
        {
            Ok(_) => registered += 1,
            Err(Refusal::Invalid { detail, faults }) => {
                let mut lines = String::new();
                for fault in faults {
                    write!(lines, "\n  {}: {}", fault.pointer, fault.detail)?;
                }
                bail!("{}: {detail}:{lines}", path.display());
            }
            Err(refusal) => bail!("{}: {refusal}", path.display()),
        }
    }
    Ok(registered)
}

fn documents(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Format)>> {
    let unreadable = || format!("the workflows in {} cannot be read", folder.display());
    let mut documents = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if let Some(format) = extension.and_then(Format::of_extension) {
            documents.push((path, format));
        }
    }
    documents.sort_by(|(one, _), (two, _)| one.cmp(two));
    Ok(documents)
}
