//! What comes of a service call's one request, as its execution's output or error tells it (requirements S1, S4).

use std::{collections::BTreeMap, time::Duration};

use eventflow_domain::{
    DurationMs, Json, Problem,
    error::ErrorKind,
    limits::SNIPPET_BYTES_MAX,
    service_call::{CallError, CallErrorKind, CallResponse},
};
use eventflow_ports::{HttpFailure, HttpFailureKind, HttpResponse};

/// Names and values of a response's headers that are told, bytes: with them an output stays in its event.
const HEADERS_BYTES_MAX: usize = 8 * 1024;
/// Headers of a response that are secrets: whoever reads events must not become who called.
const SECRET_HEADERS: [&str; 2] = ["set-cookie", "set-cookie2"];

/// A response of status 2xx.
pub(crate) fn responded(response: &HttpResponse) -> Json {
    Json::of(&CallResponse {
        status: response.status,
        headers: headers(response),
        body_snippet: snippet(&response.body),
        latency_ms: millis(response.latency),
    })
}

/// Any other response.
pub(crate) fn refused(response: &HttpResponse) -> CallError {
    CallError {
        kind: CallErrorKind::Http,
        response_snippet: Some(snippet(&response.body)),
        latency_ms: millis(response.latency),
    }
}

/// No response.
pub(crate) fn not_responded(failure: &HttpFailure) -> CallError {
    CallError {
        kind: match failure.kind {
            HttpFailureKind::Timeout => CallErrorKind::Timeout,
            HttpFailureKind::Network => CallErrorKind::Network,
            HttpFailureKind::Invalid => CallErrorKind::Invalid,
        },
        response_snippet: None,
        latency_ms: millis(failure.latency),
    }
}

/// It was begun so long ago, by a process that is gone: whether it was sent, nobody knows.
pub(crate) fn interrupted(since: DurationMs) -> Problem {
    Problem {
        call: Some(Box::new(CallError {
            kind: CallErrorKind::Network,
            response_snippet: None,
            latency_ms: since.0,
        })),
        ..Problem::new(
            ErrorKind::Communication,
            "The HTTP call was interrupted",
            "interrupted",
        )
    }
}

/// The first headers that have room, but for secrets. The values of one name are joined (RFC 9110 section 5.3).
fn headers(response: &HttpResponse) -> BTreeMap<String, String> {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut room = HEADERS_BYTES_MAX;
    for (name, value) in &response.headers {
        let Some(left) = room.checked_sub(name.len() + value.len()) else {
            break;
        };
        if SECRET_HEADERS.contains(&name.as_str()) {
            continue;
        }
        room = left;
        told.entry(name.clone())
            .and_modify(|first| {
                first.push_str(", ");
                first.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
    told
}

/// The beginning of a body as text. What is no text takes more bytes as text.
fn snippet(body: &[u8]) -> String {
    let cut = &body[..body.len().min(SNIPPET_BYTES_MAX)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    text.truncate(text.floor_char_boundary(SNIPPET_BYTES_MAX));
    text
}

fn millis(latency: Duration) -> u64 {
    u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&str, &str)], body: Vec<u8>) -> HttpResponse {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        HttpResponse {
            status: 200,
            headers: headers.iter().map(owned).collect(),
            body: body.into(),
            truncated: false,
            latency: Duration::from_millis(7),
        }
    }

    #[test]
    fn a_snippet_never_has_more_than_its_bytes() {
        for body in [
            vec![b'a'; 5_000],
            "ü".repeat(3_000).into_bytes(),
            vec![0xff; 5_000],
        ] {
            let snippet = snippet(&body);
            assert!(snippet.len() <= SNIPPET_BYTES_MAX, "{}", snippet.len());
            assert!(snippet.len() > SNIPPET_BYTES_MAX - 4, "{}", snippet.len());
        }
        assert_eq!(snippet(b"short"), "short");
    }

    #[test]
    fn headers_are_joined_bounded_and_without_secrets() {
        let long = "x".repeat(HEADERS_BYTES_MAX);
        let given = [
            ("a", "1"),
            ("set-cookie", "session=secret"),
            ("a", "2"),
            ("b", "3"),
            ("c", long.as_str()),
            ("d", "4"),
        ];
        let told = headers(&response(&given, Vec::new()));
        let told: Vec<_> = told
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(told, [("a", "1, 2"), ("b", "3")]);
    }

    #[test]
    fn a_failure_has_the_sort_that_the_port_says() {
        for (kind, wanted) in [
            (HttpFailureKind::Timeout, CallErrorKind::Timeout),
            (HttpFailureKind::Network, CallErrorKind::Network),
            (HttpFailureKind::Invalid, CallErrorKind::Invalid),
        ] {
            let failure = HttpFailure {
                kind,
                message: String::new(),
                latency: Duration::from_millis(3),
            };
            let told = not_responded(&failure);
            assert_eq!((told.kind, told.latency_ms), (wanted, 3));
        }
    }
}
