//! A client of the HTTP API as its users write one: plain JSON, and the same request again until it is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

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

    /// The body of a GET as text.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        Ok(self
            .http
            .get(format!("{}{path}", self.url))
            .send()
            .await?
            .text()
            .await?)
    }

    /// Starts an execution and waits for its end; the full view.
    pub async fn run(&self, workflow: &str, id: &str, input: &Value) -> anyhow::Result<Value> {
        let body = json!({"workflow": {"name": workflow}, "executionId": id, "input": input});
        let (status, answer) = self.post("/v1/executions", &body).await?;
        anyhow::ensure!(status == 202, "the start was answered {status}: {answer}");
        self.ended(id).await
    }

    /// The full view of an execution once it has ended.
    pub async fn ended(&self, id: &str) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let view = self.get(&format!("/v1/executions/{id}")).await?;
            if matches!(
                view["status"].as_str(),
                Some("completed" | "faulted" | "cancelled")
            ) {
                return Ok(view);
            }
            anyhow::ensure!(
                began.elapsed() < self.patience,
                "{id} has not ended: {view}"
            );
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
