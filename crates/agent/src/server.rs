//! The service over HTTP: one pool of connections, requests and their answers. For agents and for the command line.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use eventflow_wire::v1::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, Uri,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Serialize, de::DeserializeOwned};

/// An answer without a time-out of its own must have come by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A service that is there accepts a connection at once; one that is not must not hold up a retry elsewhere.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Idle connections are closed after this: below the minute after which many servers and proxies close theirs.
const IDLE_MAX: Duration = Duration::from_secs(45);
/// The largest answer that is read: a full lease of large inputs fits, an endless one is cut off.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("eventflow-agent/", env!("CARGO_PKG_VERSION")));

/// A service by its URL; cheap to clone, clones share their connections.
#[derive(Debug, Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    base: String,
    authorization: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    requests: AtomicU64,
}

/// A server's URL or token that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    /// Not a URL, or not of HTTP.
    #[error("`{0}` is not the URL of a service: write it as http://host:port or https://host")]
    Url(String),
    /// Not a bearer token.
    #[error(
        "the token holds characters that no header can carry: use the token as it was given to you"
    )]
    Token,
}

/// Nothing came back, or not all of it; what was asked may have been done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no answer from {server}: {cause}")]
pub struct Unreachable {
    /// Which service.
    pub server: String,
    /// What happened.
    pub cause: String,
}

/// What to ask.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    within: Duration,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// An answer whose body comes bit by bit.
#[derive(Debug)]
pub struct Streaming {
    /// The HTTP status.
    pub status: u16,
    server: Server,
    body: Incoming,
}

impl Server {
    /// A service at this URL, with a bearer token where it wants one. Nothing is sent yet.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, InvalidServer> {
        let base = url.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| InvalidServer::Url(url.into()))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") || uri.host().is_none() || uri.query().is_some() {
            return Err(InvalidServer::Url(url.into()));
        }
        let authorization = token
            .map(|token| HeaderValue::from_str(&format!("Bearer {token}")))
            .transpose()
            .map_err(|_| InvalidServer::Token)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .build(connector(scheme == "https"));
        Ok(Self {
            inner: Arc::new(Inner {
                base: base.to_owned(),
                authorization,
                client,
                requests: AtomicU64::new(0),
            }),
        })
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.inner.base
    }

    /// How many requests were sent so far.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// Asks, and reads the whole answer.
    pub async fn send(&self, call: Call) -> Result<Answer, Unreachable> {
        let within = call.within;
        let exchange = async {
            let (parts, body) = self.exchange(call).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| self.unreachable(&*error))?;
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: body.to_bytes(),
            })
        };
        tokio::time::timeout(within, exchange)
            .await
            .unwrap_or_else(|_elapsed| Err(self.silent(within)))
    }

    /// Asks, and leaves the body to be read as it comes; only the answer's beginning has a time-out.
    pub async fn open(&self, call: Call) -> Result<Streaming, Unreachable> {
        let within = call.within;
        let response = tokio::time::timeout(within, self.exchange(call))
            .await
            .unwrap_or_else(|_elapsed| Err(self.silent(within)))?;
        Ok(Streaming {
            status: response.status().as_u16(),
            server: self.clone(),
            body: response.into_body(),
        })
    }

    async fn exchange(&self, call: Call) -> Result<Response<Incoming>, Unreachable> {
        let url = format!("{}{}", self.inner.base, call.path);
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| self.unreachable(&error))?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, AGENT);
        if let Some(authorization) = &self.inner.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers.extend(call.headers);
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
        self.inner
            .client
            .request(request)
            .await
            .map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &(dyn Error + 'static)) -> Unreachable {
        // The innermost cause is the one that a person can act on: `Connection refused`.
        let root = std::iter::successors(Some(error), |&cause| cause.source()).last();
        Unreachable {
            server: self.inner.base.clone(),
            cause: root.unwrap_or(error).to_string(),
        }
    }

    fn silent(&self, within: Duration) -> Unreachable {
        Unreachable {
            server: self.inner.base.clone(),
            cause: format!("nothing within {} s", within.as_secs()),
        }
    }
}

impl Streaming {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Unreachable> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| self.server.unreachable(&error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl Call {
    /// Reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into())
    }

    /// Orders, without a body so far.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path.into())
    }

    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            headers: Vec::new(),
            body: Bytes::new(),
            within: ANSWER_WITHIN,
        }
    }

    /// With a body of this JSON.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(self, body: &T) -> Self {
        let text = serde_json::to_vec(body).expect("a body of the protocol serialises");
        self.body("application/json", text)
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With a time-out of its own instead of 30 s.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
}

impl Answer {
    /// Whether it was done: 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as a type of the protocol.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// Why it was not done; made from the status where the body does not say.
    pub fn problem(&self) -> Problem {
        self.json().unwrap_or_else(|_| {
            let reason = hyper::StatusCode::from_u16(self.status)
                .ok()
                .and_then(|status| status.canonical_reason())
                .unwrap_or("Unknown");
            Problem::new(
                self.status,
                reason,
                format!("the service answered {}", self.status),
            )
        })
    }

    /// When the service wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

fn connector(https: bool) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_WITHIN));
    let provider = rustls::crypto::ring::default_provider;
    // The machine's certificate authorities; the bundled ones where it has none, and where none are needed.
    let native =
        https.then(|| HttpsConnectorBuilder::new().with_provider_and_native_roots(provider()));
    let builder = match native {
        Some(Ok(builder)) => builder,
        Some(Err(_)) | None => HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider())
            .expect("ring has the protocol versions that rustls considers safe"),
    };
    builder.https_or_http().enable_http1().wrap_connector(http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_another_kind_is_refused_with_what_to_write() {
        for url in [
            "",
            "localhost:8080",
            "ftp://host",
            "http://",
            "http://host?x=1",
            "/v1",
        ] {
            let refusal = Server::new(url, None).unwrap_err();
            assert!(
                refusal.to_string().contains("http://host:port"),
                "{url}: {refusal}"
            );
        }
        let server = Server::new("http://host:1/base/", None).unwrap();
        assert_eq!(server.url(), "http://host:1/base");
    }

    #[test]
    fn an_answer_without_a_problem_still_says_what_the_status_means() {
        let answer = Answer {
            status: 503,
            headers: HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]),
            body: Bytes::from_static(b"<html>"),
        };
        assert_eq!(
            answer.problem().title.as_deref(),
            Some("Service Unavailable")
        );
        assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
    }
}
