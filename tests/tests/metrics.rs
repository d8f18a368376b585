//! The dashboard that ships with the service shows what the service really measures.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service, workspace};
use serde_json::{Value, json};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// Metrics that are there only once such a thing has happened.
const RARE: [&str; 1] = ["eventflow_timer_lateness_seconds_bucket"];

#[tokio::test]
async fn every_metric_of_the_dashboard_is_measured() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let service = Service::with_fixtures(directory.path());
    let client = Client::new(&service.url, PATIENCE)?;
    client.run("greeting", &json!({"name": "you"})).await?;
    client
        .run("reminder", &json!({"cart": "c-1", "patience": "PT0S"}))
        .await?;
    client
        .start(
            "parallel-checks",
            "p-1",
            &json!({"orderId": "o-1", "amount": 1}),
        )
        .await?;
    client.lease("check-stock").await?;
    let response = client
        .request(reqwest::Method::GET, "/metrics")
        .send()
        .await?;
    let measured = response.text().await?;
    let wanted = wanted()?;
    ensure!(wanted.len() > 15, "the dashboard was read: {wanted:?}");
    for name in &wanted {
        let line = measured.lines().find(|line| {
            let rest = line.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        ensure!(
            line.is_some(),
            "{name} is on the dashboard and not in:\n{measured}"
        );
    }
    for name in RARE {
        ensure!(
            wanted.contains(name),
            "{name} is measured and nobody looks at it"
        );
    }
    let help = |name: &str| measured.contains(&format!("# HELP {name} "));
    for name in measured
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
    {
        let name = name.split(' ').next().unwrap_or_default();
        ensure!(help(name), "{name} says nothing of itself");
    }
    Ok(())
}

/// The names of metrics in the dashboard's queries.
fn wanted() -> anyhow::Result<BTreeSet<String>> {
    let path = workspace().join("docs/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let panels = dashboard["panels"]
        .as_array()
        .context("a dashboard has panels")?;
    let queries = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .filter_map(|target| target["expr"].as_str());
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = queries.flat_map(|query| query.split(move |character| !is_name(character)));
    Ok(words
        .filter(|word| word.starts_with("eventflow_"))
        .map(str::to_owned)
        .collect())
}
