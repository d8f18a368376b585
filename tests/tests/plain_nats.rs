//! The whole life of executions with a plain NATS client and nothing else: commands in, tasks pulled, begun and completed,
//! status out.

use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::{
    Client, Subscriber,
    jetstream::{self, consumer::PullConsumer},
};
use eventflow_nats_server::{NatsServer, Options};
use eventflow_tests::Service;
use futures::StreamExt;
use serde_json::{Value, json};

/// Everything here takes milliseconds.
const SOON: Duration = Duration::from_secs(15);
/// What must not come does not come within this.
const NEVER: Duration = Duration::from_millis(700);

/// Somebody with a NATS client.
struct Somebody {
    nats: Client,
    jetstream: jetstream::Context,
    status: Subscriber,
}

impl Somebody {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let nats = async_nats::connect(url).await?;
        let status = nats.subscribe("execution.status").await?;
        nats.flush().await?;
        let jetstream = jetstream::new(nats.clone());
        Ok(Self {
            nats,
            jetstream,
            status,
        })
    }

    /// Sends a command of the flow and waits until it is stored.
    async fn command(&self, kind: &str, run: &str, steps: Option<Value>) -> anyhow::Result<()> {
        let mut body = json!({
            "eventType": kind, "flowId": "flow1", "runId": run, "triggeredBy": "somebody", "timestamp": "2026-10-03T12:00:00Z",
        });
        if let Some(steps) = steps {
            body["steps"] = steps;
        }
        let published = self
            .jetstream
            .publish("execution.commands", body.to_string().into());
        published.await?.await?;
        Ok(())
    }

    /// The next status that is of this run.
    async fn status(&mut self, run: &str) -> anyhow::Result<Value> {
        loop {
            let next = tokio::time::timeout(SOON, self.status.next()).await;
            let message = next
                .context("no status came")?
                .context("the subscription ended")?;
            let body: Value = serde_json::from_slice(&message.payload)?;
            if body["runId"] == run {
                return Ok(body);
            }
        }
    }

    /// Reads statuses until the flow's own is this one; what the steps' were on the way.
    async fn until_flow_is(
        &mut self,
        run: &str,
        wanted: &str,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let mut steps = Vec::new();
        loop {
            let body = self.status(run).await?;
            let status = body["status"]
                .as_str()
                .context("a status has a status")?
                .to_owned();
            ensure!(body["flowId"] == "flow1", "{body}");
            ensure!(body["timestamp"].is_string(), "{body}");
            match body["eventType"].as_str() {
                Some("STEP_STATUS") => {
                    let step = body["stepId"].as_str().context("a step has an id")?;
                    steps.push((step.to_owned(), status));
                }
                Some("FLOW_STATUS") if status == wanted => return Ok(steps),
                Some("FLOW_STATUS") => {}
                _ => anyhow::bail!("neither of a step nor of a flow: {body}"),
            }
        }
    }

    /// Takes the next task of a queue, if one comes in time.
    async fn pull(&self, within: Duration) -> anyhow::Result<Option<jetstream::Message>> {
        let began = tokio::time::Instant::now();
        let consumer: PullConsumer = loop {
            match self
                .jetstream
                .get_consumer_from_stream("default-work", "EVENTFLOW_TASKS")
                .await
            {
                Ok(consumer) => break consumer,
                Err(error) => ensure!(began.elapsed() < SOON, "no consumer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut batch = consumer
            .fetch()
            .max_messages(1)
            .expires(within)
            .messages()
            .await?;
        match batch.next().await {
            Some(message) => Ok(Some(message.map_err(|error| anyhow::anyhow!(error))?)),
            None => Ok(None),
        }
    }

    async fn task(&self) -> anyhow::Result<(jetstream::Message, Value)> {
        let began = tokio::time::Instant::now();
        loop {
            if let Some(message) = self.pull(Duration::from_secs(1)).await? {
                let body = serde_json::from_slice(&message.payload)?;
                return Ok((message, body));
            }
            ensure!(began.elapsed() < SOON, "no task came");
        }
    }

    async fn ask(&self, body: Value) -> anyhow::Result<Value> {
        let answer = self
            .nats
            .request("eventflow.results.default", body.to_string().into());
        Ok(serde_json::from_slice(&answer.await?.payload)?)
    }

    async fn begin(&self, task: &Value) -> anyhow::Result<Value> {
        self.ask(json!({"token": task["token"], "begin": {"agent": "somebody"}}))
            .await
    }

    async fn complete(&self, task: &Value, output: Value) -> anyhow::Result<()> {
        let answer = self
            .ask(json!({"token": task["token"], "complete": {"output": output}}))
            .await?;
        ensure!(answer["status"] == 200, "the result was answered {answer}");
        Ok(())
    }
}

async fn ack(message: &jetstream::Message) -> anyhow::Result<()> {
    message.ack().await.map_err(|error| anyhow::anyhow!(error))
}

fn steps() -> Value {
    json!([
        {"stepId": "s1", "pluginId": "work", "type": "ACTION", "inputs": {"n": 1}},
        {"stepId": "s2", "pluginId": "work", "type": "ACTION", "inputs": {"n": "s1.out"}},
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_client_drives_the_whole_life_of_an_execution() -> anyhow::Result<()> {
    let server = NatsServer::start(Options { sync_always: true });
    let directory = tempfile::tempdir()?;
    let _service = Service::start_at(server.url(), directory.path(), &[]);
    let mut somebody = Somebody::connect(&server.url()).await?;

    somebody
        .command("EXECUTION_START", "run1", Some(steps()))
        .await?;
    somebody.until_flow_is("run1", "RUNNING").await?;
    let (message, first) = somebody.task().await?;
    assert_eq!(first["executionId"], "run1");
    assert_eq!(first["capability"], "work");
    assert_eq!(first["input"], json!({"n": 1}));
    assert_eq!(somebody.begin(&first).await?["granted"], true);
    somebody.complete(&first, json!({"out": 5})).await?;
    ack(&message).await?;

    // The second step is in the queue when the pause comes: it is not begun.
    let (message, second) = somebody.task().await?;
    assert_eq!(second["input"], json!({"n": 5}));
    somebody.command("PAUSE", "run1", None).await?;
    somebody.until_flow_is("run1", "PAUSED").await?;
    let refused = somebody.begin(&second).await?;
    assert_eq!(refused["granted"], false, "{refused}");
    assert!(refused["reason"].is_string(), "{refused}");
    ack(&message).await?;
    if let Some(message) = somebody.pull(NEVER).await? {
        let task: Value = serde_json::from_slice(&message.payload)?;
        let refused = somebody.begin(&task).await?;
        assert_eq!(refused["granted"], false, "{refused}");
        ack(&message).await?;
    }

    somebody.command("EXECUTION_RESUME", "run1", None).await?;
    let second = loop {
        let (message, task) = somebody.task().await?;
        let answer = somebody.begin(&task).await?;
        ack(&message).await?;
        // One that was queued before the pause may still come.
        if answer["granted"] == true {
            break task;
        }
    };
    somebody.complete(&second, json!({"out": 6})).await?;
    let steps_seen = somebody.until_flow_is("run1", "COMPLETED").await?;
    assert!(
        steps_seen.contains(&("s2".to_owned(), "COMPLETED".to_owned())),
        "{steps_seen:?}"
    );

    // Of another one the first step is in the queue when it is stopped.
    somebody.command("START", "run2", Some(steps())).await?;
    let (message, task) = somebody.task().await?;
    assert_eq!(task["executionId"], "run2");
    somebody.command("EXECUTION_STOP", "run2", None).await?;
    somebody.until_flow_is("run2", "STOPPED").await?;
    let refused = somebody.begin(&task).await?;
    assert_eq!(refused["granted"], false, "{refused}");
    ack(&message).await?;
    assert!(
        somebody.pull(NEVER).await?.is_none(),
        "a stopped run has tasks"
    );
    Ok(())
}
