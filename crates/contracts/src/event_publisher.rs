//! The clauses of `EventPublisher`.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_domain::{Json, PartitionId, Position, Sequence, Timestamp};
use eventflow_ports::{EventPublisher, LifecycleEvent};

use crate::samples::{execution, tenant, workflow};

/// One place that events are published to, empty when the fixture is made.
#[async_trait]
pub trait EventPublisherFixture: Send + Sync {
    /// A new instance on this fixture's store; an earlier one may still be in use.
    async fn open(&self) -> Arc<dyn EventPublisher>;
    /// The ids of all events that were published so far, in order; repeats may be left out.
    async fn published(&self) -> Vec<Arc<str>>;
    /// Two partitions of the store.
    fn partitions(&self) -> [PartitionId; 2] {
        [PartitionId(0), PartitionId(1)]
    }
}

/// One test per clause of `EventPublisher`, for the fixture that the closure makes.
#[macro_export]
macro_rules! event_publisher_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            event_publisher,
            [
                clause_01_an_acknowledged_batch_is_published_whole_and_in_order,
                clause_02_position_is_the_highest_acknowledged,
                clause_03_a_published_batch_is_accepted_again,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_an_acknowledged_batch_is_published_whole_and_in_order(
    fixture: &impl EventPublisherFixture,
) {
    let publisher = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let mut expected = Vec::new();
    for (through, size) in [(1, 1), (2, 300), (9, 0), (10, 3)] {
        let first = expected.len() as u64;
        let batch: Vec<_> = (first..first + size).map(event).collect();
        expected.extend(batch.iter().map(|event| event.id.clone()));
        publish(&*publisher, partition, through, batch).await;
        assert_eq!(fixture.published().await, expected);
    }
}

/// Clause 2.
pub async fn clause_02_position_is_the_highest_acknowledged(fixture: &impl EventPublisherFixture) {
    let publisher = fixture.open().await;
    let [one, two] = fixture.partitions();
    let position = async |publisher: &dyn EventPublisher, partition| {
        publisher.position(partition).await.expect("a position").0
    };
    assert_eq!(position(&*publisher, one).await, 0);
    for (through, batch) in [
        (3, vec![event(1), event(2)]),
        (4, Vec::new()),
        (9, vec![event(3)]),
    ] {
        publish(&*publisher, one, through, batch).await;
        assert_eq!(position(&*publisher, one).await, through);
        assert_eq!(position(&*fixture.open().await, one).await, through);
        assert_eq!(
            position(&*publisher, two).await,
            0,
            "of the other partition"
        );
    }
    publish(&*publisher, two, 2, vec![event(4)]).await;
    // A repeat of an earlier batch does not take the feed back.
    publish(&*publisher, one, 3, vec![event(1), event(2)]).await;
    drop(publisher);
    let publisher = fixture.open().await;
    assert_eq!(position(&*publisher, one).await, 9);
    assert_eq!(position(&*publisher, two).await, 2);
}

/// Clause 3.
pub async fn clause_03_a_published_batch_is_accepted_again(fixture: &impl EventPublisherFixture) {
    let publisher = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let batch = vec![event(1), event(2)];
    publish(&*publisher, partition, 1, batch.clone()).await;
    publish(&*publisher, partition, 1, batch.clone()).await;
    publish(
        &*fixture.open().await,
        partition,
        2,
        [batch, vec![event(3)]].concat(),
    )
    .await;

    let mut first_seen: Vec<Arc<str>> = Vec::new();
    for id in fixture.published().await {
        if !first_seen.contains(&id) {
            first_seen.push(id);
        }
    }
    assert_eq!(first_seen, [event(1).id, event(2).id, event(3).id]);
}

async fn publish(
    publisher: &dyn EventPublisher,
    partition: PartitionId,
    through: u64,
    events: Vec<LifecycleEvent>,
) {
    publisher
        .publish(partition, Position(through), events)
        .await
        .expect("published");
}

fn event(number: u64) -> LifecycleEvent {
    LifecycleEvent {
        id: format!("0190a6a0-0000-7000-8000-{number:012}").into(),
        kind: "task_completed",
        tenant: tenant("acme"),
        execution: execution("e1"),
        workflow: workflow("order"),
        sequence: Sequence(number),
        time: Timestamp(1_700_000_000_000),
        correlation: Some("correlated".into()),
        causation: Some("caused".into()),
        traceparent: None,
        data: Json::of(&number),
    }
}
