//! The envelope of every message: `CloudEvents` 1.0, as headers beside a bare payload (binary mode) or as one JSON object
//! around it (structured mode).

use std::{borrow::Cow, sync::Arc};

use eventflow_domain::{Json, Tenant, error::Fault};
use eventflow_ports::inbound::Refusal;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

use crate::v1::{Time, accept, invalid, read, shape};

/// The media type of a structured event.
pub const CLOUDEVENT: &str = "application/cloudevents+json";
/// The media type of many structured events, as one JSON array.
pub const CLOUDEVENTS: &str = "application/cloudevents-batch+json";
/// The media type of a bare payload.
pub const JSON: &str = "application/json";
/// The version of the `CloudEvents` specification that events follow.
pub const SPEC_VERSION: &str = "1.0";
/// What is percent-encoded in a header, beside what is no ASCII (`CloudEvents` HTTP binding, section 3.1.3.2).
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What a message says of itself (INTERFACES section 3, requirement S3). On what comes in, everything may be missing:
/// a plain client sends a bare payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `ce-id`: unique for its source. Of what goes out a UUID v7, and the `Nats-Msg-Id` as well.
    pub id: Option<Arc<str>>,
    /// `ce-source`: who says it. Of what goes out `/eventflow/<tenant>/<namespace>/<workflow>`.
    pub source: Option<Arc<str>>,
    /// `ce-type`: what happened or is asked for.
    pub kind: Option<Arc<str>>,
    /// `ce-subject`: the id of the execution or call that it is about.
    pub subject: Option<Arc<str>>,
    /// `ce-time`: when it happened, by the clock of its source.
    pub time: Option<Time>,
    /// `ce-tenantid`: whose it is.
    pub tenant: Option<Tenant>,
    /// `ce-correlationid`: from the trigger, carried on.
    pub correlation: Option<Arc<str>>,
    /// `ce-causationid`: the `ce-id` of the message that caused it.
    pub causation: Option<Arc<str>>,
    /// `ce-partitionkey`: what shares it stays in order; of what goes out the execution's id.
    pub partition_key: Option<Arc<str>>,
    /// `ce-dataschema`: names the shape of the payload and its version.
    pub data_schema: Option<Arc<str>>,
    /// `traceparent`: the W3C trace context of what started it.
    pub traceparent: Option<Arc<str>>,
}

impl Envelope {
    /// The headers of binary mode, the payload's `content-type` included. Names are in lower case; values are
    /// percent-encoded where the `CloudEvents` HTTP binding, which the NATS binding follows, asks for it.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let texts = [
            ("ce-id", &self.id),
            ("ce-source", &self.source),
            ("ce-type", &self.kind),
            ("ce-subject", &self.subject),
            ("ce-correlationid", &self.correlation),
            ("ce-causationid", &self.causation),
            ("ce-partitionkey", &self.partition_key),
            ("ce-dataschema", &self.data_schema),
            ("traceparent", &self.traceparent),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, encoded(text.as_deref()?))));
        let time = self.time.map(|time| ("ce-time", time.to_string().into()));
        let tenant = self.tenant.as_ref();
        let tenant = tenant.map(|tenant| ("ce-tenantid", tenant.as_str().into()));
        let fixed = [
            ("ce-specversion", SPEC_VERSION.into()),
            ("content-type", JSON.into()),
        ];
        fixed.into_iter().chain(texts).chain(time).chain(tenant)
    }
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it says of itself.
    pub envelope: Envelope,
    /// What it says; `null` where there is nothing.
    pub data: Json,
}

impl Message {
    /// Reads a message in either mode. Headers are looked at whatever their case is, those that mean nothing here are
    /// ignored.
    pub fn read<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> Result<Self, Refusal> {
        let mut given = Given::default();
        let mut structured = false;
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if name == "content-type" {
                structured = is_structured(value);
            } else if name == "traceparent" {
                given.traceparent = Some(value.to_owned());
            } else if let Some(attribute) = name.strip_prefix("ce-") {
                given.set(attribute, decoded(value));
            }
        }
        if structured {
            return Structured::read(body)?.into_message(given.traceparent);
        }
        let data = match body {
            [] => Json::null(),
            body => read(body)?,
        };
        Self::of(given, data, "the header `ce-", "`")
    }

    /// Reads a message in structured mode.
    pub fn structured(body: &[u8]) -> Result<Self, Refusal> {
        Structured::read(body)?.into_message(None)
    }

    fn of(given: Given, data: Json, before: &str, after: &str) -> Result<Self, Refusal> {
        let data = accept(data).map_err(|error| {
            invalid(vec![Fault::at(
                "",
                format!("the payload cannot be worked with: {error}"),
            )])
        })?;
        let envelope = given.checked().map_err(|(name, detail)| {
            Refusal::malformed(format!("{before}{name}{after} {detail}"))
        })?;
        Ok(Self { envelope, data })
    }
}

/// Whether a content type says structured mode.
pub fn is_structured(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default();
    media.trim().eq_ignore_ascii_case(CLOUDEVENT)
}

/// Attributes as they were given, not looked at yet.
#[derive(Debug, Default, Deserialize)]
struct Given {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    tenantid: Option<String>,
    correlationid: Option<String>,
    causationid: Option<String>,
    partitionkey: Option<String>,
    dataschema: Option<String>,
    traceparent: Option<String>,
}

/// What is wrong with which attribute.
type Wrong = (&'static str, String);

impl Given {
    fn set(&mut self, attribute: &str, value: String) {
        let place = match attribute {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "tenantid" => &mut self.tenantid,
            "correlationid" => &mut self.correlationid,
            "causationid" => &mut self.causationid,
            "partitionkey" => &mut self.partitionkey,
            "dataschema" => &mut self.dataschema,
            // The distributed tracing extension's own spelling; the plain header wins.
            "traceparent" if self.traceparent.is_none() => &mut self.traceparent,
            _ => return,
        };
        *place = Some(value);
    }

    fn checked(self) -> Result<Envelope, Wrong> {
        if let Some(version) = self.specversion.filter(|version| version != SPEC_VERSION) {
            return Err((
                "specversion",
                format!("must be {SPEC_VERSION}, not `{version}`"),
            ));
        }
        let time = self.time.map(|time| time.parse::<Time>()).transpose();
        let tenant = self
            .tenantid
            .map(|tenant| Tenant::parse(&tenant))
            .transpose();
        Ok(Envelope {
            id: text("id", self.id)?,
            source: text("source", self.source)?,
            kind: text("type", self.kind)?,
            subject: text("subject", self.subject)?,
            time: time.map_err(|error| ("time", error.to_string()))?,
            tenant: tenant.map_err(|error| ("tenantid", error.to_string()))?,
            correlation: text("correlationid", self.correlationid)?,
            causation: text("causationid", self.causationid)?,
            partition_key: text("partitionkey", self.partitionkey)?,
            data_schema: text("dataschema", self.dataschema)?,
            traceparent: self.traceparent.as_deref().and_then(shape::traceparent),
        })
    }
}

fn text(name: &'static str, value: Option<String>) -> Result<Option<Arc<str>>, Wrong> {
    match value {
        Some(value) if !shape::is_text(&value) => Err((name, shape::TEXT_RULE.to_owned())),
        value => Ok(value.map(Arc::from)),
    }
}

/// An event in structured mode.
#[derive(Debug, Deserialize)]
struct Structured {
    #[serde(flatten)]
    given: Given,
    #[serde(default)]
    data: Option<serde_json::Value>,
    #[serde(default)]
    data_base64: Option<serde_json::Value>,
}

impl Structured {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let event: Self = read(body)?;
        let required = [
            ("/specversion", &event.given.specversion),
            ("/id", &event.given.id),
            ("/source", &event.given.source),
            ("/type", &event.given.kind),
        ];
        let missing = required.into_iter().filter(|(_, value)| value.is_none());
        let mut faults: Vec<Fault> = missing
            .map(|(pointer, _)| Fault::at(pointer, "a CloudEvent must have this attribute"))
            .collect();
        if event.data_base64.is_some() {
            faults.push(Fault::at("/data_base64", "send JSON, as `data`"));
        }
        if faults.is_empty() {
            Ok(event)
        } else {
            Err(invalid(faults))
        }
    }

    /// The trace context of a header wins over that of the event: it is of this very delivery.
    fn into_message(self, traceparent: Option<String>) -> Result<Message, Refusal> {
        let mut given = self.given;
        given.traceparent = traceparent.or(given.traceparent);
        let data = self.data.map_or_else(Json::null, |data| Json::of(&data));
        Message::of(given, data, "the attribute `", "`")
    }
}

/// A header's value.
fn encoded(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, ENCODED).into()
}

/// The other way round; what is no encoding stays as it is.
fn decoded(value: &str) -> String {
    let text = percent_decode_str(value).decode_utf8();
    text.map_or_else(|_| value.to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventflow_domain::Timestamp;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn full() -> Envelope {
        Envelope {
            id: Some("e 1".into()),
            source: Some("/shop".into()),
            kind: Some("ordered".into()),
            subject: Some("order-17".into()),
            time: Some(Time(Timestamp(1_772_357_400_000))),
            tenant: Some(Tenant::default_tenant()),
            correlation: Some("café \"1%\" %41".into()),
            causation: Some("c".into()),
            partition_key: Some("p".into()),
            data_schema: Some("urn:x".into()),
            traceparent: Some(TRACE.into()),
        }
    }

    fn read_binary(headers: &[(&str, &str)], body: &str) -> Result<Message, Refusal> {
        Message::read(headers.iter().copied(), body.as_bytes())
    }

    #[test]
    fn an_envelope_survives_its_headers() {
        let full = full();
        let headers: Vec<_> = full.headers().collect();
        assert!(headers.iter().all(|(_, value)| value.is_ascii()));
        assert!(headers.contains(&("ce-time", "2026-03-01T09:30:00.000Z".into())));
        assert!(headers.contains(&("ce-correlationid", "caf%C3%A9%20%221%25%22%20%2541".into())));
        let headers = headers.iter().map(|(name, value)| (*name, value.as_ref()));
        let message = Message::read(headers, b"{\"a\": 1}").unwrap();
        assert_eq!(message.envelope, full);
        assert_eq!(message.data.as_str(), r#"{"a":1}"#);
    }

    #[test]
    fn both_modes_say_the_same() {
        let structured = format!(
            r#"{{"specversion":"1.0","id":"e 1","source":"/shop","type":"ordered","subject":"order-17",
            "time":"2026-03-01T09:30:00.000Z","datacontenttype":"application/json","tenantid":"default",
            "correlationid":"café \"1%\" %41","causationid":"c","partitionkey":"p","dataschema":"urn:x",
            "traceparent":"{TRACE}","unknown":[1],"data":{{"a":1}}}}"#
        );
        let headers = [(
            "Content-Type",
            "application/cloudevents+json; charset=utf-8",
        )];
        let message = read_binary(&headers, &structured).unwrap();
        assert_eq!(message.envelope, full());
        assert_eq!(message.data.as_str(), r#"{"a":1}"#);
        assert_eq!(Message::structured(structured.as_bytes()).unwrap(), message);
    }

    #[test]
    fn a_bare_payload_is_a_message() {
        let message = read_binary(&[("Nats-Msg-Id", "x")], "[]").unwrap();
        assert_eq!(message.envelope, Envelope::default());
        assert_eq!(read_binary(&[], "").unwrap().data.as_str(), "null");
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let message = read_binary(&[("CE-Id", "1"), ("Traceparent", TRACE)], "1").unwrap();
        assert_eq!(message.envelope.id.as_deref(), Some("1"));
        assert_eq!(message.envelope.traceparent.as_deref(), Some(TRACE));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "x".repeat(257);
        for (headers, body, expected) in [
            (
                ("ce-specversion", "0.3"),
                "1",
                "`ce-specversion` must be 1.0",
            ),
            (("ce-time", "soon"), "1", "`ce-time` `soon` is not a time"),
            (("ce-tenantid", "a b"), "1", "`ce-tenantid` tenant `a b`"),
            (("ce-id", ""), "1", "`ce-id` must be 1 to 256 bytes"),
            (("ce-source", long.as_str()), "1", "`ce-source` must be"),
            (("ce-id", "1"), "{", "the body is not JSON"),
            (("ce-id", "1"), "[1e400]", "number out of range"),
            (("content-type", CLOUDEVENT), "[]", "invalid type"),
            (("content-type", CLOUDEVENT), "{}", "4 things are wrong"),
            (
                ("content-type", CLOUDEVENT),
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"MQ=="}"#,
                "send JSON",
            ),
            (
                ("content-type", CLOUDEVENT),
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","time":"soon"}"#,
                "the attribute `time` `soon`",
            ),
        ] {
            let refusal = read_binary(&[headers], body).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{body}: {refusal}");
        }
    }

    #[test]
    fn what_is_no_encoding_stays() {
        for text in ["100%", "%", "%zz", "%+1", "%ff"] {
            assert_eq!(decoded(text), text);
        }
    }
}
