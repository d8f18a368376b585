//! `eventflow pause | resume | stop ID…`: steers executions that run.

use eventflow_agent::Call;
use eventflow_wire::v1::{controls::ControlBody, executions::Summary};

use crate::{
    Common, Outcome, error,
    output::{self, Format},
    service::{Service, execution_path},
    words,
};

/// `eventflow pause`, `resume` and `stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Control {
    /// The executions' ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Why, for whoever reads the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Control {
    /// Carries the action out for each; one that is refused does not keep the others from it.
    pub(crate) async fn run(self, action: &str, common: &Common) -> anyhow::Result<Outcome> {
        let service = Service::new(common)?;
        let body = ControlBody {
            reason: self.reason.map(Into::into),
        };
        let mut outcome = Outcome::Yes;
        for id in &self.ids {
            let call = Call::post(format!("{}/{action}", execution_path(id))).json(&body);
            let summary = match service.ask(call).await {
                Ok(answer) => answer.json::<Summary>()?,
                Err(refused) if self.ids.len() > 1 => {
                    error::print(&refused, common.output);
                    outcome = Outcome::No;
                    continue;
                }
                Err(refused) => return Err(refused),
            };
            match common.output {
                Format::Json => output::json(&summary)?,
                Format::Text => {
                    let status = words::status(summary.status);
                    output::line(format!("{}  {status}", summary.execution_id))?;
                }
            }
        }
        Ok(outcome)
    }
}
