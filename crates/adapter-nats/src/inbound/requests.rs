//! Requests: starts, controls and what agents say, answered by whichever node the server picks.

use std::sync::Arc;

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use eventflow_domain::Tenant;
use eventflow_ports::inbound::{Fault, Refusal, ResultOutcome};
use eventflow_wire::{
    envelope,
    v1::{
        Problem, RESULTS_MAX,
        batch::{Batch, Stand, Told, begin, told, unanswered},
        controls::{ControlBody, action},
        executions::StartBody,
        invalid, read, retry_after,
        shape::{reason, start, summary},
        tasks::{DurableAnswer, HeartbeatAnswer, ResultItem, ResultsAnswer},
    },
};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Duration, sleep},
};

use super::{Shared, contained, order, pairs, told_to_stop};
use crate::subject;

/// The nodes of a service share their requests.
const QUEUE_GROUP: &str = "eventflow";
/// The media type of a problem (RFC 9457).
const PROBLEM: &str = "application/problem+json";
/// How long a sender should stay away who found every place taken.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// Between two tries to subscribe.
const SUBSCRIBE_AGAIN: Duration = Duration::from_millis(250);
/// A key of a start is a name, not a document.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// One kind of request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Face {
    Start,
    Control,
    Results,
    /// Of tasks that this node has given out.
    OwnResults,
}

pub(super) const FACES: [Face; 4] = [Face::Start, Face::Control, Face::Results, Face::OwnResults];

impl Face {
    /// Requests that are answered at once, each a task of some kilobytes. Agents send most of them.
    const fn at_once_max(self) -> usize {
        match self {
            Self::Start | Self::Control => 1_024,
            Self::Results | Self::OwnResults => 4_096,
        }
    }
}

/// Answers requests of one kind until it is stopped, then those that are under way.
pub(super) async fn serve(shared: Arc<Shared>, face: Face, mut stopped: watch::Receiver<bool>) {
    let Some(mut requests) = subscribe(&shared, face, &mut stopped).await else {
        return;
    };
    let room = Arc::new(Semaphore::new(face.at_once_max()));
    let mut running = JoinSet::new();
    let mut draining = false;
    loop {
        let request = tokio::select! {
            biased;
            () = told_to_stop(&mut stopped), if !draining => {
                draining = true;
                // What the server has sent already is still answered; then the subscription ends.
                if requests.drain().await.is_err() {
                    break;
                }
                continue;
            }
            Some(_) = running.join_next(), if !running.is_empty() => continue,
            request = requests.next() => request,
        };
        let Some(request) = request else { break };
        match room.clone().try_acquire_owned() {
            Ok(place) => {
                let shared = shared.clone();
                running.spawn(async move {
                    let answer = contained(shared.handle(face, &request)).await;
                    shared.answer(&request, answer).await;
                    drop(place);
                });
            }
            Err(_) => shared.answer(&request, Err(busy(face))).await,
        }
    }
    while running.join_next().await.is_some() {}
}

/// Until it works: a connection that is broken now is not broken for ever. Nothing where it is stopped before, or no node
/// answers such requests here.
async fn subscribe(
    shared: &Shared,
    face: Face,
    stopped: &mut watch::Receiver<bool>,
) -> Option<Subscriber> {
    let subject = match face {
        Face::Start => shared.subjects.starts(),
        Face::Control => shared.subjects.controls(),
        Face::Results => shared.subjects.results(),
        Face::OwnResults => shared.own_results.clone()?,
    };
    loop {
        let subscribed = shared
            .client
            .queue_subscribe(subject.clone(), QUEUE_GROUP.to_owned());
        match subscribed.await {
            Ok(requests) => return Some(requests),
            Err(error) => tracing::warn!(%error, "requests cannot be subscribed to, trying again"),
        }
        tokio::select! {
            () = told_to_stop(stopped) => return None,
            () = sleep(SUBSCRIBE_AGAIN) => {}
        }
    }
}

fn busy(face: Face) -> Refusal {
    Refusal::Busy {
        detail: format!(
            "{} requests are being answered by this node already",
            face.at_once_max()
        ),
        retry_after: BUSY_FOR,
    }
}

impl Shared {
    async fn handle(&self, face: Face, request: &Message) -> Result<Bytes, Refusal> {
        match face {
            Face::Start => self.start(request).await,
            Face::Control => self.control(request).await,
            Face::Results | Face::OwnResults => self.results(request).await,
        }
    }

    async fn start(&self, request: &Message) -> Result<Bytes, Refusal> {
        let (message, tenant) = (envelope_of(request)?, self.tenant(request)?);
        let tenant = order::of_subject(&tenant, message.envelope.tenant.clone())?;
        let body: StartBody = read(message.data.as_str().as_bytes())?;
        let key = if body.execution_id.is_none() {
            idempotency_key(request)?.or_else(|| order::cause(&message, request.headers.as_ref()))
        } else {
            None
        };
        let request = start(&tenant, body, order::context(&message, key))?;
        let started = self.ports.executions.start(request).await?;
        Ok(json(&summary(started.view)))
    }

    async fn control(&self, request: &Message) -> Result<Bytes, Refusal> {
        let tenant = self.tenant(request)?;
        let ["control", _, execution, word] = self.subjects.tokens(&request.subject)[..] else {
            return Err(Refusal::malformed("a control's subject has four parts"));
        };
        let execution = subject::execution(execution).map_err(Refusal::malformed)?;
        let action = action(word).map_err(Refusal::malformed)?;
        let message = envelope_of(request)?;
        let tenant = order::of_subject(&tenant, message.envelope.tenant)?;
        let body: Option<ControlBody> = read(message.data.as_str().as_bytes())?;
        let reason = reason(body.unwrap_or_default())?;
        let controls = &self.ports.controls;
        let view = controls
            .control(&tenant, &execution, action, reason)
            .await?;
        Ok(json(&summary(view)))
    }

    /// The hot path: bare bodies are read as they are.
    async fn results(&self, request: &Message) -> Result<Bytes, Refusal> {
        #[derive(Deserialize)]
        struct Many {
            results: Option<IgnoredAny>,
        }
        #[derive(Deserialize)]
        struct Results {
            results: Vec<ResultItem>,
        }
        let tenant = self.tenant(request)?;
        let structured;
        let body = if pairs(request.headers.as_ref()).any(is_structured) {
            structured = envelope_of(request)?.data;
            structured.as_str().as_bytes()
        } else {
            &request.payload
        };
        if read::<Many>(body)?.results.is_none() {
            return self.one(&tenant, read(body)?).await;
        }
        let Results { results } = read(body)?;
        if results.len() > RESULTS_MAX {
            let detail = format!("bring at most {RESULTS_MAX} results in one request");
            return Err(invalid(vec![Fault::at("/results", detail)]));
        }
        self.many(&tenant, results).await
    }

    async fn one(&self, tenant: &Tenant, item: ResultItem) -> Result<Bytes, Refusal> {
        let tasks = &self.ports.tasks;
        match told(item, Stand::Alone)? {
            Told::Begin(one) => {
                let begun = tasks.begin(tenant, vec![one]).await.pop();
                begin(begun.unwrap_or_else(|| Err(unanswered()))).map(|answer| json(&answer))
            }
            Told::Result(result) => match tasks.results(tenant, vec![result]).await.pop() {
                Some(ResultOutcome::Accepted) => Ok(json(&DurableAnswer { status: 200 })),
                Some(ResultOutcome::Alive(heartbeat)) => {
                    Ok(json(&HeartbeatAnswer::from(heartbeat)))
                }
                Some(ResultOutcome::Refused(refusal)) => Err(refusal),
                None => Err(unanswered()),
            },
        }
    }

    async fn many(&self, tenant: &Tenant, items: Vec<ResultItem>) -> Result<Bytes, Refusal> {
        let Batch {
            begins,
            results,
            places,
        } = Batch::of(items);
        let tasks = &self.ports.tasks;
        let beginning = async {
            if begins.is_empty() {
                return Vec::new();
            }
            tasks.begin(tenant, begins).await
        };
        let bringing = async {
            if results.is_empty() {
                return Vec::new();
            }
            tasks.results(tenant, results).await
        };
        let (begun, outcomes) = tokio::join!(beginning, bringing);
        Ok(json(&ResultsAnswer {
            results: places.answers(begun, outcomes),
            ..ResultsAnswer::default()
        }))
    }

    /// The second part of the subject.
    fn tenant(&self, request: &Message) -> Result<Tenant, Refusal> {
        let tokens = self.subjects.tokens(&request.subject);
        let token = tokens.get(1).copied().unwrap_or_default();
        subject::tenant(token).map_err(Refusal::malformed)
    }

    /// A sender that wants no answer gets none.
    async fn answer(&self, request: &Message, answer: Result<Bytes, Refusal>) {
        let Some(reply) = request.reply.clone() else {
            return;
        };
        let mut headers = HeaderMap::new();
        let body = match answer {
            Ok(body) => {
                headers.insert("content-type", envelope::JSON);
                body
            }
            Err(refusal) => {
                headers.insert("content-type", PROBLEM);
                if let Some(after) = retry_after(&refusal) {
                    let seconds = after.as_millis().div_ceil(1_000).max(1);
                    headers.insert("retry-after", seconds.to_string());
                }
                let mut problem = Problem::from(refusal);
                problem.instance = Some(request.subject.to_string());
                json(&problem)
            }
        };
        let sent = self.client.publish_with_headers(reply, headers, body);
        if let Err(error) = sent.await {
            tracing::debug!(%error, "an answer could not be sent: whoever asked asks again");
        }
    }
}

fn envelope_of(request: &Message) -> Result<envelope::Message, Refusal> {
    envelope::Message::read(pairs(request.headers.as_ref()), &request.payload)
}

fn is_structured((name, value): (&str, &str)) -> bool {
    name.eq_ignore_ascii_case("content-type") && envelope::is_structured(value)
}

fn idempotency_key(request: &Message) -> Result<Option<String>, Refusal> {
    let mut headers = pairs(request.headers.as_ref());
    match headers.find(|(name, _)| name.eq_ignore_ascii_case("idempotency-key")) {
        Some((_, key)) if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) => {
            Err(Refusal::malformed(format!(
                "`Idempotency-Key` must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} characters"
            )))
        }
        found => Ok(found.map(|(_, key)| key.to_owned())),
    }
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .expect("an answer of ours serialises")
}
