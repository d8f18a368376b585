//! Answering for a partition: each request in a task of its own, until the answering is dropped.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use eventflow_ports::{Answering, PeerError, Responder, Source};
use futures::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};

use super::{
    ANSWERED_AT_ONCE, BUSY, GONE, NOBODY, NatsPeers, REFUSED, Room, TOO_LARGE,
    parts::{Inbound, Outbound},
};

/// How long a request may take to come in all its parts, and an answer to be fetched in all of its.
const PARTS_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take until no more requests can come once the answering is dropped.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Whoever answers for one partition.
struct Desk {
    client: Client,
    room: Arc<Room>,
    responder: Arc<dyn Responder>,
    /// Its sender is what the caller holds: gone once the answering is dropped.
    open: watch::Receiver<()>,
    places: Arc<Semaphore>,
}

/// Answers from when this returns.
pub(super) async fn start(
    peers: &NatsPeers,
    subject: String,
    responder: Arc<dyn Responder>,
) -> Result<Answering, Source> {
    let requests = peers.client.subscribe(subject).await?;
    heard(&peers.client).await?;
    let (opened, open) = watch::channel(());
    let desk = Desk {
        client: peers.client.clone(),
        room: peers.room.clone(),
        responder,
        open,
        places: Arc::new(Semaphore::new(ANSWERED_AT_ONCE)),
    };
    tokio::spawn(Arc::new(desk).listen(requests));
    Ok(Answering(Box::new(opened)))
}

/// Returns once the server has heard all that was said to it before: what is said to ourselves comes back after that. No
/// answer would tell the same, but not where somebody listens to everything.
async fn heard(client: &Client) -> Result<(), Source> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, Bytes::new()).await?;
    let came = echo.next().await;
    came.map(drop)
        .ok_or_else(|| "the connection to NATS was closed".into())
}

impl Desk {
    async fn listen(self: Arc<Self>, mut requests: Subscriber) {
        loop {
            tokio::select! {
                biased;
                () = self.closed() => break,
                request = requests.next() => match request {
                    Some(request) => self.receive(request).await,
                    None => return,
                },
            }
        }
        // Those that are on their way already learn at once that they have to ask somebody else.
        if requests.drain().await.is_err() {
            return;
        }
        let refusing = async {
            while let Some(request) = requests.next().await {
                self.refuse(request.reply, NOBODY).await;
            }
        };
        timeout(CLOSE_WITHIN, refusing).await.ok();
    }

    async fn receive(self: &Arc<Self>, request: Message) {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(self.clone().handle(request, place));
            }
            Err(_) => self.refuse(request.reply, BUSY).await,
        }
    }

    async fn handle(self: Arc<Self>, request: Message, _place: OwnedSemaphorePermit) {
        let Some(whole) = self.whole(&request).await else {
            return;
        };
        if !self.is_open() {
            return self.refuse(request.reply, NOBODY).await;
        }
        let answer = tokio::select! {
            biased;
            // Somebody else may answer for it by now.
            () = self.closed() => return self.refuse(request.reply, GONE).await,
            answer = self.responder.respond(whole) => answer,
        };
        if !self.is_open() {
            return self.refuse(request.reply, GONE).await;
        }
        if let Some(reply) = request.reply {
            self.answer(reply, answer).await;
        }
    }

    /// The request, put together; nothing where it cannot be and that was said.
    async fn whole(&self, request: &Message) -> Option<Bytes> {
        let received = async {
            let inbound = Inbound::of(request)?;
            let room = self.room.requests.try_acquire();
            if room.is_err() && !inbound.is_whole() {
                return Ok(None);
            }
            // What is whole takes no room.
            let _room = room.ok().filter(|_| !inbound.is_whole());
            let deadline = Instant::now() + PARTS_WITHIN;
            inbound.receive(&self.client, deadline).await.map(Some)
        };
        let refused = match received.await {
            Ok(Some(whole)) => return Some(whole),
            Ok(None) => BUSY,
            Err(PeerError::TooLarge { .. }) => TOO_LARGE,
            Err(error) => {
                tracing::warn!(%error, "a request of another node did not come in whole");
                BUSY
            }
        };
        self.refuse(request.reply.clone(), refused).await;
        None
    }

    async fn answer(&self, reply: Subject, answer: Bytes) {
        let outbound = match Outbound::pack(&self.client, answer).await {
            Ok(outbound) => outbound,
            Err(PeerError::TooLarge { .. }) => return self.refuse(Some(reply), TOO_LARGE).await,
            Err(error) => {
                tracing::error!(%error, "an answer to another node could not be packed");
                return;
            }
        };
        // Who asked gives up after a while, and asks again.
        if outbound.parts() == 1 {
            let headers = outbound.headers(None);
            let published = self
                .client
                .publish_with_headers(reply, headers, outbound.first());
            published.await.ok();
            return;
        }
        let Ok(_held) = self.room.held.try_acquire() else {
            return self.refuse(Some(reply), BUSY).await;
        };
        let Ok(Some(rest)) = outbound.hold(&self.client).await else {
            return;
        };
        let headers = outbound.headers(Some(rest.subject()));
        let first = self
            .client
            .publish_with_headers(reply, headers, outbound.first());
        if first.await.is_ok() {
            timeout(PARTS_WITHIN, rest.serve_all(&outbound)).await.ok();
        }
    }

    async fn refuse(&self, reply: Option<Subject>, because: &str) {
        let Some(reply) = reply else {
            return;
        };
        let mut headers = HeaderMap::new();
        headers.insert(REFUSED, because);
        let refused = self
            .client
            .publish_with_headers(reply, headers, Bytes::new());
        refused.await.ok();
    }

    fn is_open(&self) -> bool {
        self.open.has_changed().is_ok()
    }

    /// Resolves once the answering is dropped.
    async fn closed(&self) {
        let mut open = self.open.clone();
        while open.changed().await.is_ok() {}
    }
}
