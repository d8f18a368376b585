//! What a refusal must say: what is wrong, where, and what to do.

use anyhow::{Context, ensure};
use eventflow_tests::Client;
use reqwest::Method;
use serde_json::Value;

/// A refusal, whole: RFC 9457 with everything that INTERFACES section 2 names.
#[derive(Debug)]
pub(crate) struct Refused(Value);

impl Refused {
    /// Posts a body that is to be refused with this status.
    pub(crate) async fn posting(
        client: &Client,
        path: &str,
        media: &str,
        body: impl Into<reqwest::Body>,
        status: u16,
    ) -> anyhow::Result<Self> {
        let request = client.request(Method::POST, path);
        let request = request.header("content-type", media).body(body);
        Self::of(request.send().await?, path, status).await
    }

    /// An answer that is to be a refusal with this status.
    pub(crate) async fn of(
        response: reqwest::Response,
        path: &str,
        status: u16,
    ) -> anyhow::Result<Self> {
        let (found, media) = (
            response.status(),
            response.headers().get("content-type").cloned(),
        );
        let text = response.text().await?;
        ensure!(found == status, "answered {found}, not {status}: {text}");
        ensure!(
            media.is_some_and(|media| media == "application/problem+json"),
            "not a problem: {text}"
        );
        let problem: Value = serde_json::from_str(&text)?;
        ensure!(problem["type"] == "about:blank", "{text}");
        ensure!(
            problem["title"].as_str() == found.canonical_reason(),
            "{text}"
        );
        ensure!(problem["status"] == status, "{text}");
        let instance = problem["instance"].as_str().context(text.clone())?;
        ensure!(path.starts_with(instance), "{text}");
        ensure!(
            !problem["detail"].as_str().unwrap_or_default().is_empty(),
            "{text}"
        );
        Ok(Self(problem))
    }

    /// Its detail holds these words.
    pub(crate) fn says(self, words: &[&str]) -> anyhow::Result<Self> {
        let detail = self.0["detail"].as_str().unwrap_or_default();
        for word in words {
            ensure!(detail.contains(word), "no `{word}` in: {}", self.0);
        }
        Ok(self)
    }

    /// Its faults are at these pointers, no more and no fewer, each with these words.
    pub(crate) fn names(self, faults: &[(&str, &str)]) -> anyhow::Result<Self> {
        let errors = self.0["errors"].as_array().context("it has no errors")?;
        ensure!(
            errors.len() == faults.len(),
            "{} faults: {:#}",
            errors.len(),
            self.0
        );
        for (pointer, words) in faults {
            let fits = |error: &Value| {
                let detail = error["detail"].as_str().unwrap_or_default();
                error["pointer"] == *pointer && detail.contains(words)
            };
            ensure!(
                errors.iter().any(fits),
                "no `{words}` at {pointer}: {:#}",
                self.0
            );
        }
        Ok(self)
    }

    /// Some fault holds these words.
    pub(crate) fn mentions(self, words: &[&str]) -> anyhow::Result<Self> {
        let text = self.0.to_string();
        for word in words {
            ensure!(text.contains(word), "no `{word}` in: {:#}", self.0);
        }
        Ok(self)
    }
}
