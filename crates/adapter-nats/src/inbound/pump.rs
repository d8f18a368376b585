//! The pump of durable messages: one consumer for all nodes, a number of lanes on each.
//!
//! What is about the same execution goes through the same lane, one after the other, so that a RESUME does not overtake its
//! PAUSE on a node. Nodes do not wait for each other.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream::{AckKind, Message, consumer::pull, stream::Stream};
use eventflow_ports::inbound::Refusal;
use eventflow_wire::v1::retry_after;
use futures::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::{CONSUMER, Shared, consumer, contained, order::Order, rejected, told_to_stop};

/// Orders that a node carries out at once: enough for full batches of a partition's writer.
const LANES: usize = 128;
/// Messages that wait in each lane: one that is slow holds few others up.
const LANE_MESSAGES_MAX: usize = 4;
/// Messages that are asked for at once.
const PULL_MESSAGES: usize = 256;
/// How long a pull stays with the server.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it still has it.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);
/// Between two tries to pull from a server that does not answer.
const PULL_AGAIN: Duration = Duration::from_millis(250);
/// How long a control waits for the start of its execution, by the message's own time (requirement F4).
const EARLY_MAX: Duration = Duration::from_mins(1);
/// Between two looks for that start: a quarter of the time waited so far, so that one that is just being started is found
/// soon, within these bounds.
const EARLY_LOOKS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// Between two tries of what cannot be done now, within these bounds.
const AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

/// What is in a lane: a message, and what it asks for or why that cannot be told.
type Laned = (Message, Result<Order, Refusal>);

/// Pumps until it is stopped, then finishes what is under way.
pub(super) async fn serve(
    shared: Arc<Shared>,
    commands: Stream<()>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut running = JoinSet::new();
    let lanes: Vec<mpsc::Sender<Laned>> = (0..LANES)
        .map(|_| {
            let (lane, messages) = mpsc::channel(LANE_MESSAGES_MAX);
            running.spawn(carry_out(shared.clone(), messages));
            lane
        })
        .collect();
    while !*stopped.borrow() {
        if let Err(error) = pull_all(&shared, &commands, &lanes, &mut stopped).await {
            tracing::warn!(%error, "commands cannot be pulled, trying again");
            let _ = tokio::time::timeout(PULL_AGAIN, told_to_stop(&mut stopped)).await;
        }
    }
    drop(lanes);
    while running.join_next().await.is_some() {}
}

/// Hands messages to their lanes until it is stopped or the server does not answer.
async fn pull_all(
    shared: &Shared,
    commands: &Stream<()>,
    lanes: &[mpsc::Sender<Laned>],
    stopped: &mut watch::Receiver<bool>,
) -> Result<(), async_nats::Error> {
    let pulled = commands
        .get_or_create_consumer::<pull::Config>(CONSUMER, consumer())
        .await?;
    let mut messages = pulled
        .stream()
        .max_messages_per_batch(PULL_MESSAGES)
        .expires(PULL_EXPIRES)
        .heartbeat(PULL_HEARTBEAT)
        .messages()
        .await?;
    loop {
        let message = tokio::select! {
            biased;
            () = told_to_stop(stopped) => break,
            message = messages.next() => message.ok_or("the consumer's messages ended")??,
        };
        let order = Order::read(&shared.subjects, &message);
        let lane = &lanes[lane_of(&order)];
        lane.send((message, order))
            .await
            .map_err(|_| "a lane has ended")?;
    }
    // What has arrived and was not looked at goes to another node at once.
    while let Some(Some(Ok(message))) = messages.next().now_or_never() {
        say(&message, AckKind::Nak(None)).await;
    }
    Ok(())
}

fn lane_of(order: &Result<Order, Refusal>) -> usize {
    let mut hasher = DefaultHasher::new();
    order.as_ref().map_or("", Order::about).hash(&mut hasher);
    usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default()
}

async fn carry_out(shared: Arc<Shared>, mut messages: mpsc::Receiver<Laned>) {
    while let Some((message, order)) = messages.recv().await {
        let verdict = verdict(&shared, &message, order).await;
        say(&message, verdict).await;
    }
}

/// Carries an order out; how its message is answered.
async fn verdict(shared: &Shared, message: &Message, order: Result<Order, Refusal>) -> AckKind {
    let may_be_early = order.as_ref().is_ok_and(Order::may_be_early);
    let performed = match order {
        Ok(order) => contained(order.perform(&shared.ports)).await,
        Err(refusal) => Err(refusal),
    };
    let refusal = match performed {
        Ok(()) => return AckKind::Ack,
        Err(refusal) => refusal,
    };
    if let Some(after) = retry_after(&refusal) {
        return again(after, AGAIN);
    }
    if may_be_early && matches!(refusal, Refusal::NotFound(_)) {
        let age = age(shared, message);
        if age < EARLY_MAX {
            return again((age / 4).min(EARLY_MAX.saturating_sub(age)), EARLY_LOOKS);
        }
    }
    match rejected::set_aside(shared, message, refusal).await {
        Ok(()) => AckKind::Term,
        Err(error) => {
            tracing::warn!(%error, "a message could not be set aside, trying again");
            again(PULL_AGAIN, AGAIN)
        }
    }
}

fn again(after: Duration, [least, most]: [Duration; 2]) -> AckKind {
    AckKind::Nak(Some(after.clamp(least, most)))
}

/// How long ago the message was stored.
fn age(shared: &Shared, message: &Message) -> Duration {
    let published = message
        .info()
        .map(|info| info.published.unix_timestamp_nanos());
    let Ok(published_ms) = i64::try_from(published.unwrap_or_default() / 1_000_000) else {
        return Duration::ZERO;
    };
    let ms = shared.ports.clock.now().0.saturating_sub(published_ms);
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// An answer that gets lost is no harm: the message comes again, and everything may be repeated.
async fn say(message: &Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(%error, "a message could not be answered: it comes again");
        sleep(PULL_AGAIN).await;
    }
}
