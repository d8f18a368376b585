//! `eventflow start NAME`: starts an execution, and waits for its end where wanted.

use eventflow_agent::Call;
use eventflow_domain::ExecutionId;
use eventflow_wire::v1::executions::{ExecutionView, StartBody, Summary, WorkflowChoice};

use crate::{
    Common, Outcome,
    commands::{watch, workflow::Named},
    input,
    live::Live,
    output::{self, Format},
    service::Service,
    words,
};

/// `eventflow start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// `name`, `namespace/name` or `namespace/name:version`
    workflow: Named,
    /// The input: JSON, `@file` or `@-` for stdin
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Watch it until it ends, and print its output
    #[arg(long)]
    wait: bool,
    /// An id of your own: starting it again is then harmless
    #[arg(long, value_parser = ExecutionId::parse)]
    id: Option<ExecutionId>,
    /// Forwarded through every event
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// For people and filters; may be given several times
    #[arg(long = "label", value_name = "KEY:VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
}

impl Start {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let service = Service::new(common)?;
        let body = StartBody {
            workflow: Some(WorkflowChoice {
                namespace: self.workflow.namespace,
                name: self.workflow.name,
                version: self.workflow.version,
            }),
            input: self.input.as_deref().map(input::value).transpose()?,
            execution_id: self.id,
            correlation_id: self.correlation_id.map(Into::into),
            labels: self.labels.into_iter().collect(),
            definition: None,
        };
        let answer = service
            .ask(Call::post("/v1/executions").json(&body))
            .await?;
        let started: Summary = answer.json()?;
        if !self.wait {
            match common.output {
                Format::Json => output::json(&started)?,
                Format::Text => output::line(&started.execution_id)?,
            }
            return Ok(Outcome::Yes);
        }
        let live = match common.output {
            Format::Text => Live::new(),
            Format::Json => Live::Silent,
        };
        let ended = watch::until_ended(&service, started.execution_id.as_str(), live).await?;
        print_end(&ended, common.output)
    }
}

/// Prints how an execution ended: its output for people, all of it for programs.
pub(crate) fn print_end(ended: &ExecutionView, format: Format) -> anyhow::Result<Outcome> {
    let outcome = words::outcome(ended.status);
    match (format, outcome) {
        (Format::Json, _) => output::json(ended)?,
        // On the wire an output of `null` looks like none.
        (Format::Text, Outcome::Yes) => output::value(&ended.output)?,
        (Format::Text, Outcome::No) => {}
    }
    Ok(outcome)
}
