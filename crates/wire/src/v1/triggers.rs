//! Trigger events (requirement E5): a `CloudEvent`, or the platform's own envelope around a payload.

use std::sync::Arc;

use eventflow_domain::{Json, error::Fault};
use eventflow_ports::inbound::{ExternalEvent, Refusal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    invalid, read,
    shape::{TEXT_RULE, is_text},
};
use crate::envelope::Message;

/// The source of an event in the platform's envelope, which names none: its `event_id` is unique by itself.
pub const PLATFORM_SOURCE: &str = "urn:eventflow:platform";

/// Events in one batch: each may start executions, and its sender waits until all of them are durable.
pub const BATCH_EVENTS_MAX: usize = 100;

/// The answer to events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventsAccepted {
    /// How many, those that had come before included.
    pub accepted: usize,
}

/// The platform's envelope. `version`, `occurred_at` and `partition_key` mean nothing here, as everything else that is
/// not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformEvent {
    /// Unique.
    pub event_id: String,
    /// What happened: `automation_trigger_requested`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Carried on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// What it says; `null` where nothing is said.
    #[serde(default = "Json::null")]
    pub payload: Json,
}

/// Reads an event; `kind` is what its subject says that it is, `None` where the subject does not say.
pub fn event(message: Message, kind: Option<&str>) -> Result<ExternalEvent, Refusal> {
    let (envelope, data) = (message.envelope, message.data);
    let event = match (envelope.id, envelope.source, envelope.kind) {
        (Some(id), Some(source), Some(kind)) => ExternalEvent {
            source,
            id,
            kind,
            data,
            correlation: envelope.correlation,
            traceparent: envelope.traceparent,
        },
        (None, None, None) if is_platforms(&data) => {
            let mut event = platform(read(data.as_str().as_bytes())?)?;
            event.correlation = event.correlation.or(envelope.correlation);
            event.traceparent = envelope.traceparent;
            event
        }
        (id, source, kind) => {
            let given = [("ce-id", id), ("ce-source", source), ("ce-type", kind)];
            let missing = given.iter().filter(|(_, value)| value.is_none());
            let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
            return Err(Refusal::malformed(format!(
                "the event has no {}: send a CloudEvent, or the envelope with `event_id`, `type` and `payload`",
                missing.join(", no ")
            )));
        }
    };
    match kind {
        Some(said) if *event.kind != *said => Err(Refusal::malformed(format!(
            "the event is of type `{}`, its subject says `{said}`: publish it to the subject of its type",
            event.kind
        ))),
        _ => Ok(event),
    }
}

/// Reads events in structured mode, one JSON array of them; all of them, or none.
pub fn batch(body: &[u8]) -> Result<Vec<ExternalEvent>, Refusal> {
    let events: Vec<Json> = read(body)?;
    if events.len() > BATCH_EVENTS_MAX {
        let detail = format!("a batch has at most {BATCH_EVENTS_MAX} events: split it");
        return Err(invalid(vec![Fault::at("", detail)]));
    }
    let one = |(place, text): (usize, &Json)| {
        let message = Message::structured(text.as_str().as_bytes());
        let event = message.and_then(|message| event(message, None));
        event.map_err(|refusal| within(place, refusal))
    };
    events.iter().enumerate().map(one).collect()
}

/// What is wrong with one event, as it is seen from its batch.
fn within(place: usize, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Invalid { faults, .. } => {
            let below = |fault: Fault| Fault {
                pointer: format!("/{place}{}", fault.pointer),
                ..fault
            };
            invalid(faults.into_iter().map(below).collect())
        }
        Refusal::Malformed { detail, .. } => {
            Refusal::malformed(format!("event {place} of the batch: {detail}"))
        }
        other => other,
    }
}

/// Whether a payload looks like the platform's envelope.
fn is_platforms(data: &Json) -> bool {
    let object: Result<serde_json::Map<String, serde_json::Value>, _> = data.read();
    object.is_ok_and(|object| object.contains_key("event_id"))
}

fn platform(event: PlatformEvent) -> Result<ExternalEvent, Refusal> {
    let texts = [
        ("/event_id", Some(&event.event_id)),
        ("/type", Some(&event.kind)),
        ("/correlation_id", event.correlation_id.as_ref()),
    ];
    let wrong = texts
        .into_iter()
        .filter(|(_, text)| text.is_some_and(|text| !is_text(text)));
    let faults: Vec<Fault> = wrong
        .map(|(pointer, _)| Fault::at(pointer, TEXT_RULE))
        .collect();
    if !faults.is_empty() {
        return Err(invalid(faults));
    }
    Ok(ExternalEvent {
        source: PLATFORM_SOURCE.into(),
        id: event.event_id.into(),
        kind: event.kind.into(),
        data: event.payload,
        correlation: event.correlation_id.map(Arc::from),
        traceparent: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLATFORM: &str = r#"{"event_id":"e1","type":"automation_trigger_requested","version":1,
        "occurred_at":"2026-01-14T00:00:00Z","correlation_id":"c1","partition_key":"p",
        "payload":{"automation_id":"auto_123","trigger":{"source":"s","event_name":"n"},"context":{}}}"#;

    fn read_event(
        headers: &[(&str, &str)],
        body: &str,
        kind: Option<&str>,
    ) -> Result<ExternalEvent, Refusal> {
        event(
            Message::read(headers.iter().copied(), body.as_bytes())?,
            kind,
        )
    }

    #[test]
    fn both_envelopes_are_read() {
        let kind = "automation_trigger_requested";
        let platform = read_event(&[], PLATFORM, Some(kind)).unwrap();
        assert_eq!((&*platform.id, &*platform.source), ("e1", PLATFORM_SOURCE));
        assert_eq!(platform.correlation.as_deref(), Some("c1"));
        let headers = [
            ("ce-id", "e1"),
            ("ce-source", PLATFORM_SOURCE),
            ("ce-type", kind),
            ("ce-correlationid", "c1"),
        ];
        let body = r#"{"automation_id":"auto_123","trigger":{"source":"s","event_name":"n"},"context":{}}"#;
        assert_eq!(read_event(&headers, body, Some(kind)).unwrap(), platform);
    }

    #[test]
    fn the_payload_of_a_cloud_event_may_look_like_anything() {
        let headers = [("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")];
        let event = read_event(&headers, PLATFORM, None).unwrap();
        assert_eq!(&*event.kind, "t");
        assert!(event.data.as_str().starts_with(r#"{"event_id""#));
    }

    #[test]
    fn what_cannot_be_told_apart_later_is_refused() {
        for (headers, body, kind, expected) in [
            (
                vec![],
                r#"{"automation_id":"a"}"#,
                None,
                "no ce-id, no ce-source, no ce-type",
            ),
            (vec![("ce-id", "1")], "{}", None, "no ce-source, no ce-type"),
            (vec![("ce-id", "1")], PLATFORM, None, "no ce-source"),
            (vec![], r#"{"event_id":""}"#, None, "missing field `type`"),
            (
                vec![],
                r#"{"event_id":"","type":"a\u0000b"}"#,
                None,
                "2 things are wrong",
            ),
            (
                vec![],
                PLATFORM,
                Some("ordered"),
                "its subject says `ordered`",
            ),
        ] {
            let refusal = read_event(&headers, body, kind).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{body}: {refusal}");
        }
    }
}
