//! The built-in performer of `call: http`: one request per attempt, its outcomes told apart (requirement S1).

use std::{sync::Arc, time::Duration};

use base64::Engine as _;
use bytes::Bytes;
use eventflow_domain::{
    Attempt, DurationMs, Json, Problem, TaskReference, Timestamp, Value,
    error::ErrorKind,
    limits::{RESPONSE_BYTES_MAX, SNIPPET_BYTES_MAX},
    plan::{HttpCall, HttpOutput},
};
use eventflow_ports::{Clock, HttpClient, HttpFailure, HttpFailureKind, HttpRequest, HttpResponse};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    backend::Backend,
    config::{HTTP_ATTEMPT_TIMEOUT, HTTP_IN_FLIGHT_MAX},
    outcome,
    partition::{AttemptResult, AttemptVerdict, Key, Message},
};

/// Performs HTTP attempts, a bounded number at a time; the others wait in order.
pub(crate) struct HttpPerformer {
    // Not the whole backend: a request under way must not hold on to stores that the next writer opens.
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    results: mpsc::WeakSender<Message>,
    places: Arc<Semaphore>,
}

impl HttpPerformer {
    pub(crate) fn new(backend: &Backend, results: mpsc::WeakSender<Message>) -> Arc<Self> {
        Arc::new(Self {
            http: backend.http.clone(),
            clock: backend.clock.clone(),
            results,
            places: Arc::new(Semaphore::new(HTTP_IN_FLIGHT_MAX)),
        })
    }

    /// Performs an attempt in the background; its result comes as an order to the writer.
    pub(crate) fn perform(
        &self,
        key: &Key,
        task: &TaskReference,
        attempt: Attempt,
        call: Value,
        deadline: Option<Timestamp>,
    ) {
        let (key, task) = (key.clone(), task.clone());
        let (http, clock) = (self.http.clone(), self.clock.clone());
        let (results, places) = (self.results.clone(), self.places.clone());
        tokio::spawn(async move {
            let Ok(_place) = places.acquire().await else {
                return;
            };
            let idempotency_key = format!("{}{task}/{attempt}", key.id);
            let left = deadline.map(|deadline| deadline.since(clock.now()));
            let verdict = attempt_once(&*http, &call, &idempotency_key, left).await;
            // When the writer is gone, so is this process' interest; the next one performs the attempt again.
            if let Some(results) = results.upgrade() {
                let _ = results
                    .send(Message::Performed(AttemptResult {
                        key,
                        task,
                        attempt,
                        verdict,
                    }))
                    .await;
            }
        });
    }
}

impl Drop for HttpPerformer {
    /// What still waits for its place is no longer ours to send.
    fn drop(&mut self) {
        self.places.close();
    }
}

async fn attempt_once(
    http: &dyn HttpClient,
    call: &Value,
    idempotency_key: &str,
    left: Option<DurationMs>,
) -> AttemptVerdict {
    let call = call.json().ok_or_else(|| "it is not in memory".to_owned());
    let call = call.and_then(|json| json.read::<HttpCall>().map_err(|error| error.to_string()));
    let call = match call {
        Ok(call) => call,
        Err(detail) => {
            return failed(
                ErrorKind::Configuration,
                "The HTTP call cannot be read",
                detail,
            );
        }
    };
    let most = call.timeout.unwrap_or(HTTP_ATTEMPT_TIMEOUT);
    let timeout = left.map_or(most, |left| left.min(most));
    let request = request(&call, idempotency_key, timeout);
    match http.execute(request).await {
        Ok(response) => responded(&call, &response),
        Err(failure) => not_responded(&call, &failure),
    }
}

fn request(call: &HttpCall, idempotency_key: &str, timeout: DurationMs) -> HttpRequest {
    let mut headers = call.headers.clone();
    let has = |name: &str| {
        call.headers
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    if !has("idempotency-key") {
        headers.push(("idempotency-key".to_owned(), idempotency_key.to_owned()));
    }
    let body = match &call.body {
        None => Bytes::new(),
        Some(body) => {
            if let Ok(text) = body.read::<String>() {
                text.into()
            } else {
                if !has("content-type") {
                    headers.push(("content-type".to_owned(), "application/json".to_owned()));
                }
                Bytes::copy_from_slice(body.as_str().as_bytes())
            }
        }
    };
    HttpRequest {
        method: call.method.to_string(),
        url: with_query(&call.endpoint, &call.query),
        headers,
        body,
        timeout: Duration::from_millis(timeout.0),
        body_limit: match call.output {
            HttpOutput::Outcome => SNIPPET_BYTES_MAX,
            HttpOutput::Content | HttpOutput::Raw | HttpOutput::Response => RESPONSE_BYTES_MAX,
        },
        follow_redirects: call.redirect,
    }
}

/// The URL with the query's pairs added, percent-encoded.
fn with_query(url: &str, query: &[(String, String)]) -> String {
    use std::fmt::Write as _;
    let mut whole = url.to_owned();
    for (name, value) in query {
        whole.push(if whole.contains('?') { '&' } else { '?' });
        for (text, end) in [(name, "="), (value, "")] {
            for byte in text.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    whole.push(char::from(byte));
                } else {
                    write!(whole, "%{byte:02X}").expect("writing to a String cannot fail");
                }
            }
            whole.push_str(end);
        }
    }
    whole
}

fn responded(call: &HttpCall, response: &HttpResponse) -> AttemptVerdict {
    let accepted = if call.redirect { 200..400 } else { 200..300 };
    if !accepted.contains(&response.status) {
        return refused(call, response);
    }
    if response.truncated && !is_service_call(call) {
        let detail = format!(
            "{} answered more than {RESPONSE_BYTES_MAX} bytes",
            target(call)
        );
        return failed(
            ErrorKind::Communication,
            "The response is too large",
            detail,
        );
    }
    let output = match call.output {
        HttpOutput::Outcome => outcome::responded(response),
        HttpOutput::Content => content(response),
        HttpOutput::Raw => {
            Json::of(&base64::engine::general_purpose::STANDARD.encode(&response.body))
        }
        HttpOutput::Response => Json::of(&json!({
            "request": {"method": &*call.method, "uri": call.endpoint},
            "statusCode": response.status,
            "headers": response.headers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "content": content(response),
        })),
    };
    AttemptVerdict::Complete(Value::new(output))
}

/// The body, parsed where it is JSON, as text otherwise.
fn content(response: &HttpResponse) -> Json {
    let text = String::from_utf8_lossy(&response.body);
    let kind = response
        .headers
        .iter()
        .find(|(name, _)| name == "content-type")
        .map(|(_, kind)| kind.as_str());
    let may_be_json = kind.is_none_or(|kind| kind.contains("json"));
    // Parsed whole, so that whatever an expression is given can be read.
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) if may_be_json => Json::of(&value),
        Ok(_) | Err(_) => Json::of(&*text),
    }
}

fn refused(call: &HttpCall, response: &HttpResponse) -> AttemptVerdict {
    let status = response.status;
    let retry_after = response
        .headers
        .iter()
        .find(|(name, _)| name == "retry-after");
    let retry_after = retry_after.and_then(|(_, seconds)| seconds.trim().parse().ok());
    let answered = format!("{} answered {status}", target(call));
    let (detail, outcome) = if is_service_call(call) {
        (answered, Some(outcome::refused(response).into()))
    } else {
        (format!("{answered}: {}", snippet(&response.body)), None)
    };
    let problem = Problem {
        status,
        call: outcome,
        ..Problem::new(ErrorKind::Communication, format!("HTTP {status}"), detail)
    };
    AttemptVerdict::Fail {
        error: problem,
        retryable: matches!(status, 408 | 425 | 429 | 500..),
        retry_after: retry_after.map(DurationMs::from_secs),
    }
}

fn not_responded(call: &HttpCall, failure: &HttpFailure) -> AttemptVerdict {
    let (kind, title, retryable) = match failure.kind {
        HttpFailureKind::Timeout => (ErrorKind::Timeout, "The HTTP call timed out", true),
        HttpFailureKind::Network => (
            ErrorKind::Communication,
            "The HTTP call got no response",
            true,
        ),
        HttpFailureKind::Invalid => (
            ErrorKind::Configuration,
            "The HTTP call cannot be sent",
            false,
        ),
    };
    let detail = format!(
        "{} after {} ms: {}",
        target(call),
        failure.latency.as_millis(),
        failure.message
    );
    let error = Problem {
        call: is_service_call(call).then(|| outcome::not_responded(failure).into()),
        ..Problem::new(kind, title, detail)
    };
    AttemptVerdict::Fail {
        error,
        retryable,
        retry_after: None,
    }
}

/// Whether its outcome is told in the way of service calls.
fn is_service_call(call: &HttpCall) -> bool {
    call.output == HttpOutput::Outcome
}

fn failed(kind: ErrorKind, title: &str, detail: String) -> AttemptVerdict {
    AttemptVerdict::Fail {
        error: Problem::new(kind, title, detail),
        retryable: false,
        retry_after: None,
    }
}

/// The method and the URL without what may be secret: user, password and query.
fn target(call: &HttpCall) -> String {
    let bare = call.endpoint.split(['?', '#']).next().unwrap_or_default();
    let bare = match bare.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(host);
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    };
    format!("{} {bare}", call.method.to_uppercase())
}

/// The beginning of a body, as text.
fn snippet(body: &[u8]) -> String {
    let cut = &body[..body.len().min(SNIPPET_BYTES_MAX)];
    let ellipsis = if cut.len() < body.len() { "…" } else { "" };
    format!("{}{ellipsis}", String::from_utf8_lossy(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(endpoint: &str) -> HttpCall {
        HttpCall {
            method: "get".into(),
            endpoint: endpoint.to_owned(),
            headers: Vec::new(),
            query: Vec::new(),
            body: None,
            output: HttpOutput::Content,
            redirect: false,
            timeout: None,
        }
    }

    fn response(status: u16, kind: &str, body: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: Bytes::copy_from_slice(body.as_bytes()),
            truncated: false,
            latency: Duration::ZERO,
        }
    }

    #[test]
    fn json_is_parsed_and_text_stays_text() {
        assert_eq!(
            content(&response(200, "application/json", "{\"a\": 1}")),
            Json::of(&json!({"a": 1}))
        );
        assert_eq!(content(&response(200, "text/plain", "1")), Json::of("1"));
        assert_eq!(
            content(&response(200, "application/json", "{broken")),
            Json::of("{broken")
        );
    }

    #[test]
    fn an_error_quotes_the_body_and_hides_the_query() {
        let verdict = responded(
            &call("http://me:secret@host/pay?token=secret"),
            &response(503, "text/plain", "busy"),
        );
        let AttemptVerdict::Fail {
            error,
            retryable: true,
            ..
        } = verdict
        else {
            panic!("{verdict:?}")
        };
        assert_eq!(error.status, 503);
        assert_eq!(
            error.detail.as_deref(),
            Some("GET http://host/pay answered 503: busy")
        );
    }

    #[test]
    fn a_client_error_is_not_retried() {
        let verdict = responded(&call("http://host/"), &response(404, "text/plain", ""));
        assert!(
            matches!(
                verdict,
                AttemptVerdict::Fail {
                    retryable: false,
                    ..
                }
            ),
            "{verdict:?}"
        );
    }

    #[test]
    fn the_query_is_encoded_and_added() {
        let query = [
            ("q".to_owned(), "a b&c".to_owned()),
            ("n".to_owned(), "1".to_owned()),
        ];
        assert_eq!(
            with_query("http://host/?x=1", &query),
            "http://host/?x=1&q=a%20b%26c&n=1"
        );
    }
}
