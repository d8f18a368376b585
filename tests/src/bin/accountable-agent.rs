//! An agent for the kill test: performs `work`, and writes down every result that was acknowledged to it.
//!
//! Usage: `accountable-agent <url> <name> <file>`. Each line of the file is a JSON object of `executionId`, `task`,
//! `attempt` and `output`. Runs until it is killed.

use std::{fs::File, io::Write, time::Duration};

use anyhow::Context;
use eventflow_tests::Client;
use serde_json::{Value, json};

/// The service is back long before.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, name, path] = &arguments[..] else {
        anyhow::bail!("usage: accountable-agent URL NAME FILE")
    };
    let mut accepted = File::create(path).with_context(|| path.clone())?;
    let client = Client::new(url, PATIENCE)?;
    let lease =
        json!({"agent": name, "capabilities": ["work"], "max": 16, "wait": "1s", "leaseFor": "1s"});
    for round in 0_u64.. {
        let Ok((200, leased)) = client.post_once("/v1/tasks/lease", &lease).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        for task in leased["tasks"].as_array().context("a lease has tasks")? {
            // The nonce tells one attempt's result from another's.
            let output = json!({"n": task["input"]["n"].as_i64().unwrap_or(0) + 1, "nonce": format!("{name}-{round}")});
            let token = task["token"].as_str().context("a task has a token")?;
            let path = format!("/v1/tasks/{token}/complete");
            match client.post(&path, &json!({"output": output})).await? {
                (200, _) => note(&mut accepted, task, &output)?,
                // Somebody else's result came first, or the lease had passed.
                (409, _) => {}
                (status, problem) => anyhow::bail!("a result was answered {status}: {problem}"),
            }
        }
    }
    Ok(())
}

fn note(accepted: &mut File, task: &Value, output: &Value) -> anyhow::Result<()> {
    let line = json!({
        "executionId": task["executionId"], "task": task["task"], "attempt": task["attempt"], "output": output,
    });
    writeln!(accepted, "{line}").context("the file can be written")
}
