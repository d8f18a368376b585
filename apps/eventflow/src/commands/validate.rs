//! `eventflow validate FILE…`: every fault of every document, without a service.

use std::{fmt::Display, path::PathBuf};

use console::style;
use eventflow_domain::error::Fault;
use eventflow_wire::v1 as wire;
use serde::Serialize;

use crate::{
    Common, Outcome, input,
    output::{self, Format},
};

/// `eventflow validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// OWS or DAG documents, in YAML or JSON; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// One file and what is wrong with it.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    file: String,
    pub(crate) valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    errors: Vec<Located>,
}

/// A fault in its file.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Located {
    line: usize,
    column: usize,
    pointer: String,
    detail: String,
}

impl Validate {
    pub(crate) fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::Yes;
        for file in self.files {
            let text = input::text(&file)?;
            let checked = check(file.display().to_string(), &text);
            if !checked.valid {
                outcome = Outcome::No;
            }
            checked.print(common.output)?;
        }
        Ok(outcome)
    }
}

impl From<wire::Fault> for Located {
    /// At the start of its file, where it has no place.
    fn from(fault: wire::Fault) -> Self {
        Self {
            line: fault.line.unwrap_or(1),
            column: fault.column.unwrap_or(1),
            pointer: fault.pointer,
            detail: fault.detail,
        }
    }
}

impl Located {
    /// One line, as compilers write it.
    pub(crate) fn print(&self, file: impl Display) -> anyhow::Result<()> {
        let pointer = match self.pointer.as_str() {
            "" => "/",
            pointer => pointer,
        };
        output::line(format!(
            "{file}:{}:{}: {} {}",
            self.line,
            self.column,
            style(pointer).bold(),
            self.detail
        ))
    }
}

/// Compiles a document's text.
pub(crate) fn check(file: String, text: &str) -> Checked {
    let compiled = eventflow_dsl::parse(text)
        .map_err(|fault| vec![Fault::from(fault)])
        .and_then(|document| {
            eventflow_dsl::compile(&document).map_err(|faults| eventflow_dsl::locate(text, faults))
        });
    match compiled {
        Ok(plan) => Checked {
            file,
            valid: true,
            workflow: Some(plan.workflow.to_string()),
            errors: Vec::new(),
        },
        Err(faults) => Checked {
            file,
            valid: false,
            workflow: None,
            errors: (faults.into_iter())
                .map(|fault| Located::from(wire::Fault::from(fault)))
                .collect(),
        },
    }
}

impl Checked {
    pub(crate) fn print(&self, format: Format) -> anyhow::Result<()> {
        match format {
            Format::Json => output::json(self),
            Format::Text => print(self),
        }
    }
}

fn print(checked: &Checked) -> anyhow::Result<()> {
    let file = &checked.file;
    if let Some(workflow) = &checked.workflow {
        return output::line(format!("{file}: {} {workflow}", style("valid").green()));
    }
    for error in &checked.errors {
        error.print(file)?;
    }
    let count = checked.errors.len();
    let faults = if count == 1 { "fault" } else { "faults" };
    output::line(format!(
        "{file}: {} {count} {faults}",
        style("invalid").red().bold()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_without_faults_says_what_it_is() {
        let text = "document: {dsl: 1.0.3, namespace: default, name: greet, version: 1.0.0}\ndo:\n  - a: {set: {b: 1}}\n";
        let checked = check("greet.yaml".into(), text);
        assert!(checked.valid, "{checked:?}");
        assert_eq!(checked.workflow.as_deref(), Some("default/greet:1.0.0"));
    }

    #[test]
    fn each_fault_stands_where_it_is() {
        let text = "document: {dsl: 1.0.3, namespace: default, name: greet, version: 1.0.0}\ndo:\n  - a:\n      frobnicate: 1\n";
        let checked = check("greet.yaml".into(), text);
        assert!(!checked.valid);
        let first = &checked.errors[0];
        assert!(first.pointer.starts_with("/do/0/a"), "{checked:?}");
        assert!((3..=4).contains(&first.line), "{checked:?}");
    }

    #[test]
    fn a_text_that_is_no_yaml_has_one_fault_with_its_line() {
        let checked = check("x".into(), "a: 1\nb: [\n");
        assert_eq!(checked.errors.len(), 1);
        assert!(checked.errors[0].line > 1, "{checked:?}");
    }
}
