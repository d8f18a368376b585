//! `eventflow run FILE`: a document in this process, without a service.

use std::{path::PathBuf, time::Duration};

use eventflow_domain::{
    Json,
    plan::{Invoke, Kind, Performer},
};

use crate::{
    Common, Outcome,
    commands::{start::print_end, validate},
    embedded::Embedded,
    input,
    live::Live,
    output::Format,
    words,
};

/// How often the picture moves.
const FRAME: Duration = Duration::from_millis(100);

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
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let text = input::text(&self.file)?;
        let checked = validate::check(self.file.display().to_string(), &text);
        if !checked.valid {
            checked.print(common.output)?;
            return Ok(Outcome::No);
        }
        let document = eventflow_dsl::parse(&text)?;
        warn_of_agents(&document);
        let input = self.input.as_deref().map(input::value).transpose()?;
        let embedded = Embedded::start().await?;
        let mut live = match common.output {
            Format::Text => Live::new(),
            Format::Json => Live::Silent,
        };
        let mut view = embedded
            .execute(document, input.unwrap_or_else(Json::null))
            .await?;
        while !words::has_ended(view.status) {
            live.show(&view);
            view = embedded.wait(&view.execution_id, FRAME).await?;
        }
        live.end(&view);
        print_end(&view, common.output)
    }
}

/// Nobody can lease from an engine without a service around it.
fn warn_of_agents(document: &Json) {
    let Ok(plan) = eventflow_dsl::compile(document) else {
        return;
    };
    for (_, node) in plan.nodes() {
        if let Kind::Invoke(Invoke {
            performer: Performer::Agent { capability, .. },
            ..
        }) = &node.kind
        {
            eprintln!(
                "{} {} waits for an agent of capability `{capability}`, which cannot reach a run in this process: \
                 use a service and `eventflow start`",
                console::style("note:").yellow().bold().for_stderr(),
                node.pointer
            );
        }
    }
}
