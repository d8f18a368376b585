//! Fast-ingest batches of `JetStream` (its ADR-50): messages to one stream that are stored one after the other as they come,
//! and acknowledged some hundreds at a time.
//!
//! A message that was lost on the way ends its batch: nothing behind it is stored, so what is in the stream is in order
//! whatever happens. A batch that has failed is sent again; the stream drops the ids that it holds.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber, jetstream};
use bytes::Bytes;
use eventflow_ports::Source;
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};

/// Messages after which the server is asked to acknowledge; it may do so sooner.
const ACKNOWLEDGED_EVERY: u64 = 256;
/// Messages of a new line that are sent before the server has answered: it may be that nobody takes them, for as long as a
/// stream has no leader.
const UNHEARD_MAX: u64 = 1;
/// Acknowledgements that may be missing before the next message waits: one is on its way while the next one fills up.
const ACKNOWLEDGEMENTS_MISSING_MAX: u64 = 2;
/// Where a batch takes longer, or fails only then, servers have too much to do: after an outage, say, when work waits.
const SLOW: Duration = Duration::from_millis(100);
/// The next batch then waits so many times as long, so that work goes first.
const REST_FACTOR: u32 = 3;
/// No rest is longer.
const REST_MAX: Duration = Duration::from_secs(3);

/// One message on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// What a message is to its batch.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Start = 0,
    Append = 1,
    /// The last one: it is stored as well.
    Commit = 2,
}

/// The batches of one stream, one at a time: the server gives a second one beside it a far smaller window.
#[derive(Debug)]
pub(super) struct Batches {
    client: Client,
    /// How long the server may take over an acknowledgement.
    answer_within: Duration,
    place: Mutex<Place>,
}

/// Where one batch is sent at a time.
#[derive(Debug)]
struct Place {
    /// Kept from batch to batch: a new interest costs the server more than a small batch does.
    line: Option<Line>,
    rests_until: Instant,
}

impl Batches {
    pub(super) fn new(client: &Client, answer_within: Duration) -> Self {
        Self {
            client: client.clone(),
            answer_within,
            place: Mutex::new(Place {
                line: None,
                rests_until: Instant::now(),
            }),
        }
    }

    /// Sends messages, all of them for this stream, in their order; returns once they are stored.
    pub(super) async fn send(&self, messages: Vec<Outgoing>) -> Result<(), Source> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut place = self.place.lock().await;
        sleep_until(place.rests_until).await;
        // Where one fails it is not used again: something may still come.
        let mut line = match place.line.take() {
            Some(line) => line,
            None => Line::open(&self.client).await?,
        };
        let began = Instant::now();
        let sent = line.send(&self.client, messages, self.answer_within).await;
        place.rests_until = Instant::now() + rest_after(began.elapsed());
        sent?;
        place.line = Some(line);
        Ok(())
    }
}

/// How long nothing is sent after a batch that took so long.
fn rest_after(took: Duration) -> Duration {
    if took < SLOW {
        Duration::ZERO
    } else {
        (took * REST_FACTOR).min(REST_MAX)
    }
}

/// Where the server's replies come in, for one batch after the other.
#[derive(Debug)]
struct Line {
    inbox: String,
    replies: Subscriber,
    batches: u64,
}

impl Line {
    async fn open(client: &Client) -> Result<Self, Source> {
        let inbox = client.new_inbox();
        Ok(Self {
            replies: client.subscribe(format!("{inbox}.>")).await?,
            inbox,
            batches: 0,
        })
    }

    async fn send(
        &mut self,
        client: &Client,
        messages: Vec<Outgoing>,
        answer_within: Duration,
    ) -> Result<(), Source> {
        self.batches += 1;
        // The server knows a batch by the last token of this alone: no other line may use it.
        let (_, line) = self.inbox.rsplit_once('.').unwrap_or_default();
        let batch = format!("{}.{line}-{}", self.inbox, self.batches);
        let count = messages.len() as u64;
        let mut may_send = if self.batches == 1 {
            UNHEARD_MAX
        } else {
            ACKNOWLEDGED_EVERY * ACKNOWLEDGEMENTS_MISSING_MAX
        };
        for (number, message) in (1..).zip(messages) {
            while number > may_send {
                match self.progress(answer_within).await? {
                    Progress::Until(last) => may_send = may_send.max(last),
                    Progress::Ended(taken) => return Err(ended(taken, count)),
                }
            }
            let operation = match number {
                _ if number == count => Operation::Commit,
                1 => Operation::Start,
                _ => Operation::Append,
            } as u8;
            let reply = format!("{batch}.{ACKNOWLEDGED_EVERY}.fail.{number}.{operation}.$FI");
            let Outgoing {
                subject,
                headers,
                payload,
            } = message;
            client
                .publish_with_reply_and_headers(subject, reply, headers, payload)
                .await?;
        }
        loop {
            match self.progress(answer_within).await? {
                Progress::Until(_) => {}
                Progress::Ended(taken) if taken == count => return Ok(()),
                Progress::Ended(taken) => return Err(ended(taken, count)),
            }
        }
    }

    async fn progress(&mut self, answer_within: Duration) -> Result<Progress, Source> {
        let reply = timeout(answer_within, self.replies.next()).await?;
        judge(&reply.ok_or("the connection to NATS was closed")?)
    }
}

/// What the server says of a batch.
#[derive(Debug, Deserialize)]
struct Reply {
    /// Of what says how it goes; nothing at the end.
    #[serde(rename = "type")]
    kind: Option<Kind>,
    #[serde(rename = "seq", default)]
    sequence: u64,
    /// After how many messages it will acknowledge again.
    #[serde(rename = "msgs", default)]
    every: u64,
    /// How many messages were taken, at the end.
    count: Option<u64>,
    error: Option<jetstream::Error>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Ack,
    Gap,
    Err,
}

/// How far the server has come.
#[derive(Debug)]
enum Progress {
    /// Up to this message it may be sent.
    Until(u64),
    /// It took so many, and no more are coming.
    Ended(u64),
}

fn judge(message: &Message) -> Result<Progress, Source> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err("no stream takes the subject".into());
    }
    let reply: Reply = serde_json::from_slice(&message.payload)?;
    let sequence = reply.sequence;
    match (reply.error, reply.kind, reply.count) {
        (Some(error), ..) => Err(error.into()),
        (None, Some(Kind::Ack), _) => Ok(Progress::Until(
            sequence.saturating_add(reply.every.saturating_mul(ACKNOWLEDGEMENTS_MISSING_MAX)),
        )),
        (None, Some(Kind::Gap | Kind::Err), _) => {
            Err(format!("what came before message {sequence} of the batch was lost").into())
        }
        (None, None, Some(taken)) => Ok(Progress::Ended(taken)),
        (None, None, None) => Err("the server says neither how far it is nor what is wrong".into()),
    }
}

fn ended(taken: u64, count: u64) -> Source {
    format!("the server took {taken} of {count} messages").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_follows_a_slow_batch() {
        let rest = |took_ms| rest_after(Duration::from_millis(took_ms));
        assert_eq!(rest(99), Duration::ZERO);
        assert_eq!(rest(200), Duration::from_millis(600));
        assert_eq!(rest(60_000), REST_MAX);
    }

    fn reply(payload: &'static str) -> Result<Progress, String> {
        let message = Message {
            subject: "_INBOX.a.1.256.fail.3.1.$FI".into(),
            reply: None,
            payload: Bytes::from_static(payload.as_bytes()),
            headers: None,
            status: None,
            description: None,
            length: payload.len(),
        };
        judge(&message).map_err(|error| error.to_string())
    }

    #[test]
    fn the_window_follows_what_the_server_says() {
        let first = reply(r#"{"type":"ack","seq":0,"msgs":256}"#);
        assert!(matches!(first, Ok(Progress::Until(512))), "{first:?}");
        let slower = reply(r#"{"type":"ack","seq":300,"msgs":10}"#);
        assert!(matches!(slower, Ok(Progress::Until(320))), "{slower:?}");
    }

    #[test]
    fn a_batch_ends_with_how_many_were_taken() {
        let last = reply(r#"{"stream":"EVENTS","seq":6,"batch":"1","count":5}"#);
        assert!(matches!(last, Ok(Progress::Ended(5))), "{last:?}");
        let repeated =
            reply(r#"{"stream":"EVENTS","seq":6,"duplicate":true,"batch":"1","count":1}"#);
        assert!(matches!(repeated, Ok(Progress::Ended(1))), "{repeated:?}");
    }

    #[test]
    fn what_was_lost_or_refused_fails_it() {
        let gap = reply(r#"{"type":"gap","last_seq":2,"seq":3}"#);
        assert!(gap.is_err_and(|error| error.contains("message 3")));
        let unknown = reply(
            r#"{"error":{"code":400,"err_code":10208,"description":"batch publish ID unknown"},"stream":"E","seq":0}"#,
        );
        assert!(unknown.is_err_and(|error| error.contains("unknown")));
        let error = r#"{"type":"err","seq":2,"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#;
        assert!(reply(error).is_err_and(|error| error.contains("size")));
        assert!(reply("{}").is_err());
    }
}
