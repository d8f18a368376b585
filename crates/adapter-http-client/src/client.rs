//! The client itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::BytesMut;
use eventflow_ports::{HttpClient, HttpFailure, HttpRequest, HttpResponse, Source};
use reqwest::{
    Client, Method, Request, Response, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect,
};

use crate::{
    failure::{Failed, TooManyRedirects, origin},
    resolver::CheckedResolver,
    targets::AllowedTargets,
    tls,
};

/// So many redirects are followed, and a further one is refused: it is most likely a loop (the port's clause 6).
pub(crate) const REDIRECTS_MAX: usize = 10;
/// Idle connections kept for the next request to a host: enough for a busy workflow, few enough for a small peer.
const IDLE_PER_HOST_MAX: usize = 64;
/// How long an idle connection is kept: below the minute after which many servers close theirs.
const IDLE_MAX: Duration = Duration::from_secs(45);
/// Sent where the request brings none of its own.
const USER_AGENT: &str = concat!("eventflow/", env!("CARGO_PKG_VERSION"));
/// Headers that belong to the connection: a request that brings its own could desynchronise it for those after it.
const CONNECTION_HEADERS: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The `HttpClient` port on reqwest; cheap to clone, connections are pooled.
#[derive(Debug, Clone)]
pub struct ReqwestHttpClient {
    targets: Arc<AllowedTargets>,
    /// For requests that follow redirects: reqwest has the policy in the client.
    following: Client,
    /// For those that do not.
    staying: Client,
}

/// The client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up: {0}")]
pub struct Unbuildable(#[source] Source);

impl ReqwestHttpClient {
    /// A client that reaches these targets and no others.
    pub fn new(targets: AllowedTargets) -> Result<Self, Unbuildable> {
        let targets = Arc::new(targets);
        let tls = tls::client_config().map_err(|error| Unbuildable(error.into()))?;
        let build = |policy| {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(CheckedResolver {
                    targets: Arc::clone(&targets),
                })
                .redirect(policy)
                .no_proxy()
                .referer(false)
                .user_agent(USER_AGENT)
                .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
                .pool_idle_timeout(IDLE_MAX)
                // A retry by the client would be a second request (requirement S1: one attempt).
                .retry(reqwest::retry::never())
                .build()
                .map_err(|error| Unbuildable(error.into()))
        };
        Ok(Self {
            following: build(checked_redirects(Arc::clone(&targets)))?,
            staying: build(redirect::Policy::none())?,
            targets,
        })
    }

    async fn attempt(&self, request: HttpRequest, begun: Instant) -> Result<HttpResponse, Failed> {
        let (timeout, body_limit) = (request.timeout, request.body_limit);
        let follows = request.follow_redirects;
        let client = if follows {
            &self.following
        } else {
            &self.staying
        };
        let outgoing = outgoing(request)?;
        let url = outgoing.url().clone();
        self.targets
            .check(&url)
            .map_err(|refused| Failed::invalid(refused.to_string()))?;
        let exchange = async {
            let response = client.execute(outgoing).await?;
            read(response, body_limit, begun).await
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(response)) if follows && is_redirect(&response) => Err(Failed::invalid(format!(
                "{} redirected to what is not an http or https URL",
                origin(&url)
            ))),
            Ok(outcome) => outcome.map_err(|error| Failed::sorted(&error, &url)),
            Err(_elapsed) => Err(Failed::timeout(&url, timeout)),
        }
    }
}

#[async_trait]
impl HttpClient for ReqwestHttpClient {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let begun = Instant::now();
        self.attempt(request, begun)
            .await
            .map_err(|Failed { kind, message }| HttpFailure {
                kind,
                message,
                latency: begun.elapsed(),
            })
    }
}

fn checked_redirects(targets: Arc<AllowedTargets>) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        // `previous` holds the first URL too.
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error(TooManyRedirects);
        }
        match targets.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    })
}

/// Whether this leads elsewhere. Where redirects are followed, such a response is left only by a target that cannot be
/// requested.
fn is_redirect(response: &HttpResponse) -> bool {
    matches!(response.status, 301..=303 | 307 | 308)
        && (response.headers.iter()).any(|(name, _)| name == header::LOCATION.as_str())
}

fn outgoing(request: HttpRequest) -> Result<Request, Failed> {
    let url: Url = request.url.parse().map_err(|error| {
        Failed::invalid(format!(
            "the URL is not an absolute http or https URL: {error}"
        ))
    })?;
    let method = match Method::from_bytes(request.method.to_ascii_uppercase().as_bytes()) {
        Ok(Method::CONNECT) | Err(_) => {
            return Err(Failed::invalid(
                "the method is not one that can be sent: use GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS",
            ));
        }
        Ok(method) => method,
    };
    let mut outgoing = Request::new(method, url);
    *outgoing.headers_mut() = headers(&request.headers)?;
    if !request.body.is_empty() {
        *outgoing.body_mut() = Some(request.body.into());
    }
    Ok(outgoing)
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap, Failed> {
    let mut headers = HeaderMap::with_capacity(given.len());
    for (at, (name, value)) in given.iter().enumerate() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            Failed::invalid(format!(
                "header {at} (from 0) has a name that cannot be sent"
            ))
        })?;
        if CONNECTION_HEADERS.contains(&name) {
            return Err(Failed::invalid(format!(
                "header `{name}` belongs to the connection: leave it out"
            )));
        }
        let value = HeaderValue::from_str(value).map_err(|_| {
            Failed::invalid(format!(
                "header `{name}` has a value that cannot be sent: use visible ASCII on one line"
            ))
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

async fn read(
    mut response: Response,
    body_limit: usize,
    begun: Instant,
) -> Result<HttpResponse, reqwest::Error> {
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    let mut body = BytesMut::new();
    let mut truncated = false;
    while let Some(chunk) = response.chunk().await? {
        let room = body_limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            truncated = true;
            break;
        }
    }
    Ok(HttpResponse {
        status,
        headers,
        body: body.freeze(),
        truncated,
        latency: begun.elapsed(),
    })
}
