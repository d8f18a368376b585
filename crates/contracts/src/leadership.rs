//! The clauses of `Leadership`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{NodeName, PartitionId};
use eventflow_ports::{Held, Leadership, LeadershipError, Mark, Roll};
use tokio::time::timeout;

/// One roll of nodes, empty when the fixture is made.
#[async_trait]
pub trait LeadershipFixture: Send + Sync {
    /// A new instance on this fixture's store; an earlier one may still be in use.
    async fn open(&self) -> Arc<dyn Leadership>;
    /// Two partitions of the store.
    fn partitions(&self) -> [PartitionId; 2] {
        [PartitionId(0), PartitionId(1)]
    }
}

/// One test per clause of `Leadership`, for the fixture that the closure makes.
#[macro_export]
macro_rules! leadership_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            leadership,
            [
                clause_01_announce_gives_a_mark_that_never_was,
                clause_02_roll_sees_what_was_acknowledged_to_anybody,
                clause_03_take_is_for_one_of_those_who_saw_the_mark,
                clause_04_release_leaves_a_partition_without_a_leader,
                clause_05_leave_takes_the_node_off_and_leaves_what_it_leads,
                clause_06_changed_resolves_after_another_node_has_changed_the_roll,
                clause_07_what_was_acknowledged_is_seen_by_a_new_instance,
            ]
        );
    };
}

/// A change is told of long before.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Whoever is told without a reason is told again and again, and sooner.
const QUIET: Duration = Duration::from_millis(500);

/// Clause 1.
pub async fn clause_01_announce_gives_a_mark_that_never_was(fixture: &impl LeadershipFixture) {
    let one = fixture.open().await;
    let two = fixture.open().await;
    let (a, b) = (node("a"), node("b"));
    let mut marks = BTreeSet::new();
    for _ in 0..5 {
        announce(&*one, &a).await;
        announce(&*two, &b).await;
        let roll = roll(&*one).await;
        assert_eq!(names(&roll), ["a", "b"]);
        for (name, mark) in roll.nodes {
            assert!(marks.insert(mark), "{name:?} has had {mark:?} before");
        }
    }
    // Also where it begins again.
    one.leave(&a).await.expect("left");
    announce(&*two, &a).await;
    let mark = roll(&*one).await.nodes[0].1;
    assert!(marks.insert(mark), "{mark:?} was there before");
}

/// Clause 2.
pub async fn clause_02_roll_sees_what_was_acknowledged_to_anybody(
    fixture: &impl LeadershipFixture,
) {
    const ROUNDS: usize = 10;
    let one = fixture.open().await;
    let two = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let (a, b) = (node("a"), node("b"));
    assert_eq!(roll(&*one).await, Roll::default());
    let mut mark = Mark::NONE;
    for _ in 0..ROUNDS {
        announce(&*one, &a).await;
        assert_eq!(names(&roll(&*two).await), ["a"]);
        mark = one.take(partition, &b, mark).await.expect("taken");
        let held = roll(&*two).await.partitions;
        assert_eq!(held, [led(partition, Some(&b), mark)]);
        two.release(partition, mark).await.expect("released");
        let held = roll(&*one).await.partitions;
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].leader, None);
        assert_ne!(held[0].mark, mark);
        mark = held[0].mark;
        two.leave(&a).await.expect("left");
        assert_eq!(names(&roll(&*one).await), [""; 0]);
    }
}

/// Clause 3.
pub async fn clause_03_take_is_for_one_of_those_who_saw_the_mark(fixture: &impl LeadershipFixture) {
    const NODES: usize = 8;
    const ROUNDS: usize = 5;
    let [partition, other] = fixture.partitions();
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push((node(&format!("n{number}")), fixture.open().await));
    }
    let mut seen = Mark::NONE;
    for _ in 0..ROUNDS {
        let mut racing = tokio::task::JoinSet::new();
        for (name, instance) in nodes.clone() {
            racing.spawn(async move { (instance.take(partition, &name, seen).await, name) });
        }
        let mut won = Vec::new();
        while let Some(raced) = racing.join_next().await {
            match raced.expect("no panic") {
                (Ok(mark), name) => won.push((mark, name)),
                (Err(LeadershipError::Conflict), _) => {}
                (Err(error), name) => panic!("{name:?}: {error}"),
            }
        }
        let [(mark, leader)] = &won[..] else {
            panic!("one takes it: {won:?}");
        };
        let held = roll(&*nodes[0].1).await.partitions;
        assert_eq!(held, [led(partition, Some(leader), *mark)]);
        for stale in [seen, Mark::NONE] {
            let late = nodes[1].1.take(partition, &nodes[1].0, stale).await;
            assert!(is_conflict(&late), "{late:?}");
        }
        seen = *mark;
    }
    // Another partition was never taken.
    let (name, instance) = &nodes[0];
    let early = instance.take(other, name, seen).await;
    assert!(is_conflict(&early), "{early:?}");
    instance
        .take(other, name, Mark::NONE)
        .await
        .expect("it is free");
}

/// Clause 4.
pub async fn clause_04_release_leaves_a_partition_without_a_leader(
    fixture: &impl LeadershipFixture,
) {
    let one = fixture.open().await;
    let [partition, other] = fixture.partitions();
    let (a, b) = (node("a"), node("b"));
    // What nobody leads cannot be given up.
    let nothing = one.release(partition, Mark::NONE).await;
    assert!(is_conflict(&nothing), "{nothing:?}");
    assert_eq!(roll(&*one).await, Roll::default());

    let first = one.take(partition, &a, Mark::NONE).await.expect("taken");
    let elsewhere = one.take(other, &a, Mark::NONE).await.expect("taken");
    let second = one.take(partition, &b, first).await.expect("taken over");
    for stale in [first, Mark::NONE, elsewhere] {
        let refused = one.release(partition, stale).await;
        assert!(is_conflict(&refused), "{refused:?}");
    }
    let before = [
        led(partition, Some(&b), second),
        led(other, Some(&a), elsewhere),
    ];
    assert_eq!(roll(&*one).await.partitions, before);

    one.release(partition, second).await.expect("released");
    let after = roll(&*one).await.partitions;
    assert_eq!(after[0].leader, None);
    assert_eq!(after[1], before[1]);
    let late = one.take(partition, &a, second).await;
    assert!(is_conflict(&late), "{late:?}");
    let again = one.release(partition, second).await;
    assert!(is_conflict(&again), "{again:?}");
    one.take(partition, &a, after[0].mark)
        .await
        .expect("it is free");
}

/// Clause 5.
pub async fn clause_05_leave_takes_the_node_off_and_leaves_what_it_leads(
    fixture: &impl LeadershipFixture,
) {
    let one = fixture.open().await;
    let two = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let (a, b) = (node("a"), node("b"));
    announce(&*one, &a).await;
    announce(&*two, &b).await;
    let mark = one.take(partition, &a, Mark::NONE).await.expect("taken");
    one.leave(&a).await.expect("left");
    let after = roll(&*two).await;
    assert_eq!(names(&after), ["b"]);
    assert_eq!(after.partitions, [led(partition, Some(&a), mark)]);
    // Who is not there may go as well.
    one.leave(&a).await.expect("gone already");
    two.take(partition, &b, mark).await.expect("taken over");
}

/// Clause 6.
pub async fn clause_06_changed_resolves_after_another_node_has_changed_the_roll(
    fixture: &impl LeadershipFixture,
) {
    let one = fixture.open().await;
    let two = fixture.open().await;
    let [partition, _] = fixture.partitions();
    let a = node("a");
    announce(&*two, &a).await;

    calm(&*one).await;
    let mark = two.take(partition, &a, Mark::NONE).await.expect("taken");
    told(&*one, "taken").await;

    calm(&*one).await;
    two.release(partition, mark).await.expect("released");
    told(&*one, "released").await;

    calm(&*one).await;
    two.leave(&a).await.expect("left");
    told(&*one, "left").await;

    // Also whoever waits already.
    calm(&*one).await;
    let waiting = tokio::spawn(async move { told(&*one, "taken while waiting").await });
    tokio::time::sleep(QUIET).await;
    let seen = roll(&*two).await.partitions[0].mark;
    two.take(partition, &a, seen).await.expect("taken");
    waiting.await.expect("told");
}

/// Clause 7.
pub async fn clause_07_what_was_acknowledged_is_seen_by_a_new_instance(
    fixture: &impl LeadershipFixture,
) {
    let one = fixture.open().await;
    let [partition, other] = fixture.partitions();
    let a = node("a");
    announce(&*one, &a).await;
    let released = one.take(other, &a, Mark::NONE).await.expect("taken");
    one.take(partition, &a, Mark::NONE).await.expect("taken");
    one.release(other, released).await.expect("released");
    let before = roll(&*one).await;
    drop(one);
    let two = fixture.open().await;
    assert_eq!(roll(&*two).await, before);
    let seen = before.partitions[1].mark;
    two.take(other, &a, seen)
        .await
        .expect("the mark is the same");
}

/// Waits until nothing is told any more: what is told afterwards has a reason.
async fn calm(leadership: &dyn Leadership) {
    const TOLD_MAX: usize = 100;
    for _ in 0..TOLD_MAX {
        if timeout(QUIET, leadership.changed()).await.is_err() {
            return;
        }
    }
    panic!("changes are told of {TOLD_MAX} times without a reason");
}

async fn told(leadership: &dyn Leadership, what: &str) {
    timeout(TOLD_WITHIN, leadership.changed())
        .await
        .unwrap_or_else(|_| panic!("nothing was told after a partition or node was {what}"));
}

async fn announce(leadership: &dyn Leadership, node: &NodeName) {
    leadership.announce(node).await.expect("announced");
}

async fn roll(leadership: &dyn Leadership) -> Roll {
    leadership.roll().await.expect("the roll")
}

fn names(roll: &Roll) -> Vec<&str> {
    roll.nodes.iter().map(|(node, _)| node.as_str()).collect()
}

fn led(partition: PartitionId, leader: Option<&NodeName>, mark: Mark) -> Held {
    Held {
        partition,
        leader: leader.cloned(),
        mark,
    }
}

fn is_conflict<T>(result: &Result<T, LeadershipError>) -> bool {
    matches!(result, Err(LeadershipError::Conflict))
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).expect("a sample's name is one")
}
