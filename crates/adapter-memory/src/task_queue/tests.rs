//! What the port does not say: fair lines, hand-over, bounds, and that nothing is left behind.

use eventflow_domain::{
    Attempt, ExecutionId, PartitionId, TaskReference, Timestamp, Value, WorkflowId,
};

use super::*;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn takers_are_served_in_the_order_they_came() {
    let queue = MemoryTaskQueue::default();
    let mut takers = Vec::new();
    for _ in 0..5 {
        takers.push(taker(&queue, &["charge"], 1));
        tokio::task::yield_now().await;
    }
    for task in 0..5 {
        offer(&queue, [("e1", "charge", task)]);
    }
    // Somebody who comes now finds nothing: all of it was handed over already.
    assert_eq!(take_now(&queue, &["charge"], 9), [""; 0]);
    for (task, taker) in takers.into_iter().enumerate() {
        assert_eq!(taker.await.expect("ends"), [format!("e1 {task}")]);
    }
    assert_nothing_left(&queue);
}

#[tokio::test]
async fn a_taker_waits_for_the_capabilities_it_named_only() {
    let queue = MemoryTaskQueue::default();
    let ship = taker(&queue, &["ship"], 9);
    let both = taker(&queue, &["charge", "ship"], 9);
    tokio::task::yield_now().await;
    offer(&queue, [("e1", "charge", 1)]);
    assert_eq!(both.await.expect("ends"), ["e1 1"]);
    offer(&queue, [("e1", "ship", 2)]);
    assert_eq!(ship.await.expect("ends"), ["e1 2"]);
    assert_nothing_left(&queue);
}

#[tokio::test]
async fn a_taker_that_was_served_also_gets_what_came_before_it_ran() {
    let queue = MemoryTaskQueue::default();
    let served = taker(&queue, &["charge"], 2);
    tokio::task::yield_now().await;
    offer(&queue, [("e1", "charge", 1)]);
    offer(&queue, [("e1", "charge", 2), ("e1", "charge", 3)]);
    assert_eq!(served.await.expect("ends"), ["e1 1", "e1 2"]);
    assert_eq!(take_now(&queue, &["charge"], 9), ["e1 3"]);
    assert_nothing_left(&queue);
}

#[tokio::test]
async fn what_was_handed_to_a_taker_that_is_gone_goes_back_to_the_front() {
    let queue = MemoryTaskQueue::default();
    let gone = taker(&queue, &["charge"], 2);
    tokio::task::yield_now().await;
    offer(
        &queue,
        [
            ("e1", "charge", 1),
            ("e2", "charge", 1),
            ("e1", "charge", 2),
        ],
    );
    // Served, but it did not run since. An offer of the same again is still one of the same.
    offer(&queue, [("e1", "charge", 1)]);
    assert_eq!(queue.len(), 3);
    gone.abort();
    assert!(gone.await.expect_err("aborted").is_cancelled());
    // Before all else of its execution, and before the turns of those who were not served meanwhile.
    assert_eq!(take_now(&queue, &["charge"], 9), ["e2 1", "e1 1", "e1 2"]);
    assert_nothing_left(&queue);
}

#[tokio::test]
async fn what_was_handed_to_a_taker_that_is_gone_goes_to_the_next_in_line() {
    let queue = MemoryTaskQueue::default();
    let gone = taker(&queue, &["charge"], 9);
    tokio::task::yield_now().await;
    let next = taker(&queue, &["charge"], 9);
    tokio::task::yield_now().await;
    offer(&queue, [("e1", "charge", 1), ("e1", "charge", 2)]);
    gone.abort();
    assert_eq!(next.await.expect("ends"), ["e1 1", "e1 2"]);
    assert_nothing_left(&queue);
}

#[tokio::test]
async fn a_large_execution_does_not_starve_the_others() {
    let queue = MemoryTaskQueue::default();
    offer(&queue, (0..1000).map(|task| ("large", "charge", task)));
    let first = ["large 0", "large 1", "large 2", "large 3", "large 4"];
    assert_eq!(take_now(&queue, &["charge"], 5), first);
    for small in ["a", "b"] {
        offer(&queue, (0..2).map(|task| (small, "charge", task)));
    }
    // One by one and several at once.
    let mut taken = take_now(&queue, &["charge"], 1);
    taken.extend(take_now(&queue, &["charge"], 1));
    taken.extend(take_now(&queue, &["charge"], 5));
    let of = |owner: &str| -> Vec<_> {
        let own = taken.iter().filter(|name| name.starts_with(owner));
        own.cloned().collect()
    };
    assert_eq!(of("large"), ["large 5", "large 6", "large 7"]);
    assert_eq!(of("a "), ["a 0", "a 1"]);
    assert_eq!(of("b "), ["b 0", "b 1"]);
}

#[tokio::test]
async fn the_order_of_an_execution_holds_across_capabilities() {
    let queue = MemoryTaskQueue::default();
    offer(
        &queue,
        [
            ("e1", "charge", 1),
            ("e1", "charge", 2),
            ("e2", "ship", 1),
            ("e1", "ship", 3),
            ("e1", "charge", 4),
            ("e1", "ship", 5),
        ],
    );
    let taken = take_now(&queue, &["charge", "ship"], 9);
    let own: Vec<_> = taken.iter().filter(|name| name.starts_with("e1")).collect();
    assert_eq!(own, ["e1 1", "e1 2", "e1 3", "e1 4", "e1 5"]);
    assert!(taken[..3].contains(&"e2 1".to_owned()), "{taken:?}");
    assert_nothing_left(&queue);
}

#[tokio::test]
async fn a_full_queue_refuses_what_is_too_much_and_takes_it_later() {
    let queue = MemoryTaskQueue::new(3);
    let five: Vec<_> = (0..5).map(|task| sample("e1", "charge", task)).collect();
    let refused = queue.offer(five.clone()).await;
    let QueueError::Unavailable(source) = refused.expect_err("five of three");
    assert!(
        source.to_string().contains("2 of 5 were not taken"),
        "{source}"
    );
    assert_eq!(take_now(&queue, &["charge"], 2), ["e1 0", "e1 1"]);
    assert_eq!(queue.len(), 1);
    queue
        .offer(five[3..].to_vec())
        .await
        .expect("there is room again");
    assert_eq!(take_now(&queue, &["charge"], 9), ["e1 2", "e1 3", "e1 4"]);
    assert_nothing_left(&queue);
}

#[tokio::test]
async fn the_same_attempt_is_taken_again_once_it_is_out() {
    let queue = MemoryTaskQueue::default();
    for _ in 0..3 {
        offer(&queue, [("e1", "charge", 1), ("e1", "charge", 1)]);
        assert_eq!(take_now(&queue, &["charge"], 9), ["e1 1"]);
    }
    assert_nothing_left(&queue);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_left_behind_when_takers_come_and_go() {
    const TASKS: usize = 4_000;
    let queue = MemoryTaskQueue::default();
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut takers = Vec::new();
    for taker in 0..8_usize {
        let (queue, taken) = (queue.clone(), taken.clone());
        takers.push(tokio::spawn(async move {
            let can: &[&str] = [&["charge"] as &[_], &["ship"], &["ship", "charge"]][taker % 3];
            let mut turn = taker;
            while lock(&taken).len() < TASKS {
                turn = (turn * 31 + 7) % 1009;
                // Some are patient, some give up at once, some in between.
                let patience = Duration::from_micros(u64::try_from(turn % 5).expect("small") * 50);
                let taking = take(&queue, can, turn % 7 + 1, LONG);
                if let Ok(tasks) = tokio::time::timeout(patience, taking).await {
                    lock(&taken).extend(tasks);
                }
            }
        }));
    }
    for task in 0..TASKS {
        let capability = if task % 3 == 0 { "ship" } else { "charge" };
        offer(&queue, [(&*format!("e{}", task % 11), capability, task)]);
        if task % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for taker in takers {
        taker.await.expect("ends");
    }
    let mut taken = lock(&taken).clone();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), TASKS);
    assert_nothing_left(&queue);
}

fn assert_nothing_left(queue: &MemoryTaskQueue) {
    let queues = lock(&queue.queues);
    assert_eq!(queues.tasks, 0);
    assert!(queues.tenants.is_empty(), "{queues:?}");
}

fn taker(
    queue: &MemoryTaskQueue,
    capabilities: &'static [&str],
    max: usize,
) -> tokio::task::JoinHandle<Vec<String>> {
    let queue = queue.clone();
    tokio::spawn(async move { take(&queue, capabilities, max, LONG).await })
}

fn offer<'a>(queue: &MemoryTaskQueue, tasks: impl IntoIterator<Item = (&'a str, &'a str, usize)>) {
    let tasks = tasks
        .into_iter()
        .map(|(execution, capability, task)| sample(execution, capability, task))
        .collect();
    queue.add(tasks).expect("there is room");
}

fn take_now(queue: &MemoryTaskQueue, capabilities: &[&str], max: usize) -> Vec<String> {
    let capabilities: Vec<_> = capabilities.iter().map(|name| capability(name)).collect();
    match queue.take_or_wait(&Tenant::default_tenant(), &capabilities, max, false) {
        Taken::Now(tasks) => tasks.iter().map(name).collect(),
        Taken::Later(_) => panic!("it does not wait"),
    }
}

async fn take(
    queue: &MemoryTaskQueue,
    capabilities: &[&str],
    max: usize,
    wait: Duration,
) -> Vec<String> {
    let capabilities: Vec<_> = capabilities.iter().map(|name| capability(name)).collect();
    let tasks = queue
        .take(&Tenant::default_tenant(), &capabilities, max, wait)
        .await
        .expect("taken");
    tasks.iter().map(name).collect()
}

fn name(task: &TaskOffer) -> String {
    format!("{} {}", task.execution, task.task.pointer)
}

fn capability(name: &str) -> Capability {
    Capability::parse(name).expect("a name")
}

fn sample(execution: &str, capability_name: &str, task: usize) -> TaskOffer {
    TaskOffer {
        tenant: Tenant::default_tenant(),
        capability: capability(capability_name),
        partition: PartitionId(0),
        execution: ExecutionId::parse(execution).expect("a name"),
        task: TaskReference::at(&task.to_string()),
        attempt: Attempt(1),
        workflow: WorkflowId {
            namespace: "default".into(),
            name: "order".into(),
            version: "1.0.0".into(),
        },
        token: "token".into(),
        input: Value::null(),
        ready_at: Timestamp(0),
        traceparent: None,
    }
}
