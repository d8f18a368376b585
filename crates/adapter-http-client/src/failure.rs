//! From reqwest's errors to the port's: which sort it was, in words that hold no secret.

use std::{error::Error, time::Duration};

use eventflow_ports::HttpFailureKind;
use reqwest::Url;

use crate::{client::REDIRECTS_MAX, targets::NotAllowed};

/// A target sends its callers on and on.
#[derive(Debug, thiserror::Error)]
#[error("redirected more than {REDIRECTS_MAX} times")]
pub(crate) struct TooManyRedirects;

/// A failure before its latency is known.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) kind: HttpFailureKind,
    pub(crate) message: String,
}

impl Failed {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: HttpFailureKind::Invalid,
            message: message.into(),
        }
    }

    pub(crate) fn timeout(url: &Url, timeout: Duration) -> Self {
        Self {
            kind: HttpFailureKind::Timeout,
            message: format!(
                "no answer from {} within {} ms",
                origin(url),
                timeout.as_millis()
            ),
        }
    }

    /// What reqwest says, sorted. `url` is where the request was sent first; a redirect's own URL is in the error.
    pub(crate) fn sorted(error: &reqwest::Error, url: &Url) -> Self {
        let target = origin(error.url().unwrap_or(url));
        if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<NotAllowed>()) {
            return Self::invalid(format!("{target} may not be called: {refused}"));
        }
        if causes(error).any(<dyn Error>::is::<TooManyRedirects>) {
            return Self::invalid(format!("{TooManyRedirects}, the last time to {target}"));
        }
        let root = causes(error).last().map_or_else(
            || "no further cause is known".to_owned(),
            ToString::to_string,
        );
        if error.is_builder() {
            return Self::invalid(format!("the request to {target} cannot be sent: {root}"));
        }
        let what = if error.is_dns() {
            "cannot look up"
        } else if error.is_connect() {
            "cannot connect to"
        } else {
            "lost the connection to"
        };
        Self {
            kind: HttpFailureKind::Network,
            message: format!("{what} {target}: {root}"),
        }
    }
}

/// Scheme, host and port: user, password, path, query and fragment may hold secrets.
pub(crate) fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// The causes of an error, outermost first, without the error itself: reqwest's own text may hold the URL.
fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}
