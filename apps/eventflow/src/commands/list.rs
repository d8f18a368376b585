//! `eventflow list`: executions, newest first.

use eventflow_domain::execution::Status;
use eventflow_wire::v1::{
    Time,
    executions::{ListAnswer, Summary},
};

use crate::{
    Common, Outcome,
    input::{self, encoded},
    output::{self, Format},
    service::Service,
    words,
};

/// `eventflow list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only of this status; may be given several times
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Vec<Status>,
    /// Only of the workflow of this name
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only with this label; may be given several times
    #[arg(long = "label", value_name = "KEY:VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
    /// Only started at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME")]
    started_after: Option<Time>,
    /// Only started before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    started_before: Option<Time>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

fn status(word: &str) -> Result<Status, String> {
    Status::parse(word).ok_or_else(|| {
        let words: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
        format!("use one of {}", words.join(", "))
    })
}

impl List {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let found: ListAnswer = Service::new(common)?.get(self.path()).await?;
        if common.output == Format::Json {
            output::json(&found)?;
            return Ok(Outcome::Yes);
        }
        let rows: Vec<_> = found.executions.iter().map(row).collect();
        output::table(
            &[
                "EXECUTION",
                "WORKFLOW",
                "STATUS",
                "TASKS",
                "STARTED",
                "TOOK",
            ],
            &rows,
        )?;
        if let Some(next) = found.next {
            output::line(format!("more: --cursor {next}"))?;
        }
        Ok(Outcome::Yes)
    }

    fn path(&self) -> String {
        let mut query = vec![format!("limit={}", self.limit)];
        let words: Vec<_> = self.status.iter().map(|status| status.as_str()).collect();
        if !words.is_empty() {
            query.push(format!("status={}", words.join(",")));
        }
        let labels = self
            .labels
            .iter()
            .map(|(key, value)| ("label", format!("{key}:{value}")));
        let others = [
            ("workflow", self.workflow.clone()),
            ("startedAfter", self.started_after.map(String::from)),
            ("startedBefore", self.started_before.map(String::from)),
            ("cursor", self.cursor.clone()),
        ];
        let others = others
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let pairs = labels.chain(others);
        query.extend(pairs.map(|(name, value)| format!("{name}={}", encoded(&value))));
        format!("/v1/executions?{}", query.join("&"))
    }
}

fn row(execution: &Summary) -> Vec<String> {
    let workflow = &execution.workflow;
    let progress = execution.progress;
    let took = words::between(execution.started_at, execution.ended_at);
    vec![
        execution.execution_id.to_string(),
        format!(
            "{}/{}:{}",
            workflow.namespace, workflow.name, workflow.version
        ),
        words::status(execution.status).to_string(),
        format!("{}/{}", progress.completed, progress.total),
        execution.created_at.to_string(),
        took.map(words::duration).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        list: List,
    }

    #[test]
    fn filters_become_a_query() {
        let alone = Alone::parse_from([
            "list",
            "--status",
            "running",
            "--status",
            "faulted",
            "--workflow",
            "order",
            "--label",
            "team=a b",
            "--started-after",
            "2026-03-01T00:00:00Z",
            "--limit",
            "7",
        ]);
        assert_eq!(
            alone.list.path(),
            "/v1/executions?limit=7&status=running,faulted&label=team%3Aa%20b&workflow=order\
             &startedAfter=2026-03-01T00%3A00%3A00.000Z"
        );
        assert!(Alone::try_parse_from(["list", "--status", "lost"]).is_err());
    }
}
