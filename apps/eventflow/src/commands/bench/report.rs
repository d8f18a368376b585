//! The figures of a benchmark.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{Results, load::Finished, process::Measured, workload::Kind};

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) workload: Kind,
    pub(crate) executions: u32,
    pub(crate) concurrency: u32,
    pub(crate) steps: u32,
    pub(crate) results: Results,
}

/// What was measured. `null` is what could not be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    workload: Kind,
    executions: u32,
    concurrency: u32,
    steps: u32,
    results: &'static str,
    /// Executions whose output was wrong or missing.
    wrong: usize,
    seconds: f64,
    steps_per_second: f64,
    executions_per_second: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
    routing_p50_ms: Option<f64>,
    routing_p95_ms: Option<f64>,
    routing_p99_ms: Option<f64>,
    rss_mi_b: Option<f64>,
    cpu_seconds: Option<f64>,
    agent_cpu_seconds: Option<f64>,
    load_cpu_seconds: Option<f64>,
    device_bytes_per_step: Option<f64>,
    fsyncs: Option<f64>,
    requests: u64,
}

impl Report {
    pub(crate) fn new(
        setting: Setting,
        elapsed: Duration,
        finished: &Finished,
        requests: u64,
        before: &Measured,
        after: &Measured,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        let ended = finished.latencies_us.len();
        let steps = count(ended) * f64::from(setting.steps);
        let latencies = Sorted::new(&finished.latencies_us);
        let routing = Sorted::new(&finished.routing_ms);
        let ms = |percent| latencies.percentile(percent).map(|us| us / 1_000.0);
        let bytes = after
            .device_bytes
            .zip(before.device_bytes)
            .map(|(after, before)| after - before);
        Self {
            workload: setting.workload,
            executions: setting.executions,
            concurrency: setting.concurrency,
            steps: setting.steps,
            results: match setting.results {
                Results::Single => "single",
                Results::Batched => "batched",
            },
            wrong: finished.wrong.len(),
            seconds,
            steps_per_second: steps / seconds,
            executions_per_second: count(ended) / seconds,
            p50_ms: ms(50),
            p95_ms: ms(95),
            p99_ms: ms(99),
            max_ms: ms(100),
            routing_p50_ms: routing.percentile(50),
            routing_p95_ms: routing.percentile(95),
            routing_p99_ms: routing.percentile(99),
            rss_mi_b: after.rss_peak_mib,
            cpu_seconds: grown(after.cpu_seconds, before.cpu_seconds),
            agent_cpu_seconds: grown(after.agent_cpu_seconds, before.agent_cpu_seconds),
            load_cpu_seconds: grown(after.load_cpu_seconds, before.load_cpu_seconds),
            device_bytes_per_step: bytes
                .filter(|_| steps > 0.0)
                .map(|bytes| precise(bytes) / steps),
            fsyncs: grown(after.fsyncs, before.fsyncs),
            requests,
        }
    }

    /// The figures as people read them.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<16} {value}");
        };
        let shown = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.1}{unit}"))
        };
        let spread = |values: &[(&str, Option<f64>)]| {
            let parts = values
                .iter()
                .map(|(name, value)| format!("{name} {}", shown(*value, " ms")));
            parts.collect::<Vec<_>>().join("  ")
        };
        row(
            "executions",
            format!(
                "{} of {} steps, {} at a time, in {:.2} s",
                self.executions, self.steps, self.concurrency, self.seconds
            ),
        );
        row("steps/s", format!("{:.0}", self.steps_per_second));
        row("executions/s", format!("{:.0}", self.executions_per_second));
        row(
            "start to end",
            spread(&[
                ("p50", self.p50_ms),
                ("p95", self.p95_ms),
                ("p99", self.p99_ms),
                ("max", self.max_ms),
            ]),
        );
        if self.routing_p50_ms.is_some() {
            row(
                "routing",
                spread(&[
                    ("p50", self.routing_p50_ms),
                    ("p95", self.routing_p95_ms),
                    ("p99", self.routing_p99_ms),
                ]),
            );
        }
        row(
            "service",
            format!(
                "{} peak, {} of CPU",
                shown(self.rss_mi_b, " MiB"),
                shown(self.cpu_seconds, " s")
            ),
        );
        row(
            "beside it",
            format!(
                "agent {} of CPU, load {}",
                shown(self.agent_cpu_seconds, " s"),
                shown(self.load_cpu_seconds, " s")
            ),
        );
        row(
            "written",
            format!(
                "{} per step, fsyncs {}",
                shown(self.device_bytes_per_step, " bytes"),
                shown(self.fsyncs, "")
            ),
        );
        row("requests", self.requests.to_string());
        if self.wrong > 0 {
            row(
                "WRONG",
                format!("{} outputs are wrong or missing", self.wrong),
            );
        }
        text.trim_end().to_owned()
    }
}

/// Values in order.
struct Sorted(Vec<u64>);

impl Sorted {
    fn new(values: &[u64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// The smallest value that is not below this share of all of them (nearest rank).
    fn percentile(&self, percent: usize) -> Option<f64> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).map(|value| precise(*value))
    }
}

fn grown(after: Option<f64>, before: Option<f64>) -> Option<f64> {
    after.zip(before).map(|(after, before)| after - before)
}

fn count(number: usize) -> f64 {
    precise(number as u64)
}

/// Exact below 2^53: no figure here comes near.
#[expect(clippy::cast_precision_loss, reason = "figures are far below 2^53")]
fn precise(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred = Sorted::new(&(1..=100).rev().collect::<Vec<_>>());
        assert_eq!(hundred.percentile(50), Some(50.0));
        assert_eq!(hundred.percentile(99), Some(99.0));
        assert_eq!(hundred.percentile(100), Some(100.0));
        assert_eq!(Sorted::new(&[7]).percentile(50), Some(7.0));
        assert_eq!(Sorted::new(&[]).percentile(50), None);
    }

    #[test]
    fn the_json_has_the_promised_keys() {
        let setting = Setting {
            workload: Kind::Sequence,
            executions: 2,
            concurrency: 1,
            steps: 3,
            results: Results::Batched,
        };
        let finished = Finished {
            latencies_us: vec![2_000, 4_000],
            routing_ms: vec![1, 1, 2],
            ..Finished::default()
        };
        let before = Measured {
            cpu_seconds: Some(1.0),
            device_bytes: Some(100),
            ..Measured::default()
        };
        let after = Measured {
            rss_peak_mib: Some(20.0),
            cpu_seconds: Some(1.5),
            device_bytes: Some(700),
            ..Measured::default()
        };
        let report = Report::new(
            setting,
            Duration::from_secs(2),
            &finished,
            9,
            &before,
            &after,
        );
        let json = serde_json::to_value(&report).unwrap();
        for (key, value) in [
            ("stepsPerSecond", 3.0),
            ("executionsPerSecond", 1.0),
            ("p50Ms", 2.0),
            ("p95Ms", 4.0),
            ("p99Ms", 4.0),
            ("maxMs", 4.0),
            ("routingP50Ms", 1.0),
            ("routingP95Ms", 2.0),
            ("routingP99Ms", 2.0),
            ("rssMiB", 20.0),
            ("cpuSeconds", 0.5),
            ("deviceBytesPerStep", 100.0),
            ("requests", 9.0),
        ] {
            assert_eq!(json[key].as_f64(), Some(value), "{key} of {json}");
        }
        assert!(json["fsyncs"].is_null());
        assert!(report.describe().contains("p50 2.0 ms"));
    }
}
