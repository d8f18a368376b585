//! Reads server-sent events one by one, as they come.

use anyhow::{Context, ensure};
use serde_json::Value;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What a reader resumes after.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// The `CloudEvent`.
    pub cloud_event: Value,
}

impl Event {
    /// What the event itself says, inside of its envelope.
    pub fn data(&self) -> &Value {
        &self.cloud_event["data"]
    }
}

/// A stream that is being read.
pub struct Events {
    response: reqwest::Response,
    unread: Vec<u8>,
}

impl Events {
    pub(crate) fn of(response: reqwest::Response) -> anyhow::Result<Self> {
        let status = response.status();
        ensure!(
            status == 200,
            "a stream of events was answered with {status}"
        );
        Ok(Self {
            response,
            unread: Vec::new(),
        })
    }

    /// The next event, `None` once the service has ended the stream.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let message: Vec<u8> = self.unread.drain(..end + 2).collect();
                // A comment keeps the stream alive and says nothing.
                if !message.starts_with(b":") {
                    return parse(std::str::from_utf8(&message)?).map(Some);
                }
            } else {
                match self.response.chunk().await? {
                    Some(bytes) => self.unread.extend_from_slice(&bytes),
                    None => return Ok(None),
                }
            }
        }
    }

    /// Everything to the end of the stream.
    pub async fn rest(mut self) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

fn parse(message: &str) -> anyhow::Result<Event> {
    let field = |name: &str| {
        let value = message.lines().find_map(|line| line.strip_prefix(name));
        value.with_context(|| format!("{name} is missing in {message}"))
    };
    Ok(Event {
        id: field("id: ")?.to_owned(),
        kind: field("event: ")?.to_owned(),
        cloud_event: serde_json::from_str(field("data: ")?)?,
    })
}
