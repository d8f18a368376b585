//! Definitions that are registered at start: every document of a folder.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use eventflow_domain::Tenant;
use eventflow_ports::inbound::{Format, Place, Refusal, Workflows};

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
        match workflows
            .register(&Tenant::default_tenant(), &bytes, format)
            .await
        {
            Ok(_) => registered += 1,
            Err(Refusal::Invalid { detail, faults }) => {
                let mut lines = String::new();
                for fault in faults {
                    let Place { line, column } = fault.place.unwrap_or(Place::START);
                    let (pointer, detail) = (fault.pointer, fault.detail);
                    write!(
                        lines,
                        "\n  line {line}, column {column}: {pointer}: {detail}"
                    )?;
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
        if let Some(format) = extension.and_then(format_of) {
            documents.push((path, format));
        }
    }
    documents.sort_by(|(one, _), (two, _)| one.cmp(two));
    Ok(documents)
}

fn format_of(extension: &str) -> Option<Format> {
    match extension.to_ascii_lowercase().as_str() {
        "json" => Some(Format::Json),
        "yaml" | "yml" => Some(Format::Yaml),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_extension() {
        assert_eq!(format_of("YML"), Some(Format::Yaml));
        assert_eq!(format_of("yaml"), Some(Format::Yaml));
        assert_eq!(format_of("json"), Some(Format::Json));
        assert_eq!(format_of("toml"), None);
    }
}
