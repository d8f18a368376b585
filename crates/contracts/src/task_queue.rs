//! The clauses of `TaskQueue`.

use std::{
    collections::HashSet,
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use eventflow_domain::{Attempt, Capability, Json, PartitionId, TaskReference, Timestamp, Value};
use eventflow_ports::{OfferedAttempt, TaskOffer, TaskQueue};
use tokio::time::{Instant, sleep, timeout};

use crate::samples::{execution, tenant, workflow};

/// A wait that is never used up where the queue does what it must.
const LONG: Duration = Duration::from_secs(20);
/// How long a task may stay away that was given to a take which was dropped: longer than a broker waits for its
/// acknowledgement.
const AWAY: Duration = Duration::from_mins(1);
/// A wait that is used up where nothing comes.
const SHORT: Duration = Duration::from_millis(80);

/// One task queue, empty when the fixture is made.
#[async_trait]
pub trait TaskQueueFixture: Send + Sync {
    /// An instance; two of the same fixture serve the same queue.
    async fn open(&self) -> Arc<dyn TaskQueue>;
}

/// One test per clause of `TaskQueue`, for the fixture that the closure makes.
#[macro_export]
macro_rules! task_queue_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            task_queue,
            [
                clause_01_a_task_is_given_to_exactly_one_take_that_names_its_capability,
                clause_02_tasks_of_an_execution_are_taken_in_the_order_they_were_offered,
                clause_03_take_gives_at_most_max_and_waits_for_the_first_only,
                clause_04_take_answers_empty_after_its_wait,
                clause_05_a_take_dropped_while_it_waits_loses_no_task,
                clause_06_an_offer_of_what_is_offered_is_dropped,
                clause_07_no_tenant_is_given_a_task_of_another,
                clause_08_lost_names_once_what_no_take_will_be_given_any_more,
                clause_09_what_was_settled_is_not_lost_and_what_was_named_may_be_offered_again,
                clause_10_what_was_forgotten_is_not_lost,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_a_task_is_given_to_exactly_one_take_that_names_its_capability(
    fixture: &impl TaskQueueFixture,
) {
    const TASKS: usize = 200;
    const TAKERS: usize = 8;
    let queue = fixture.open().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let mut takers = Vec::new();
    for index in 0..TAKERS {
        let (queue, seen) = (fixture.open().await, seen.clone());
        // Some can do more than one thing; nobody is offered the second one.
        let can: &[&str] = if index % 2 == 0 {
            &["charge"]
        } else {
            &["ship", "charge"]
        };
        takers.push(tokio::spawn(async move {
            let (mut taken, since) = (Vec::new(), Instant::now());
            loop {
                let more = take(&*queue, can, 3, SHORT * 5).await;
                let all = seen.fetch_add(more.len(), Ordering::SeqCst) + more.len();
                // Looks once more where all was seen: one that is given twice may come later.
                let is_over = all >= TASKS || since.elapsed() > AWAY;
                if more.is_empty() && is_over {
                    return taken;
                }
                taken.extend(more);
            }
        }));
    }
    let offers: Vec<_> = (0..TASKS)
        .map(|task| offer(&format!("e{}", task % 9), task))
        .collect();
    for some in offers.chunks(7) {
        queue.offer(some.to_vec()).await.expect("offered");
        tokio::task::yield_now().await;
    }

    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.expect("the taker ends"));
    }
    let different: HashSet<_> = taken.iter().map(name).collect();
    assert_eq!(different.len(), taken.len(), "a task was given twice");
    assert_eq!(different, offers.iter().map(name).collect::<HashSet<_>>());

    // What was offered comes back as it was, and only to who can do it.
    let packed = TaskOffer {
        capability: capability("pack"),
        task: TaskReference {
            pointer: "/do/0/größe".into(),
            iteration: vec![3, 0],
        },
        token: "token".into(),
        input: Value::new(Json::parse(r#"{"a":[1,null,"x"]}"#).expect("JSON")),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..offer("e1", 1)
    };
    queue.offer(vec![packed.clone()]).await.expect("offered");
    assert_eq!(take(&*queue, &["charge"], 9, SHORT).await, []);
    assert_eq!(take(&*queue, &["charge", "pack"], 9, LONG).await, [packed]);
}

/// Clause 2.
pub async fn clause_02_tasks_of_an_execution_are_taken_in_the_order_they_were_offered(
    fixture: &impl TaskQueueFixture,
) {
    const LARGE: usize = 500;
    let queue = fixture.open().await;
    let large = (0..LARGE).map(|task| offer("large", task)).collect();
    queue.offer(large).await.expect("offered");
    let first = take(&*queue, &["charge"], 5, LONG).await;
    let names: Vec<_> = first.iter().map(name).collect();
    let expected: Vec<_> = (0..first.len())
        .map(|task| format!("large {task}"))
        .collect();
    assert_eq!(names, expected);

    for number in 0..20 {
        let tasks = ["small-a", "small-b"].map(|small| offer(small, number));
        queue.offer(tasks.to_vec()).await.expect("offered");
    }
    let mut taken = first;
    // One by one and several at once.
    while taken.len() < LARGE + 40 {
        let max = 1 + taken.len() % 9;
        let more = take(&*queue, &["charge"], max, LONG).await;
        assert!(!more.is_empty(), "only {} were given", taken.len());
        taken.extend(more);
    }
    for (owner, tasks) in [("large", LARGE), ("small-a", 20), ("small-b", 20)] {
        let own = taken
            .iter()
            .filter(|task| task.execution == execution(owner));
        let own: Vec<_> = own.map(name).collect();
        let expected: Vec<_> = (0..tasks).map(|task| format!("{owner} {task}")).collect();
        assert_eq!(own, expected);
    }
}

/// Clause 3.
pub async fn clause_03_take_gives_at_most_max_and_waits_for_the_first_only(
    fixture: &impl TaskQueueFixture,
) {
    let queue = fixture.open().await;
    let tasks = (0..10).map(|task| offer("e1", task)).collect();
    queue.offer(tasks).await.expect("offered");
    let mut seen = 0;
    while seen < 10 {
        let most = if seen == 0 { 1 } else { 4 };
        let taken = take(&*queue, &["charge"], most, LONG).await.len();
        assert!((1..=most).contains(&taken), "{taken} of at most {most}");
        seen += taken;
    }

    // At once where there is one, though there is room for more.
    queue.offer(vec![offer("e1", 10)]).await.expect("offered");
    let started = Instant::now();
    assert_eq!(take(&*queue, &["charge"], 100, LONG).await.len(), 1);
    assert!(started.elapsed() < LONG / 4, "took {:?}", started.elapsed());

    // As soon as the first one comes.
    let waiting = tokio::spawn({
        let queue = fixture.open().await;
        async move { take(&*queue, &["ship", "charge"], 100, LONG).await }
    });
    tokio::time::sleep(SHORT).await;
    assert!(!waiting.is_finished(), "there was nothing to take");
    let started = Instant::now();
    queue.offer(vec![offer("e1", 11)]).await.expect("offered");
    let taken = waiting.await.expect("the taker ends");
    assert_eq!(taken.iter().map(name).collect::<Vec<_>>(), ["e1 11"]);
    assert!(started.elapsed() < LONG / 4, "took {:?}", started.elapsed());
}

/// Clause 4.
pub async fn clause_04_take_answers_empty_after_its_wait(fixture: &impl TaskQueueFixture) {
    let queue = fixture.open().await;
    let other = TaskOffer {
        capability: capability("ship"),
        ..offer("e1", 0)
    };
    queue.offer(vec![other]).await.expect("offered");
    for wait in [Duration::ZERO, SHORT] {
        let started = Instant::now();
        assert_eq!(take(&*queue, &["charge"], 5, wait).await, []);
        let took = started.elapsed();
        assert!(took >= wait, "answered after {took:?}, before {wait:?}");
        assert!(took < wait + LONG / 4, "answered after {took:?} only");
    }
}

/// Clause 5.
pub async fn clause_05_a_take_dropped_while_it_waits_loses_no_task(
    fixture: &impl TaskQueueFixture,
) {
    const ROUNDS: usize = 300;
    let queue = fixture.open().await;

    // Given up long before anything came.
    let gave_up = timeout(SHORT, take(&*queue, &["charge"], 5, LONG)).await;
    assert!(gave_up.is_err(), "there was nothing to take");
    queue.offer(vec![offer("early", 0)]).await.expect("offered");
    assert_eq!(take(&*queue, &["charge"], 5, LONG).await.len(), 1);

    // Given up at the moment that something comes.
    let mut taken = Vec::new();
    for round in 0..ROUNDS {
        let mut giving_up = Box::pin(take(&*queue, &["charge"], 5, LONG));
        // One poll, so that it waits.
        let ready = tokio::select! {
            biased;
            taken = &mut giving_up => Some(taken),
            () = tokio::task::yield_now() => None,
        };
        taken.extend(ready.into_iter().flatten());
        let offering = tokio::spawn({
            let queue = queue.clone();
            async move {
                queue
                    .offer(vec![offer(&format!("e{}", round % 5), round)])
                    .await
            }
        });
        for _ in 0..round % 4 {
            tokio::task::yield_now().await;
        }
        drop(giving_up);
        offering.await.expect("no panic").expect("offered");
    }
    let since = Instant::now();
    loop {
        let more = take(&*queue, &["charge"], 50, SHORT * 5).await;
        if more.is_empty() && (taken.len() >= ROUNDS || since.elapsed() > AWAY) {
            break;
        }
        taken.extend(more);
    }
    let different: HashSet<_> = taken.iter().map(name).collect();
    assert_eq!(different.len(), ROUNDS, "tasks were lost");
    assert_eq!(taken.len(), ROUNDS, "tasks were given twice");
}

/// Clause 6.
pub async fn clause_06_an_offer_of_what_is_offered_is_dropped(fixture: &impl TaskQueueFixture) {
    let queue = fixture.open().await;
    let task = offer("e1", 0);
    let next_attempt = TaskOffer {
        attempt: task.attempt.next(),
        ..task.clone()
    };
    let next_iteration = TaskOffer {
        task: TaskReference {
            iteration: vec![1],
            ..task.task.clone()
        },
        ..task.clone()
    };
    let of_another = offer("e2", 0);
    let all = vec![task.clone(), next_attempt, next_iteration, of_another];
    queue
        .offer(vec![task.clone(), task])
        .await
        .expect("offered");
    queue.offer(all.clone()).await.expect("offered");
    fixture
        .open()
        .await
        .offer(all.clone())
        .await
        .expect("offered");

    let (mut taken, since) = (Vec::new(), Instant::now());
    loop {
        let more = take(&*queue, &["charge"], 50, SHORT * 5).await;
        if more.is_empty() && (taken.len() >= all.len() || since.elapsed() > LONG) {
            break;
        }
        taken.extend(more);
    }
    assert_eq!(taken.len(), all.len(), "{taken:?}");
    assert!(all.iter().all(|offered| taken.contains(offered)));
}

/// Clause 7.
pub async fn clause_07_no_tenant_is_given_a_task_of_another(fixture: &impl TaskQueueFixture) {
    let queue = fixture.open().await;
    let ours = offer("same-id", 0);
    let theirs = TaskOffer {
        tenant: tenant("rival"),
        ..ours.clone()
    };
    queue.offer(vec![theirs.clone()]).await.expect("offered");
    assert_eq!(take(&*queue, &["charge"], 5, SHORT).await, []);

    // The same names under another tenant are another task.
    queue.offer(vec![ours.clone()]).await.expect("offered");
    assert_eq!(take(&*queue, &["charge"], 5, LONG).await, [ours]);
    let taken = queue
        .take(&tenant("rival"), &[capability("charge")], 5, LONG)
        .await
        .expect("taken");
    assert_eq!(taken, [theirs]);
}

/// Clause 8.
pub async fn clause_08_lost_names_once_what_no_take_will_be_given_any_more(
    fixture: &impl TaskQueueFixture,
) {
    let (queue, other) = (fixture.open().await, fixture.open().await);
    let elsewhere = |task| TaskOffer {
        partition: ELSEWHERE,
        ..offer("e2", task)
    };
    // Somebody takes ten and is never heard of again, but for two of them that were settled.
    let tasks: Vec<_> = (0..10).map(|task| offer("e1", task)).collect();
    queue.offer(tasks.clone()).await.expect("offered");
    queue.offer(vec![elsewhere(0)]).await.expect("offered");
    let taken = take_all(&*queue, 11).await;
    let waiting = [offer("e3", 0), offer("e3", 1)];
    queue.offer(waiting.to_vec()).await.expect("offered");
    for task in &tasks[..2] {
        queue.settle(&task.offered());
    }
    let expected: HashSet<_> = tasks[2..].iter().map(TaskOffer::offered).collect();
    assert_eq!(taken.len(), 11);
    assert_eq!(lost(&*queue, P, expected.len()).await, expected);
    // The other partition's is named by itself, and nothing by who did not offer it.
    let expected = HashSet::from([elsewhere(0).offered()]);
    assert_eq!(lost(&*queue, ELSEWHERE, 1).await, expected);
    nothing_is_lost(&*other, P).await;
    // Neither twice, nor what still waits.
    nothing_is_lost(&*queue, P).await;
    nothing_is_lost(&*queue, ELSEWHERE).await;
    assert_eq!(take_all(&*other, 2).await, waiting);
}

/// Clause 9.
pub async fn clause_09_what_was_settled_is_not_lost_and_what_was_named_may_be_offered_again(
    fixture: &impl TaskQueueFixture,
) {
    const ROUNDS: usize = 2;
    let queue = fixture.open().await;
    let (begun, task) = (offer("e1", 0), offer("e1", 1));
    queue.offer(vec![begun.clone()]).await.expect("offered");
    assert_eq!(take_all(&*queue, 1).await, slice::from_ref(&begun));
    queue.settle(&begun.offered());
    for _ in 0..ROUNDS {
        queue.offer(vec![task.clone()]).await.expect("offered");
        assert_eq!(take_all(&*queue, 1).await, slice::from_ref(&task));
        let named = lost(&*queue, P, 1).await;
        assert_eq!(named, HashSet::from([task.offered()]));
    }
    queue.offer(vec![task.clone()]).await.expect("offered");
    assert_eq!(take_all(&*queue, 1).await, slice::from_ref(&task));
    queue.settle(&task.offered());
    nothing_is_lost(&*queue, P).await;
}

/// Clause 10.
pub async fn clause_10_what_was_forgotten_is_not_lost(fixture: &impl TaskQueueFixture) {
    let queue = fixture.open().await;
    let elsewhere = TaskOffer {
        partition: ELSEWHERE,
        ..offer("e2", 0)
    };
    let tasks = vec![offer("e1", 0), offer("e1", 1), elsewhere.clone()];
    queue.offer(tasks).await.expect("offered");
    take_all(&*queue, 3).await;
    queue.forget(P);
    let expected = HashSet::from([elsewhere.offered()]);
    assert_eq!(lost(&*queue, ELSEWHERE, 1).await, expected);
    nothing_is_lost(&*queue, P).await;
    // What is offered later counts.
    queue.offer(vec![offer("e3", 0)]).await.expect("offered");
    take_all(&*queue, 1).await;
    let expected = HashSet::from([offer("e3", 0).offered()]);
    assert_eq!(lost(&*queue, P, 1).await, expected);
}

/// Between two questions for what got lost, as the engine asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is named until so many are; each once.
async fn lost(
    queue: &dyn TaskQueue,
    partition: PartitionId,
    most: usize,
) -> HashSet<OfferedAttempt> {
    let (mut named, since) = (HashSet::new(), Instant::now());
    while named.len() < most && since.elapsed() < LONG {
        for attempt in queue.lost(partition).await.expect("told") {
            assert!(named.insert(attempt.clone()), "named twice: {attempt:?}");
        }
        sleep(LOOK_EVERY / 4).await;
    }
    named
}

/// Looks for as long as it takes to be sure.
async fn nothing_is_lost(queue: &dyn TaskQueue, partition: PartitionId) {
    for _ in 0..4 {
        assert_eq!(queue.lost(partition).await.expect("told"), []);
        sleep(LOOK_EVERY).await;
    }
}

/// Takes so many, one take after another.
async fn take_all(queue: &dyn TaskQueue, tasks: usize) -> Vec<TaskOffer> {
    let mut taken = Vec::new();
    while taken.len() < tasks {
        let more = take(queue, &["charge"], tasks - taken.len(), LONG).await;
        assert!(!more.is_empty(), "{} of {tasks} were given", taken.len());
        taken.extend(more);
    }
    taken
}

async fn take(
    queue: &dyn TaskQueue,
    capabilities: &[&str],
    max: usize,
    wait: Duration,
) -> Vec<TaskOffer> {
    let capabilities: Vec<_> = capabilities.iter().map(|name| capability(name)).collect();
    let taken = queue
        .take(&tenant("acme"), &capabilities, max, wait)
        .await
        .expect("taken");
    assert!(taken.len() <= max, "{} of at most {max}", taken.len());
    taken
}

/// A task's name in assertions.
fn name(offer: &TaskOffer) -> String {
    let number = offer.task.pointer.rsplit('/').next().unwrap_or_default();
    format!("{} {number}", offer.execution)
}

fn capability(name: &str) -> Capability {
    Capability::parse(name).expect("a sample's name is one")
}

const P: PartitionId = PartitionId(0);
const ELSEWHERE: PartitionId = PartitionId(1);

fn offer(of: &str, task: usize) -> TaskOffer {
    TaskOffer {
        tenant: tenant("acme"),
        capability: capability("charge"),
        partition: P,
        execution: execution(of),
        task: TaskReference::at(&format!("/do/{task}")),
        attempt: Attempt(1),
        workflow: workflow("order"),
        token: "token".into(),
        input: Value::null(),
        ready_at: Timestamp(1_700_000_000_000),
        traceparent: None,
    }
}
