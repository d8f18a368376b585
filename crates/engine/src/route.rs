//! The way of a question to whoever leads its partition: this node, or another one by a message.

use std::{
    fmt::Display,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::PartitionId;
use eventflow_ports::{PeerError, Responder, inbound::Refusal};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    engine::Inner,
    leading::Membership,
    partition::Partition,
    questions::{Ask, Question},
};

/// Between the tries to find the leader of a partition that is just changing hands: a graceful hand-over takes less,
/// and a caller waits for less than a second where there is none.
const PAUSES_MS: [u64; 6] = [5, 20, 50, 100, 200, 400];

/// Requests of other nodes under way for one partition; more wait. As many as a mailbox holds commands, and as many
/// again for those who wait for something to happen.
const REQUESTS_MAX: u32 = 20_000;

/// How long one partition of several may hold up the answers of the others.
const ONE_OF_MANY_WITHIN: Duration = Duration::from_secs(1);

/// What another node says to a question.
#[derive(Debug, Serialize, Deserialize)]
enum Reply<T> {
    /// Its own answer.
    Answered(Result<T, Refusal>),
    /// It does not lead the partition, or not any more.
    NotLed,
}

/// Nobody has answered: whoever leads the partition now has to be asked.
struct Missed;

impl Inner {
    /// Asks whoever leads a partition.
    pub(crate) async fn ask<Q: Question>(
        self: &Arc<Self>,
        home: PartitionId,
        question: Q,
    ) -> Result<Q::Answer, Refusal> {
        match (&self.membership, self.led(home)) {
            (None, Some(partition)) => question.answer(self, &partition).await,
            (None, None) => Err(nobody(home)),
            (Some(membership), _) => Box::pin(self.find_leader(membership, home, question)).await,
        }
    }

    /// The same of one partition of several that a caller asks at once: whoever waits for all of them must not wait long for
    /// one whose journal elects a leader.
    pub(crate) async fn ask_soon<Q: Question>(
        self: &Arc<Self>,
        home: PartitionId,
        question: Q,
    ) -> Result<Q::Answer, Refusal> {
        let asked = self.ask(home, question);
        // On a store of its own a node has one journal for all of them.
        if self.membership.is_none() {
            return asked.await;
        }
        tokio::time::timeout(ONE_OF_MANY_WITHIN, asked)
            .await
            .unwrap_or_else(|_| Err(unanswered(home, "it takes too long")))
    }

    async fn find_leader<Q: Question>(
        self: &Arc<Self>,
        membership: &Membership,
        home: PartitionId,
        mut question: Q,
    ) -> Result<Q::Answer, Refusal> {
        let mut pauses = PAUSES_MS.into_iter().map(Duration::from_millis);
        let mut since = Instant::now();
        loop {
            let asked = if let Some(partition) = self.led(home) {
                self.answer_here(&partition, question.clone()).await
            } else {
                tokio::select! {
                    biased;
                    asked = ask_peer(membership, home, &question) => asked,
                    // Whoever was asked may have died: its successor is asked, without waiting for the time-out.
                    () = self.seat(home).succession() => Err(Missed),
                }
            };
            let (Err(Missed), Some(pause)) = (&asked, pauses.next()) else {
                return asked.unwrap_or_else(|Missed| Err(nobody(home)));
            };
            self.seat(home).await_change(pause).await;
            question.again(since.elapsed());
            since = Instant::now();
        }
    }

    /// Answers, where this node leads the partition all the while.
    async fn answer_here<Q: Question>(
        self: &Arc<Self>,
        partition: &Partition,
        question: Q,
    ) -> Result<Result<Q::Answer, Refusal>, Missed> {
        if !self.may_answer() {
            return Err(Missed);
        }
        let answer = question.answer(self, partition).await;
        let is_lost = matches!(answer, Err(Refusal::Unavailable { .. })) && partition.is_stopped();
        // Looked at again, since this process may have stood still: then another node has gone on meanwhile.
        if is_lost || !self.may_answer() {
            return Err(Missed);
        }
        Ok(answer)
    }

    /// Whether nobody else can have taken over what is led here.
    fn may_answer(&self) -> bool {
        let membership = self.membership.as_ref();
        membership.is_none_or(|membership| membership.lease.holds())
    }

    /// What is sent back to another node that has asked.
    pub(crate) async fn reply<Q: Question>(
        self: &Arc<Self>,
        partition: &Partition,
        question: Q,
    ) -> Bytes {
        match self.answer_here(partition, question).await {
            Ok(answer) => written(&Reply::Answered(answer)),
            Err(Missed) => written(&Reply::<()>::NotLed),
        }
    }
}

async fn ask_peer<Q: Question>(
    membership: &Membership,
    home: PartitionId,
    question: &Q,
) -> Result<Result<Q::Answer, Refusal>, Missed> {
    let request = written::<Ask>(&question.clone().into());
    let asked = membership
        .cluster
        .peers
        .ask(home, request, question.within());
    let answer = match asked.await {
        Ok(answer) => answer,
        Err(PeerError::Nobody | PeerError::Gone) => return Err(Missed),
        Err(PeerError::Unavailable(error)) => {
            return Ok(Err(unanswered(home, error)));
        }
        Err(PeerError::TooLarge { limit }) => {
            let what = "a message between nodes";
            return Ok(Err(Refusal::TooLarge { what, limit }));
        }
    };
    match serde_json::from_slice(&answer) {
        Ok(Reply::Answered(answer)) => Ok(answer),
        Ok(Reply::NotLed) => Err(Missed),
        Err(error) => Ok(Err(Refusal::unavailable(format!(
            "the node that leads partition {home} answered what this version cannot read: {error}"
        )))),
    }
}

fn unanswered(home: PartitionId, why: impl Display) -> Refusal {
    Refusal::unavailable(format!(
        "partition {home} did not answer: the request may or may not have been carried out, repeat it ({why})"
    ))
}

fn nobody(home: PartitionId) -> Refusal {
    Refusal::unavailable(format!(
        "partition {home} has no leader now: the request may or may not have been carried out, repeat it"
    ))
}

fn written<T: Serialize>(message: &T) -> Bytes {
    serde_json::to_vec(message)
        .expect("a message between nodes serialises")
        .into()
}

/// Answers other nodes for a partition that is led here.
pub(crate) struct Leader {
    inner: Weak<Inner>,
    partition: Arc<Partition>,
    places: Semaphore,
}

impl Leader {
    pub(crate) fn new(inner: &Arc<Inner>, partition: Arc<Partition>) -> Self {
        Self {
            inner: Arc::downgrade(inner),
            partition,
            places: Semaphore::new(REQUESTS_MAX as usize),
        }
    }

    /// Resolves once every request that has come is answered.
    pub(crate) async fn answered(&self) {
        let _all = self.places.acquire_many(REQUESTS_MAX).await;
    }
}

#[async_trait]
impl Responder for Leader {
    async fn respond(&self, request: Bytes) -> Bytes {
        let (Some(inner), Ok(_place)) = (self.inner.upgrade(), self.places.acquire().await) else {
            return written(&Reply::<()>::NotLed);
        };
        match serde_json::from_slice::<Ask>(&request) {
            Ok(ask) => ask.answer(&inner, &self.partition).await,
            Err(error) => written(&Reply::<()>::Answered(Err(Refusal::unavailable(format!(
                "another node asked what this version cannot read: {error}"
            ))))),
        }
    }
}
