//! Tasks that get lost on their way: each of them is named, offered again and performed, whatever has happened to the
//! stream.

use std::{collections::HashSet, time::Duration};

use async_nats::jetstream::{self, stream::Stream};
use eventflow_adapter_nats::NatsTaskQueue;
use eventflow_ports::{OfferedAttempt, QueueError, TaskOffer, TaskQueue};
use tokio::time::{Instant, sleep, timeout};

use super::fixture::{Nodes, P, capability, offer, take, tenant};

/// Long enough for whatever a queue does at its own pace, its acknowledgement wait included.
const LONG: Duration = Duration::from_mins(1);
/// How often the engine asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_stream_that_is_purged_under_load_every_unsettled_task_is_named_and_sent_again() {
    const TASKS: usize = 3_000;
    const PURGES: u64 = 3;
    let nodes = Nodes::single();
    let (queue, stream) = (nodes.queue().await, nodes.stream().await);
    let mut work = Work::of(TASKS);
    let mut purged = 0;
    for (number, some) in work.tasks.chunks(100).enumerate() {
        queue.offer(some.to_vec()).await.expect("offered");
        let taken = take(&queue, 60, LONG).await;
        work.begun.extend(begin(&queue, &taken));
        if number % 10 == 9 {
            // What was not taken is there.
            let there =
                (number + 1) * 100 - work.begun.len() - usize::try_from(purged).expect("few");
            wait_for(async || holds(&stream, there as u64).await).await;
            purged += stream.purge().await.expect("purged").purged;
        }
    }
    assert!(purged >= PURGES * 100, "{purged} were there to lose");
    let named = work.finish(&queue).await;
    assert!(named as u64 >= purged, "{named} of {purged} were named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_servers_that_lose_their_memory_every_unsettled_task_is_named_and_sent_again() {
    const TASKS: usize = 500;
    let mut nodes = Nodes::replicated();
    let queue = nodes.queue().await;
    let mut work = Work::of(TASKS);
    queue.offer(work.tasks.clone()).await.expect("offered");
    let taken = take(&queue, 100, LONG).await;
    work.begun.extend(begin(&queue, &taken));
    let left = TASKS - taken.len();
    let stream = nodes.stream().await;
    wait_for(async || holds(&stream, left as u64).await).await;

    nodes.cluster().restart();
    let named = work.finish(&queue).await;
    assert!(named >= left, "{named} of {left} were named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_into_a_stream_that_began_again_hides_nothing() {
    const TASKS: usize = 100;
    let nodes = Nodes::single();
    let queue = nodes.queue().await;
    let mut work = Work::of(TASKS);
    queue.offer(work.tasks.clone()).await.expect("offered");
    let stream = nodes.stream().await;
    wait_for(async || holds(&stream, TASKS as u64).await).await;
    // Another node's tasks get the same sequences, before anybody has looked.
    let context = jetstream::new(nodes.servers.connect().await);
    context
        .delete_stream("EVENTFLOW_TASKS")
        .await
        .expect("deleted");
    let other = nodes.queue().await;
    let others: Vec<_> = (0..2 * TASKS).map(|task| offer("other", task)).collect();
    other.offer(others.clone()).await.expect("offered");
    let stream = nodes.stream().await;
    wait_for(async || holds(&stream, 2 * TASKS as u64).await).await;
    work.tasks.extend(others);
    work.finish(&queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_removed_is_made_again() {
    let nodes = Nodes::single();
    let queue = nodes.queue().await;
    let mut work = Work::of(50);
    queue.offer(work.tasks.clone()).await.expect("offered");
    let taken = take(&queue, 10, LONG).await;
    work.begun.extend(begin(&queue, &taken));
    let context = jetstream::new(nodes.servers.connect().await);
    let deleted = context.delete_stream("EVENTFLOW_TASKS").await;
    deleted.expect("deleted");
    work.finish(&queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_stream_does_not_take_is_sent_again_without_a_look() {
    const TASKS: usize = 100;
    let nodes = Nodes::single();
    let queue = nodes.queue().await;
    let context = jetstream::new(nodes.servers.connect().await);
    let stream = nodes.stream().await;
    let config = stream.cached_info().config.clone();
    // As while its servers elect a leader: nobody answers on its subjects.
    let deleted = context.delete_stream(&config.name).await;
    deleted.expect("deleted");
    let work = Work::of(TASKS);
    queue.offer(work.tasks.clone()).await.expect("offered");
    sleep(Duration::from_millis(500)).await;
    let stream = context.create_stream(config).await.expect("made again");
    // Nobody has asked for what got lost.
    wait_for(async || holds(&stream, TASKS as u64).await).await;
    let mut taken = HashSet::new();
    for task in take(&queue, TASKS, LONG).await {
        assert!(taken.insert(task.offered()), "{task:?} came twice");
    }
    assert_eq!(taken.len(), TASKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_offers_are_kept_and_sent_later() {
    const TASKS: usize = 200;
    let mut nodes = Nodes::single();
    nodes.config.answer_within = Duration::from_millis(500);
    let queue = nodes.queue().await;
    let mut work = Work::of(TASKS);
    queue
        .offer(work.tasks[..20].to_vec())
        .await
        .expect("offered");
    let taken = take(&queue, 20, LONG).await;
    work.begun.extend(begin(&queue, &taken));
    nodes.servers.server().kill();
    let since = Instant::now();
    queue
        .offer(work.tasks[20..].to_vec())
        .await
        .expect("there is room");
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "it waits for the server"
    );
    let asked = queue.lost(P).await;
    assert!(
        matches!(asked, Err(QueueError::Unavailable(_))),
        "{asked:?}"
    );
    let asked = queue
        .take(&tenant(), &[capability("charge")], 1, LOOK_EVERY)
        .await;
    assert!(
        matches!(asked, Err(QueueError::Unavailable(_))),
        "{asked:?}"
    );
    nodes.servers.server().restart();
    work.finish(&queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_removed_is_made_again() {
    let nodes = Nodes::single();
    let (queue, stream) = (nodes.queue().await, nodes.stream().await);
    let remove = async || {
        // What is not acknowledged yet would come again.
        wait_for(async || holds(&stream, 0).await).await;
        let deleted = stream.delete_consumer("default-charge").await;
        deleted.expect("deleted");
    };
    queue.offer(vec![offer("e1", 0)]).await.expect("offered");
    assert_eq!(take(&queue, 1, LONG).await, [offer("e1", 0)]);
    queue.settle(&offer("e1", 0).offered());
    remove().await;
    // For a node that takes.
    queue.offer(vec![offer("e1", 1)]).await.expect("offered");
    assert_eq!(take(&queue, 1, LONG).await, [offer("e1", 1)]);
    queue.settle(&offer("e1", 1).offered());
    remove().await;
    // For an agent that pulls by itself, as soon as something is looked for.
    queue.offer(vec![offer("e1", 2)]).await.expect("offered");
    wait_for(async || {
        queue.lost(P).await.expect("told");
        stream.consumer_info("default-charge").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_without_a_leader_is_made_anew() {
    /// Its servers may be faster, above all where the one that hangs would have led the making: every other time.
    const ROUNDS: usize = 12;
    let mut nodes = Nodes::replicated();
    drop(nodes.queue().await);
    let leader = leader(nodes.stream().await.get_info().await.expect("told").cluster);
    // What leads the stream goes on, and so does who asks.
    let url = nodes.cluster().server(&leader).url();
    let client = async_nats::connect(url).await.expect("connected");
    let queue = NatsTaskQueue::open(&client, &nodes.config)
        .await
        .expect("opened");
    let context = jetstream::new(client);
    let stream = context.get_stream("EVENTFLOW_TASKS").await.expect("there");
    roll_led_by(&context, &leader).await;
    for round in 0..ROUNDS {
        let before = queue_led_elsewhere(&queue, &stream, &context, &leader, round).await;
        let made = before.created;
        let frozen = self::leader(before.cluster);
        nodes.cluster().server(&frozen).freeze();
        let task = offer("e2", round);
        queue.offer(vec![task.clone()]).await.expect("offered");
        wait_for(async || holds(&stream, 1).await).await;
        wait_for(async || {
            // Whoever has just looked does not look again.
            let _ = queue.lost(P).await;
            let told = timeout(LOOK_EVERY, stream.consumer_info("default-charge")).await;
            told.is_ok_and(|told| told.is_ok())
        })
        .await;
        let after = stream.consumer_info("default-charge").await;
        nodes.cluster().server(&frozen).thaw();
        nodes.cluster().wait_ready();
        let taken = take(&queue, 1, LONG).await;
        assert_eq!(taken, [task]);
        begin(&queue, &taken);
        if after.expect("told").created > made {
            return;
        }
    }
    panic!("its servers were faster in {ROUNDS} rounds");
}

/// The roll of nodes, on this server only: from there no other one is seen, and so none that hangs.
async fn roll_led_by(context: &jetstream::Context, server: &str) {
    let config = jetstream::stream::Config {
        name: "KV_EVENTFLOW_LEASES".to_owned(),
        num_replicas: 1,
        storage: jetstream::stream::StorageType::Memory,
        ..Default::default()
    };
    wait_for(async || {
        let _ = context.delete_stream(&config.name).await;
        let made = context.create_stream(config.clone()).await;
        made.is_ok_and(|made| leader(made.cached_info().cluster.clone()) == server)
    })
    .await;
}

/// A consumer with nothing in it that another server leads than this one.
async fn queue_led_elsewhere(
    queue: &NatsTaskQueue,
    stream: &Stream,
    context: &jetstream::Context,
    not: &str,
    round: usize,
) -> jetstream::consumer::Info {
    queue
        .offer(vec![offer("e1", round)])
        .await
        .expect("offered");
    begin(queue, &take(queue, 1, LONG).await);
    wait_for(async || holds(stream, 0).await).await;
    let since = Instant::now();
    loop {
        let info = stream.consumer_info("default-charge").await.expect("told");
        if leader(info.cluster.clone()) != not {
            return info;
        }
        assert!(since.elapsed() < LONG, "it stays there");
        let step_down = "$JS.API.CONSUMER.LEADER.STEPDOWN.EVENTFLOW_TASKS.default-charge";
        let client = context.client();
        let asked = client.request(step_down, bytes::Bytes::new()).await;
        asked.expect("it steps down");
        sleep(Duration::from_secs(1)).await;
    }
}

fn leader(cluster: Option<jetstream::stream::ClusterInfo>) -> String {
    let leader = cluster.and_then(|cluster| cluster.leader);
    leader.expect("three servers have one")
}

/// Tasks that are all to be begun once.
struct Work {
    tasks: Vec<TaskOffer>,
    begun: HashSet<OfferedAttempt>,
}

impl Work {
    fn of(tasks: usize) -> Self {
        let tasks = (0..tasks).map(|task| offer(&format!("e{}", task % 20), task));
        Self {
            tasks: tasks.collect(),
            begun: HashSet::new(),
        }
    }

    /// Goes on as the engine and its agents do until each task has begun; how many were named as lost.
    async fn finish(&mut self, queue: &NatsTaskQueue) -> usize {
        let (mut named, since, mut looked) = (0, Instant::now(), Instant::now());
        while self.begun.len() < self.tasks.len() {
            assert!(
                since.elapsed() < LONG * 2,
                "{} of {} have begun",
                self.begun.len(),
                self.tasks.len()
            );
            // A server that comes back needs a while.
            let capabilities = [capability("charge")];
            let tenant = tenant();
            let taken = queue.take(&tenant, &capabilities, 50, LOOK_EVERY / 2).await;
            self.begun.extend(begin(queue, &taken.unwrap_or_default()));
            if looked.elapsed() < LOOK_EVERY {
                continue;
            }
            looked = Instant::now();
            let Ok(lost) = queue.lost(P).await else {
                continue;
            };
            named += lost.len();
            let lost: HashSet<_> = lost.into_iter().collect();
            let again = self
                .tasks
                .iter()
                .filter(|task| lost.contains(&task.offered()));
            let again: Vec<_> = again.cloned().collect();
            assert_eq!(again.len(), lost.len(), "what was never offered is named");
            queue.offer(again).await.expect("offered again");
        }
        named
    }
}

/// An agent begins: the engine watches it no more.
fn begin(queue: &NatsTaskQueue, taken: &[TaskOffer]) -> Vec<OfferedAttempt> {
    let begun: Vec<_> = taken.iter().map(TaskOffer::offered).collect();
    for attempt in &begun {
        queue.settle(attempt);
    }
    begun
}

/// Whether there are so many messages in the stream.
async fn holds(stream: &Stream, messages: u64) -> bool {
    let info = stream.get_info().await;
    info.is_ok_and(|info| info.state.messages == messages)
}

async fn wait_for(is_so: impl AsyncFn() -> bool) {
    let since = Instant::now();
    while !is_so().await {
        assert!(since.elapsed() < LONG, "it never came to that");
        sleep(Duration::from_millis(50)).await;
    }
}
