//! An execution that never ends of itself: it is stopped at its thousandth task, and says so.

use eventflow_tests::{Client, Service};
use serde_json::json;

use crate::{PATIENCE, control::Control};

/// Each takes a thousand steps.
const LOOPS: usize = 100;
const ENDLESS: &str = "
document: {dsl: 1.0.3, namespace: default, name: endless, version: 1.0.0}
do:
  - again: {set: {n: 1}}
  - and: {set: {n: 2}, then: again}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_without_end_faults_at_a_thousand_tasks() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let workflows = directory.path().join("workflows");
    std::fs::create_dir(&workflows)?;
    std::fs::write(workflows.join("endless.yaml"), ENDLESS)?;
    let service = Service::start(directory.path(), &["--workflows", "workflows"]);
    let control = Control::begin(&service).await?;
    let client = Client::new(&service.url, PATIENCE)?;
    let loops = async {
        for number in 0..LOOPS {
            client
                .start("endless", &format!("loop-{number}"), &json!({}))
                .await?;
        }
        for number in 0..LOOPS {
            let view = client.ended(&format!("loop-{number}")).await?;
            assert_eq!(view["status"], "faulted", "{view}");
            let error = &view["error"];
            assert_eq!(
                error["type"],
                "https://serverlessworkflow.io/spec/1.0.0/errors/runtime"
            );
            let text = error.to_string();
            assert!(text.contains("1000") || text.contains("1,000"), "{error}");
            assert!(text.contains("/do/"), "it does not say where: {error}");
        }
        Ok(())
    };
    control.beside(loops).await?;
    control.end().await
}
