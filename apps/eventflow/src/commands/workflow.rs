//! `eventflow workflow apply | list | show`: registered definitions.

use std::path::{Path, PathBuf};

use anyhow::Context;
use console::style;
use eventflow_agent::Call;
use eventflow_wire::v1::workflows::{self, WorkflowDocument, WorkflowList};

use crate::{
    Common, Outcome,
    commands::validate::Located,
    error::Refused,
    input::{self, encoded},
    output::{self, Format},
    service::Service,
};

/// `eventflow workflow`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Workflow {
    /// Register documents; the same again changes nothing
    Apply {
        /// OWS or DAG documents, in YAML or JSON; `-` is stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List what is registered
    List {
        /// Only of this namespace
        #[arg(long)]
        namespace: Option<String>,
    },
    /// Show a document
    Show {
        /// `name`, `namespace/name` or `namespace/name:version`; the latest version where none is given
        workflow: Named,
    },
}

/// A workflow as people write it: `[namespace/]name[:version]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, rest) = match text.split_once('/') {
            Some((namespace, rest)) => (Some(namespace.to_owned()), rest),
            None => (None, text),
        };
        let (name, version) = match rest.split_once(':') {
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (rest, None),
        };
        let empty = [namespace.as_deref(), Some(name), version.as_deref()].contains(&Some(""));
        if empty || name.contains('/') {
            return Err(format!(
                "`{text}` is not a workflow: write [namespace/]name[:version]"
            ));
        }
        Ok(Self {
            namespace,
            name: name.to_owned(),
            version,
        })
    }
}

impl Workflow {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let service = Service::new(common)?;
        match self {
            Self::Apply { files } => {
                let mut outcome = Outcome::Yes;
                for file in files {
                    if apply(&service, &file, common.output).await? == Outcome::No {
                        outcome = Outcome::No;
                    }
                }
                Ok(outcome)
            }
            Self::List { namespace } => {
                let filter = namespace.map(|name| format!("?namespace={}", encoded(&name)));
                let path = format!("/v1/workflows{}", filter.unwrap_or_default());
                let found: WorkflowList = service.get(path).await?;
                list(&found, common.output)?;
                Ok(Outcome::Yes)
            }
            Self::Show { workflow } => {
                let found: WorkflowDocument = service.get(path(&workflow)).await?;
                match common.output {
                    Format::Json => output::json(&found)?,
                    Format::Text => output::value(&found.document)?,
                }
                Ok(Outcome::Yes)
            }
        }
    }
}

async fn apply(service: &Service, file: &Path, format: Format) -> anyhow::Result<Outcome> {
    let shown = file.display();
    let text = input::text(file)?;
    let content = if eventflow_dsl::is_json(&text) {
        "application/json"
    } else {
        "application/yaml"
    };
    let call = Call::post("/v1/workflows").body(content, text);
    let answer = service.server.send(call).await?;
    if !answer.is_success() {
        let problem = answer.problem();
        if problem.errors.is_empty() || format == Format::Json {
            return Err(Refused(problem)).with_context(|| format!("{shown} was not registered"));
        }
        for fault in problem.errors {
            Located::from(fault).print(&shown)?;
        }
        return Ok(Outcome::No);
    }
    let workflow: workflows::Workflow = answer.json()?;
    match format {
        Format::Json => output::json(&workflow)?,
        Format::Text => {
            let workflows::Workflow {
                namespace,
                name,
                version,
                ..
            } = &workflow;
            let done = if answer.status == 201 {
                "registered"
            } else {
                "unchanged"
            };
            output::line(format!(
                "{} {namespace}/{name}:{version}",
                style(done).green()
            ))?;
        }
    }
    Ok(Outcome::Yes)
}

fn list(found: &WorkflowList, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(found);
    }
    let rows: Vec<_> = found
        .workflows
        .iter()
        .map(|workflow| {
            let digest = workflow.digest.to_string();
            vec![
                workflow.namespace.to_string(),
                workflow.name.to_string(),
                workflow.version.to_string(),
                digest[..12].to_owned(),
            ]
        })
        .collect();
    output::table(&["NAMESPACE", "NAME", "VERSION", "DIGEST"], &rows)
}

fn path(workflow: &Named) -> String {
    let namespace = workflow.namespace.as_deref().unwrap_or("default");
    let version = workflow
        .version
        .as_ref()
        .map(|version| format!("/{}", encoded(version)));
    format!(
        "/v1/workflows/{}/{}{}",
        encoded(namespace),
        encoded(&workflow.name),
        version.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_is_named_in_one_word() {
        let full: Named = "shop/order:1.2.0".parse().unwrap();
        assert_eq!(path(&full), "/v1/workflows/shop/order/1.2.0");
        let short: Named = "order".parse().unwrap();
        assert_eq!(path(&short), "/v1/workflows/default/order");
        for wrong in ["", "/order", "order:", "a/b/c"] {
            assert!(
                wrong
                    .parse::<Named>()
                    .unwrap_err()
                    .contains("[namespace/]name[:version]")
            );
        }
    }
}
