//! `eventflow history ID`: every event of an execution.

use console::style;
use eventflow_wire::v1::executions::{HistoryAnswer, HistoryEvent};

use crate::{
    Common, Outcome,
    output::{self, Format},
    service::{Service, execution_path},
};

/// Events of one request: as many as the service gives.
const PAGE: usize = 1_000;
/// Columns of an event's data for people; the rest is in the JSON.
const DATA_WIDTH: usize = 100;

/// `eventflow history`.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// The execution's id
    id: String,
    /// Check that no event is missing between the first and the last
    #[arg(long)]
    verify: bool,
}

impl History {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let service = Service::new(common)?;
        let mut after = 0;
        let mut gaps = Vec::new();
        loop {
            let path = format!(
                "{}/history?after={after}&limit={PAGE}",
                execution_path(&self.id)
            );
            let page: HistoryAnswer = service.get(path).await?;
            for event in &page.events {
                let expected = after + 1;
                after = event.sequence.0;
                if after != expected {
                    gaps.push(format!("{after} follows {}", expected - 1));
                }
                match common.output {
                    Format::Json => output::json(event)?,
                    Format::Text => output::line(describe(event))?,
                }
            }
            match page.next {
                Some(next) => after = next.0,
                None => break,
            }
        }
        if self.verify && !gaps.is_empty() {
            eprintln!(
                "{} {}",
                style("not whole:").red().bold().for_stderr(),
                gaps.join(", ")
            );
            return Ok(Outcome::No);
        }
        Ok(Outcome::Yes)
    }
}

fn describe(event: &HistoryEvent) -> String {
    let hash = event.hash.to_string();
    format!(
        "{:>5}  {}  {:<30}  {}  {}",
        event.sequence,
        event.time,
        style(&event.kind).bold(),
        style(&hash[..8]).dim(),
        console::truncate_str(event.data.as_str(), DATA_WIDTH, "…")
    )
}
