//! An HTTP client without a network: answers by script.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_ports::{HttpClient, HttpFailure, HttpFailureKind, HttpRequest, HttpResponse};

use crate::lock;

/// Redirects that are followed, as the port says.
const REDIRECTS_MAX: usize = 10;
/// The newest requests that are kept to be looked at: a test's worth; older ones are forgotten.
pub const REQUESTS_KEPT_MAX: usize = 10_000;

/// Answers as it was told, by URL; a URL that nobody scripted is a host that does not exist.
///
/// ```
/// use eventflow_adapter_memory::{Script, ScriptedHttpClient};
/// let client = ScriptedHttpClient::default();
/// client.on("http://bank/charge", Script::respond(503, "busy"));
/// client.on("http://bank/charge", Script::respond(200, "{}")); // the second request, and all after it
/// ```
#[derive(Debug, Clone, Default)]
pub struct ScriptedHttpClient(Arc<Mutex<Scripts>>);

#[derive(Debug, Default)]
struct Scripts {
    by_url: HashMap<String, VecDeque<Script>>,
    forbidden: Vec<String>,
    requests: VecDeque<HttpRequest>,
}

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// A response.
    Respond {
        /// The status code.
        status: u16,
        /// Header names in lower case, and values.
        headers: Vec<(String, String)>,
        /// The whole body.
        body: Bytes,
    },
    /// No answer, until the request's time-out.
    Silence,
    /// The connection breaks.
    HangUp,
}

impl Script {
    /// A response with a status and a body.
    pub fn respond(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Respond {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }
}

impl ScriptedHttpClient {
    /// The next answer of a URL; the last one given answers for ever.
    pub fn on(&self, url: impl Into<String>, script: Script) {
        let mut scripts = lock(&self.0);
        scripts
            .by_url
            .entry(url.into())
            .or_default()
            .push_back(script);
    }

    /// No request may go where a URL begins like this.
    pub fn forbid(&self, prefix: impl Into<String>) {
        lock(&self.0).forbidden.push(prefix.into());
    }

    /// What was sent so far, redirects that were followed included.
    pub fn requests(&self) -> Vec<HttpRequest> {
        lock(&self.0).requests.iter().cloned().collect()
    }

    /// Sends one request and gives what comes of it.
    fn send(&self, request: &HttpRequest) -> Result<Script, HttpFailure> {
        let mut scripts = lock(&self.0);
        if scripts
            .forbidden
            .iter()
            .any(|prefix| request.url.starts_with(prefix))
        {
            return Err(failure(
                HttpFailureKind::Invalid,
                "the target is not allowed",
            ));
        }
        let Some(answers) = scripts.by_url.get_mut(&request.url) else {
            return Err(failure(HttpFailureKind::Network, "there is no such host"));
        };
        let script = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        if scripts.requests.len() == REQUESTS_KEPT_MAX {
            scripts.requests.pop_front();
        }
        scripts.requests.push_back(request.clone());
        script.ok_or_else(|| failure(HttpFailureKind::Network, "there is no such host"))
    }
}

#[async_trait]
impl HttpClient for ScriptedHttpClient {
    async fn execute(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        check(&request)?;
        for _ in 0..=REDIRECTS_MAX {
            check_url(&request.url)?;
            let (status, headers, body) = match self.send(&request)? {
                Script::Respond {
                    status,
                    headers,
                    body,
                } => (status, headers, body),
                Script::Silence => {
                    tokio::time::sleep(request.timeout).await;
                    return Err(HttpFailure {
                        latency: request.timeout,
                        ..failure(HttpFailureKind::Timeout, "no answer in time")
                    });
                }
                Script::HangUp => {
                    return Err(failure(HttpFailureKind::Network, "the connection broke"));
                }
            };
            if request.follow_redirects
                && (300..400).contains(&status)
                && let Some((_, location)) = headers.iter().find(|(name, _)| name == "location")
            {
                request.url = resolve(&request.url, location);
                continue;
            }
            return Ok(HttpResponse {
                status,
                headers,
                truncated: body.len() > request.body_limit,
                body: body.slice(..body.len().min(request.body_limit)),
                latency: Duration::ZERO,
            });
        }
        Err(failure(HttpFailureKind::Invalid, "too many redirects"))
    }
}

fn check(request: &HttpRequest) -> Result<(), HttpFailure> {
    if !is_token(&request.method) {
        return Err(failure(
            HttpFailureKind::Invalid,
            "the method is not a token",
        ));
    }
    let sendable =
        |(name, value): &(String, String)| is_token(name) && !value.contains(['\r', '\n', '\0']);
    if !request.headers.iter().all(sendable) {
        return Err(failure(HttpFailureKind::Invalid, "a header cannot be sent"));
    }
    Ok(())
}

fn check_url(url: &str) -> Result<(), HttpFailure> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        Some(_) | None => Err(failure(
            HttpFailureKind::Invalid,
            "the URL is not an absolute http or https URL",
        )),
    }
}

/// RFC 9110: what a method and a header's name may consist of.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Where a redirect points: another URL, or another path of the same host.
fn resolve(url: &str, location: &str) -> String {
    if location.contains("://") {
        return location.into();
    }
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let path = url[host..].find('/').map_or(url.len(), |path| host + path);
    format!("{}{location}", &url[..path])
}

fn failure(kind: HttpFailureKind, message: &str) -> HttpFailure {
    HttpFailure {
        kind,
        message: message.into(),
        latency: Duration::ZERO,
    }
}
