//! What the service says of itself while it runs: log lines and metrics.

use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// How often what histograms collect is folded, so that memory stays flat while nobody scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// Of times: from what one machine does at its best to what an operator is woken for.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0, 60.0,
];
/// Of what goes into one record: commands and bytes, up to the bounds of a batch.
const BATCH: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
];

/// Logs to standard error; `RUST_LOG` filters.
pub(crate) fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// Collects metrics; the result renders them in Prometheus' text format.
pub(crate) fn metrics() -> anyhow::Result<impl Fn() -> String + Send + Sync + 'static> {
    let times = Matcher::Suffix("_seconds".to_owned());
    let sizes = Matcher::Prefix("eventflow_batch_".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(times, SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(sizes, BATCH))
        .and_then(PrometheusBuilder::install_recorder)
        .context("metrics cannot be collected")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            upkeep.run_upkeep();
        }
    });
    Ok(move || handle.render())
}
