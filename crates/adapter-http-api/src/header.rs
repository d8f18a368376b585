//! Request headers that mean something here: `Idempotency-Key`, `Prefer`, `traceparent`, `Last-Event-ID`, `Accept`.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderName, header};
use eventflow_domain::Sequence;
use eventflow_wire::v1::WAIT_SECONDS_MAX;

use crate::trouble::Trouble;

/// An idempotency key is a name, not a document.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The key that makes a start unique.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Trouble> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
        Ok(Some(key.into()))
    } else {
        Err(Trouble::malformed(format!(
            "`Idempotency-Key` must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"
        )))
    }
}

/// How long the caller would wait for the end (`Prefer: wait=30`, RFC 7240), cut to what is allowed. A preference that
/// cannot be understood is ignored, as the RFC says.
pub(crate) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse::<u64>().ok())
        .map(|seconds| Duration::from_secs(seconds.min(WAIT_SECONDS_MAX)))
}

/// The W3C trace context; one that is not well-formed is ignored, as its specification says.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<Arc<str>> {
    eventflow_wire::v1::shape::traceparent(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// The last event a reader has seen; 0 where it has seen none.
pub(crate) fn last_event(headers: &HeaderMap) -> Result<Sequence, Trouble> {
    match headers.get(LAST_EVENT_ID).map(|value| value.to_str()) {
        None | Some(Ok("")) => Ok(Sequence(0)),
        Some(text) => text
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(Sequence)
            .ok_or_else(|| {
                Trouble::malformed("`Last-Event-ID` must be the `id` of an event of this stream")
            }),
    }
}

/// Whether the caller asks for this media type by name.
pub(crate) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case(media))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_wait_is_found_among_preferences_and_cut() {
        for (value, seconds) in [
            ("wait=30", Some(30)),
            ("respond-async, Wait = \"5\"; x=y", Some(5)),
            ("wait=999999", Some(WAIT_SECONDS_MAX)),
            ("wait=-1", None),
            ("wait", None),
            ("return=minimal", None),
        ] {
            let wait = preferred_wait(&headers("prefer", value));
            assert_eq!(wait, seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn keys_have_a_length() {
        let key = |value: &str| idempotency_key(&headers("idempotency-key", value));
        assert_eq!(key("cart-1").unwrap().as_deref(), Some("cart-1"));
        assert!(key("").is_err());
        assert!(key(&"k".repeat(256)).is_err());
        assert!(idempotency_key(&HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn the_last_event_is_a_sequence() {
        let last = |value| last_event(&headers("last-event-id", value)).map_err(drop);
        assert_eq!(last("17"), Ok(Sequence(17)));
        assert_eq!(last(""), Ok(Sequence(0)));
        assert_eq!(last("17a"), Err(()));
        assert_eq!(last("-1"), Err(()));
    }
}
