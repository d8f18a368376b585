//! The clauses of `TaskQueue`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{Attempt, Capability, Json, PartitionId, TaskReference, Timestamp, Value};
use eventflow_ports::{TaskOffer, TaskQueue};
use tokio::time::{Instant, timeout};

use crate::samples::{execution, tenant, workflow};

/// A wait that is never used up where the queue does what it must.
const LONG: Duration = Duration::from_secs(20);
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
                clause_02_executions_take_turns_and_keep_the_order_of_their_tasks,
                clause_03_take_gives_at_most_max_and_waits_for_the_first_only,
                clause_04_take_answers_empty_after_its_wait,
                clause_05_a_take_dropped_while_it_waits_loses_no_task,
                clause_06_an_offer_of_what_is_offered_is_dropped,
                clause_07_no_tenant_is_given_a_task_of_another,
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
    let mut takers = Vec::new();
    for index in 0..TAKERS {
        let queue = fixture.open().await;
        // Some can do more than one thing; nobody is offered the second one.
        let can: &[&str] = if index % 2 == 0 {
            &["charge"]
        } else {
            &["ship", "charge"]
        };
        takers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let more = take(&*queue, can, 3, SHORT * 5).await;
                if more.is_empty() {
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
        input: Value::new(Json::parse(r#"{"a":[1,null,"x"]}"#).expect("JSON")),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..offer("e1", 1)
    };
    queue.offer(vec![packed.clone()]).await.expect("offered");
    assert_eq!(take(&*queue, &["charge"], 9, SHORT).await, []);
    assert_eq!(take(&*queue, &["charge", "pack"], 9, LONG).await, [packed]);
}

/// Clause 2.
pub async fn clause_02_executions_take_turns_and_keep_the_order_of_their_tasks(
    fixture: &impl TaskQueueFixture,
) {
    let queue = fixture.open().await;
    let large = (0..1000).map(|task| offer("large", task)).collect();
    queue.offer(large).await.expect("offered");
    let first = take(&*queue, &["charge"], 5, LONG).await;
    let names: Vec<_> = first.iter().map(name).collect();
    assert_eq!(
        names,
        ["large 0", "large 1", "large 2", "large 3", "large 4"]
    );

    for small in ["small-a", "small-b"] {
        let tasks = (0..2).map(|task| offer(small, task)).collect();
        queue.offer(tasks).await.expect("offered");
    }
    let mut taken = Vec::new();
    // One by one and several at once.
    taken.extend(take(&*queue, &["charge"], 1, LONG).await);
    taken.extend(take(&*queue, &["charge"], 1, LONG).await);
    while taken.len() < 7 {
        taken.extend(take(&*queue, &["charge"], 7 - taken.len(), LONG).await);
    }
    for (owner, expected) in [
        ("large", vec!["large 5", "large 6", "large 7"]),
        ("small-a", vec!["small-a 0", "small-a 1"]),
        ("small-b", vec!["small-b 0", "small-b 1"]),
    ] {
        let own: Vec<_> = taken
            .iter()
            .filter(|task| task.execution == execution(owner))
            .map(name)
            .collect();
        assert_eq!(own, expected, "of {owner} among {taken:?}");
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
    loop {
        let more = take(&*queue, &["charge"], 50, SHORT * 5).await;
        if more.is_empty() {
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

    let mut taken = Vec::new();
    loop {
        let more = take(&*queue, &["charge"], 50, SHORT * 5).await;
        if more.is_empty() {
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

fn offer(of: &str, task: usize) -> TaskOffer {
    TaskOffer {
        tenant: tenant("acme"),
        capability: capability("charge"),
        partition: PartitionId(0),
        execution: execution(of),
        task: TaskReference::at(&format!("/do/{task}")),
        attempt: Attempt(1),
        workflow: workflow("order"),
        input: Value::null(),
        ready_at: Timestamp(1_700_000_000_000),
        traceparent: None,
    }
}
