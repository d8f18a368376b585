//! A client of the HTTP API as its users write one: plain JSON, and the same request again until it is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::events::Events;

/// Between two tries of a request that was not answered.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Talks to one service, however often that crashes.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    patience: Duration,
}

impl Client {
    /// Of the service at this URL; gives a request up after `patience`.
    pub fn new(url: &str, patience: Duration) -> anyhow::Result<Self> {
        // Needed even for plain HTTP; refused where an earlier client has done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("an HTTP client")?;
        Ok(Self {
            http,
            url: url.to_owned(),
            patience,
        })
    }

    /// One POST, once: its status and body.
    pub async fn post_once(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await?))
    }

    /// A POST until somebody answers it with anything but 429 and 503.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let began = Instant::now();
        loop {
            let outcome = self.post_once(path, body).await;
            match outcome {
                Ok((status, answer)) if !matches!(status, 429 | 503) => {
                    return Ok((status, answer));
                }
                outcome if began.elapsed() > self.patience => {
                    bail!("POST {path} was not answered: {outcome:?}")
                }
                _ => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// A GET until it is answered with 200.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let outcome = self.get_once(path).await;
            match outcome {
                Ok((200, answer)) => return Ok(answer),
                outcome if began.elapsed() > self.patience => {
                    bail!("GET {path} was not answered: {outcome:?}")
                }
                _ => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// One GET, once.
    pub async fn get_once(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await?))
    }

    /// A request of its own kind.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Starts an execution of a registered workflow.
    pub async fn start(&self, workflow: &str, id: &str, input: &Value) -> anyhow::Result<()> {
        let body = json!({"workflow": {"name": workflow}, "executionId": id, "input": input});
        let (status, answer) = self.post("/v1/executions", &body).await?;
        ensure!(status == 202, "the start was answered {status}: {answer}");
        Ok(())
    }

    /// Starts an execution and waits for its end: the full view.
    pub async fn run(&self, workflow: &str, input: &Value) -> anyhow::Result<Value> {
        let body = json!({"workflow": {"name": workflow}, "input": input});
        let request = self
            .request(Method::POST, "/v1/executions")
            .header("prefer", "wait=50")
            .json(&body);
        let response = request.send().await?;
        let (status, view) = (response.status(), response.json().await?);
        ensure!(status == 200, "the start was answered {status}: {view}");
        Ok(view)
    }

    /// Leases the next task of a capability, as soon as there is one.
    pub async fn lease(&self, capability: &str) -> anyhow::Result<Value> {
        let body = json!({"agent": "tester", "capabilities": [capability], "max": 1, "wait": "5s"});
        let began = Instant::now();
        while began.elapsed() < self.patience {
            let (status, mut answer) = self.post("/v1/tasks/lease", &body).await?;
            ensure!(status == 200, "the lease was answered {status}: {answer}");
            match answer["tasks"].as_array_mut().map(std::mem::take) {
                Some(tasks) if tasks.is_empty() => {}
                Some(mut tasks) => return Ok(tasks.remove(0)),
                None => bail!("a lease without tasks: {answer}"),
            }
        }
        bail!("there is no task of {capability}")
    }

    /// Completes a leased task.
    pub async fn complete(&self, task: &Value, output: &Value) -> anyhow::Result<()> {
        self.answer(task, "complete", &json!({ "output": output }))
            .await
    }

    /// Fails a leased task; another try may help.
    pub async fn fail(&self, task: &Value, error: &Value) -> anyhow::Result<()> {
        self.answer(task, "fail", &json!({"error": error, "retryable": true}))
            .await
    }

    async fn answer(&self, task: &Value, how: &str, body: &Value) -> anyhow::Result<()> {
        let token = task["token"].as_str().context("a task has a token")?;
        let path = format!("/v1/tasks/{token}/{how}");
        let (status, answer) = self.post(&path, body).await?;
        ensure!(status == 200, "the result was answered {status}: {answer}");
        Ok(())
    }

    /// The events of an execution's history.
    pub async fn history(&self, id: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/v1/executions/{id}/history?limit=1000");
        let mut history = self.get(&path).await?;
        let events = history["events"].as_array_mut();
        Ok(std::mem::take(events.context("a history has events")?))
    }

    /// The public events of an execution after `last`, the first ones where that is `None`.
    pub async fn events(&self, id: &str, last: Option<&str>) -> anyhow::Result<Events> {
        let mut request = self.request(Method::GET, &format!("/v1/executions/{id}/events"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        Events::of(request.send().await?)
    }

    /// What a GET gives once it fits.
    pub async fn until(&self, path: &str, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let answer = self.get(path).await?;
            if fits(&answer) {
                return Ok(answer);
            }
            ensure!(
                began.elapsed() < self.patience,
                "{path} still gives {answer}"
            );
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// The full view of an execution once it has ended.
    pub async fn ended(&self, id: &str) -> anyhow::Result<Value> {
        let has_ended = |view: &Value| {
            let status = view["status"].as_str();
            matches!(status, Some("completed" | "faulted" | "cancelled"))
        };
        self.until(&format!("/v1/executions/{id}"), has_ended).await
    }
}
