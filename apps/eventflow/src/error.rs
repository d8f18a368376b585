//! Errors on their way to the person or program that asked.

use console::style;
use eventflow_wire::v1::Problem;

use crate::output::Format;

/// The service said no.
#[derive(Debug, thiserror::Error)]
#[error("{}", sentence(.0))]
pub(crate) struct Refused(pub(crate) Problem);

/// Prints an error to stderr, as a line for people or as a problem for programs.
pub(crate) fn print(error: &anyhow::Error, format: Format) {
    match format {
        Format::Text => {
            eprintln!("{} {error:#}", style("error:").red().bold().for_stderr());
            if let Some(Refused(problem)) = error.downcast_ref() {
                for fault in &problem.errors {
                    let place = if fault.pointer.is_empty() {
                        "/"
                    } else {
                        &fault.pointer
                    };
                    eprintln!("  {} {}", style(place).bold().for_stderr(), fault.detail);
                }
            }
        }
        Format::Json => {
            let problem = match error.downcast_ref::<Refused>() {
                Some(Refused(problem)) => problem.clone(),
                None => Problem::new(0, "Not done", format!("{error:#}")),
            };
            eprintln!("{}", serde_json::json!({ "problem": problem }));
        }
    }
}

fn sentence(problem: &Problem) -> String {
    let title = problem.title.as_deref().unwrap_or("refused");
    match &problem.detail {
        Some(detail) => format!("{title} ({}): {detail}", problem.status),
        None => format!("{title} ({})", problem.status),
    }
}
