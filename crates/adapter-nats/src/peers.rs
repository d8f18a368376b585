//! The `Peers` port: core requests on a subject for each partition, to which its leader alone subscribes.
//!
//! No stream is between them: who asks is heard now or not at all, and repeats what has got no answer. What is larger
//! than a message may be comes in [`parts`].

mod answering;
mod parts;

use std::{sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Request, RequestError, RequestErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::PartitionId;
use eventflow_ports::{Answering, MESSAGE_BYTES_MAX, PeerError, Peers, Responder, Source};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use self::parts::{Inbound, Outbound, Rest};
use crate::NatsConfig;

/// Messages in parts that a node is putting together: each may have 64 MiB and twice that while it is unpacked.
const RECEIVED_AT_ONCE: usize = 8;
/// Answers in parts that a node holds until they have been fetched, or given up on.
const HELD_AT_ONCE: usize = 8;
/// Requests of one partition that are being answered; each is some kilobytes, and most wait for a record to be durable.
const ANSWERED_AT_ONCE: usize = 10_000;

/// Why a request has no answer, as a header of what comes instead of one.
const REFUSED: &str = "eventflow-refused";
/// Nobody answers for this partition here any more: it was not heard.
const NOBODY: &str = "nobody";
/// The same, and it was heard before.
const GONE: &str = "gone";
/// There is no room for it: it was not carried out.
const BUSY: &str = "busy";
/// Its answer is too large.
const TOO_LARGE: &str = "too-large";

/// [`Peers`] on `<prefix>.partition.<p>`.
#[derive(Debug, Clone)]
pub struct NatsPeers {
    client: Client,
    prefix: String,
    answer_within: Duration,
    room: Arc<Room>,
}

/// Room for messages that come in parts. Two kinds, so that nobody who answers waits for somebody who asks.
#[derive(Debug)]
struct Room {
    requests: Semaphore,
    answers: Semaphore,
    held: Semaphore,
}

impl NatsPeers {
    /// On a client that is connected; there is nothing to be opened.
    pub fn new(client: &Client, config: &NatsConfig) -> Self {
        Self {
            client: client.clone(),
            prefix: config.prefix.clone(),
            answer_within: config.answer_within,
            room: Arc::new(Room {
                requests: Semaphore::new(RECEIVED_AT_ONCE),
                answers: Semaphore::new(RECEIVED_AT_ONCE),
                held: Semaphore::new(HELD_AT_ONCE),
            }),
        }
    }

    fn subject(&self, partition: PartitionId) -> String {
        format!("{}.partition.{partition}", self.prefix)
    }

    async fn ask_by(
        &self,
        partition: PartitionId,
        request: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, PeerError> {
        let outbound = Outbound::pack(&self.client, request).await?;
        let rest = outbound.hold(&self.client).await.map_err(unavailable)?;
        let request = Request::new()
            .headers(outbound.headers(rest.as_ref().map(Rest::subject)))
            .payload(outbound.first())
            // The deadline is here.
            .timeout(None);
        let asked = self.client.send_request(self.subject(partition), request);
        let asked = async { asked.await.map_err(not_answered) };
        let answer = match rest {
            None => asked.await?,
            Some(rest) => tokio::select! {
                answer = asked => answer?,
                // It ends where the connection does.
                () = rest.serve(&outbound) => return Err(unavailable("the connection to NATS was closed")),
            },
        };
        if let Some(refused) = header(answer.headers.as_ref(), REFUSED) {
            return Err(refusal(refused));
        }
        let inbound = Inbound::of(&answer)?;
        let _room = if inbound.is_whole() {
            None
        } else {
            Some(self.room.answers.acquire().await.map_err(unavailable)?)
        };
        inbound.receive(&self.client, deadline).await
    }
}

#[async_trait]
impl Peers for NatsPeers {
    async fn ask(
        &self,
        partition: PartitionId,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, PeerError> {
        let deadline = Instant::now() + within;
        let asked = self.ask_by(partition, request, deadline);
        timeout_at(deadline, asked).await.map_err(unavailable)?
    }

    async fn answer(
        &self,
        partition: PartitionId,
        responder: Arc<dyn Responder>,
    ) -> Result<Answering, PeerError> {
        let answering = answering::start(self, self.subject(partition), responder);
        let answering = timeout(self.answer_within, answering).await;
        answering.map_err(unavailable)?.map_err(unavailable)
    }
}

/// What a refusal in place of an answer is to who asked.
fn refusal(refused: &str) -> PeerError {
    match refused {
        NOBODY => PeerError::Nobody,
        GONE => PeerError::Gone,
        TOO_LARGE => too_large(),
        BUSY => unavailable("it has too much to do: ask again"),
        other => unavailable(format!("it says `{other}`")),
    }
}

fn not_answered(error: RequestError) -> PeerError {
    match error.kind() {
        RequestErrorKind::NoResponders => PeerError::Nobody,
        _ => unavailable(error),
    }
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(async_nats::HeaderValue::as_str)
}

fn too_large() -> PeerError {
    PeerError::TooLarge {
        limit: MESSAGE_BYTES_MAX,
    }
}

fn unavailable(reason: impl Into<Source>) -> PeerError {
    PeerError::Unavailable(reason.into())
}
