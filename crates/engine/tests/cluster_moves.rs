//! Partitions that move: nodes join, leave, die, stand still or are cut off, and nothing is refused, lost or forked.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_memory::MemoryView;
use eventflow_domain::{DurationMs, PartitionId, Position, Sequence, execution::Status};
use eventflow_engine::Backend;
use eventflow_ports::{
    Appending, Journal, JournalEntry, ReadError, ReadLimit, View,
    inbound::{Action, Controls, Executions, Refusal, StreamFrom, Tasks},
};
use futures::StreamExt;
use support::{
    Stores,
    nodes::{Nodes, TestNode},
    requests::{
        PATIENCE, complete, id, lease_now, next_task, one_task, set_only, start, tenant,
        three_tasks,
    },
    scene::assert_unavailable,
};
use tokio::task::JoinHandle;

/// So many at once.
const CALLERS: usize = 8;
/// What comes to be led is looked for every few seconds.
const VERIFIED_WITHIN_SECONDS: u32 = 20;

/// Callers that start executions through one node all the while.
struct Load {
    goes_on: Arc<AtomicBool>,
    started: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Vec<Refusal>>>,
}

impl Load {
    fn on(node: &Arc<TestNode>, name: &'static str) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let started = Arc::new(AtomicUsize::new(0));
        let call = |_| {
            let (node, goes_on, started) = (node.clone(), goes_on.clone(), started.clone());
            tokio::spawn(async move {
                let mut refused = Vec::new();
                while goes_on.load(Ordering::SeqCst) {
                    let number = started.fetch_add(1, Ordering::SeqCst);
                    let request = start(&format!("{name}-{number}"), set_only());
                    refused.extend(node.engine.start(request).await.err());
                }
                refused
            })
        };
        let callers = (0..CALLERS).map(call).collect();
        Self {
            goes_on,
            started,
            callers,
        }
    }

    /// Ends; every start was accepted, and all of them end as they should, seen from here.
    async fn ended_well(self, name: &str, node: &TestNode) {
        let before = self.started.load(Ordering::SeqCst);
        support::until("some more starts", || {
            self.started.load(Ordering::SeqCst) > before + 20
        })
        .await;
        self.goes_on.store(false, Ordering::SeqCst);
        for caller in self.callers {
            assert_eq!(caller.await.expect("it ends"), []);
        }
        for number in 0..self.started.load(Ordering::SeqCst) {
            let execution = id(&format!("{name}-{number}"));
            assert_eq!(node.ended(&execution).await, Status::Completed);
        }
    }
}

#[tokio::test]
async fn a_node_that_joins_is_given_its_share_and_nobody_is_refused() {
    let nodes = Nodes::by_hand(4);
    let [one] = nodes.start_many().await;
    let load = Load::on(&one, "join");
    let two = nodes.start().await;
    nodes.balanced(&[one.clone(), two.clone()]).await;
    let three = nodes.start().await;
    nodes
        .balanced(&[one.clone(), two.clone(), three.clone()])
        .await;
    load.ended_well("join", &two).await;
}

#[tokio::test]
async fn a_node_that_leaves_hands_over_and_nobody_is_refused() {
    let nodes = Nodes::by_hand(4);
    let [one, two] = nodes.start_many().await;
    let load = Load::on(&one, "leave");
    let execution = nodes.id_in(two.leads()[0], "held");
    one.engine
        .start(start(execution.as_str(), one_task()))
        .await
        .expect("started");
    let task = next_task(&two.engine).await;
    let waiting = tokio::spawn({
        let (one, execution) = (one.clone(), execution.clone());
        async move { one.ended(&execution).await }
    });
    two.engine.shutdown().await;
    nodes.balanced(std::slice::from_ref(&one)).await;
    load.ended_well("leave", &one).await;
    // Whoever waits goes on waiting, and an agent's hold outlasts the leader who gave it.
    complete(&one.engine, &task).await;
    assert_eq!(waiting.await.expect("it ends"), Status::Completed);
}

#[tokio::test]
async fn what_a_dead_node_led_is_taken_over_and_goes_on() {
    let nodes = Nodes::by_hand(4);
    let [one, two] = nodes.start_many().await;
    let execution = nodes.id_in(two.leads()[0], "orphan");
    one.engine
        .start(start(execution.as_str(), three_tasks()))
        .await
        .expect("started");
    let task = next_task(&one.engine).await;
    two.die().await;
    assert_unavailable(&one.engine.view(&tenant(), &execution).await);
    nodes
        .within_5_seconds(&[&one], "a successor", || one.leads().len() == 4)
        .await;
    complete(&one.engine, &task).await;
    for _ in 0..2 {
        complete(&one.engine, &next_task(&one.engine).await).await;
    }
    assert_eq!(one.ended(&execution).await, Status::Completed);
}

#[tokio::test]
async fn a_node_that_nobody_hears_answers_nothing_and_comes_back() {
    let nodes = Nodes::by_hand(2);
    let [one, two] = nodes.start_many().await;
    let execution = nodes.id_in(two.leads()[0], "silent");
    two.engine
        .start(start(execution.as_str(), one_task()))
        .await
        .expect("started");
    two.cut(true);
    // Within its lease it answers: nobody else can have taken over.
    nodes.second(&[&one, &two]).await;
    assert_eq!(two.status(&execution).await, Status::Running);
    nodes
        .within_5_seconds(&[&one, &two], "a successor", || one.leads().len() == 2)
        .await;

    let stopped = one
        .engine
        .control(&tenant(), &execution, Action::Stop, None)
        .await;
    assert_eq!(stopped.expect("stopped").status, Status::Cancelled);
    assert_unavailable(&two.engine.view(&tenant(), &execution).await);
    assert_unavailable(&two.engine.start(start("late", one_task())).await);
    assert_unavailable(&two.engine.lease(&tenant(), lease_now(1)).await);
    assert!(two.readiness().expect_err("cut off")[0].contains("out of touch"));

    two.cut(false);
    nodes.second(&[&one, &two]).await;
    nodes.balanced(&[one.clone(), two.clone()]).await;
    assert_eq!(two.status(&execution).await, Status::Cancelled);
}

#[tokio::test]
async fn whoever_waits_goes_on_waiting_where_the_same_node_leads_again() {
    let nodes = Nodes::by_hand(2);
    let [one, two] = nodes.start_many().await;
    let execution = nodes.id_in(two.leads()[0], "again");
    one.engine
        .start(start(execution.as_str(), one_task()))
        .await
        .expect("started");
    let task = next_task(&one.engine).await;
    let waiting = tokio::spawn({
        let (one, execution) = (one.clone(), execution.clone());
        async move { one.ended(&execution).await }
    });
    // Only its own clock goes on: its lease ends, and nobody takes over.
    two.cut(true);
    for _ in 0..3 {
        nodes.second(&[&two]).await;
    }
    support::until("its lease has ended", || two.leads().is_empty()).await;
    two.cut(false);
    nodes.second(&[&two]).await;
    support::until("it leads again", || two.leads().len() == 1).await;
    complete(&one.engine, &task).await;
    assert_eq!(waiting.await.expect("it ends"), Status::Completed);
}

/// A process that was stopped for longer than its lease, and goes on: it was just about to answer.
#[tokio::test]
async fn a_process_that_stood_still_does_not_answer_from_what_it_remembers() {
    let nodes = Nodes::by_hand(2);
    let [one, two] = nodes.start_many().await;
    let execution = nodes.id_in(two.leads()[0], "stale");
    let document = one_task();
    let started = two.engine.start(start(execution.as_str(), document)).await;
    started.expect("started");
    // The roll goes without it, and its successor leads; only its own clock has not moved yet.
    two.cut(true);
    let is_led = || one.leads().len() == 2;
    nodes.within_5_seconds(&[&one], "a successor", is_led).await;
    let owner = tenant();
    let stopping = one.engine.control(&owner, &execution, Action::Stop, None);
    stopping.await.expect("stopped");
    assert_eq!(two.leads().len(), 1, "it still believes that it leads");

    let mut asked = two.engine.view(&owner, &execution);
    assert!(futures::poll!(&mut asked).is_pending());
    let clock = two.clock.as_ref().expect("a clock");
    clock.advance(DurationMs(2_500));
    assert_unavailable(&asked.await);
    assert_unavailable(&two.engine.view(&owner, &execution).await);
}

/// Its clock stands still, so its lease never ends: the journal's fence is what keeps it from writing.
#[tokio::test]
async fn an_old_leader_cannot_write_behind_its_successor() {
    let nodes = Nodes::by_hand(2);
    let [one, two] = nodes.start_many().await;
    let home = two.leads()[0];
    two.cut(true);
    nodes
        .within_5_seconds(&[&one], "a successor", || one.leads().len() == 2)
        .await;
    let Stores::Memory(stores) = &nodes.world.stores else {
        panic!("it is in memory")
    };
    let head = stores.journal.head(home).await.expect("read");
    let execution = nodes.id_in(home, "fenced");
    assert_unavailable(
        &two.engine
            .start(start(execution.as_str(), one_task()))
            .await,
    );
    assert_eq!(stores.journal.head(home).await.expect("read"), head);
    let unknown = one.engine.view(&tenant(), &execution).await;
    assert!(matches!(unknown, Err(Refusal::NotFound(_))), "{unknown:?}");
    assert_unavailable(&two.engine.view(&tenant(), &execution).await);

    // It looks at the roll, and asks whoever leads now.
    two.cut(false);
    support::until("the roll", || {
        two.leads().is_empty() || two.readiness().is_ok()
    })
    .await;
    nodes.second(&[&one, &two]).await;
    nodes.balanced(&[one.clone(), two.clone()]).await;
    two.engine
        .start(start(execution.as_str(), set_only()))
        .await
        .expect("started");
    assert_eq!(one.ended(&execution).await, Status::Completed);
}

/// A journal whose disk goes bad below what has been read again: who verifies it finds its first records changed.
struct Damaged {
    journal: Arc<dyn Journal>,
    since: Arc<AtomicBool>,
}

#[async_trait]
impl Journal for Damaged {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        self.journal.append(partition, expected, record)
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let mut entries = self.journal.read(partition, after, limit).await?;
        // A recovery replays.
        let is_replay = limit.records == ReadLimit::REPLAY.records;
        if let Some(first) = entries.first_mut()
            && first.position == Position(1)
            && self.since.load(Ordering::SeqCst)
            && !is_replay
        {
            let mut record = first.record.to_vec();
            *record.last_mut().expect("a record has bytes") ^= 1;
            first.record = record.into();
        }
        Ok(entries)
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        self.journal.head(partition).await
    }
}

/// Whoever takes over reads no further back than his view makes him; what is behind is read beside the work.
#[tokio::test]
async fn damage_far_back_is_found_by_whoever_leads_later() {
    let nodes = Nodes::by_hand(2);
    let one = nodes.start().await;
    let since = Arc::new(AtomicBool::new(false));
    let damaged = |backend: &mut Backend| {
        let (journal, since) = (backend.journal.clone(), since.clone());
        backend.journal = Arc::new(Damaged { journal, since });
    };
    let two = nodes.start_with(damaged).await;
    two.engine.verify_journals();
    nodes.balanced(&[one.clone(), two.clone()]).await;
    let kept = two.leads()[0];
    since.store(true, Ordering::SeqCst);
    one.die().await;
    nodes
        .within_5_seconds(&[&two], "a successor", || two.leads().len() == 2)
        .await;
    let taken = || {
        let partitions = two.partitions().into_iter();
        let mut taken = partitions.filter(|view| view.id != kept);
        format!("{:?}", taken.next().expect("there are two"))
    };
    for _ in 0..VERIFIED_WITHIN_SECONDS {
        nodes.second(&[&two]).await;
        if taken().contains("record 1: its checksum does not fit") {
            return;
        }
    }
    panic!("it is not found: {}", taken());
}

/// A journal whose server leads no longer and does not know it yet: so many reads do not see the last record.
struct Stale {
    journal: Arc<dyn Journal>,
    reads: AtomicUsize,
}

#[async_trait]
impl Journal for Stale {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        self.journal.append(partition, expected, record)
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let last = self.journal.head(partition).await?;
        let mut entries = self.journal.read(partition, after, limit).await?;
        let less = |left: usize| left.checked_sub(1);
        if (self
            .reads
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less))
        .is_ok()
        {
            entries.retain(|entry| entry.position < last);
        }
        Ok(entries)
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        self.journal.head(partition).await
    }
}

#[tokio::test]
async fn a_server_that_tells_less_than_was_acknowledged_is_asked_again() {
    let nodes = Nodes::by_hand(1);
    // What one node has seen, the next one knows.
    let view: Arc<dyn View> = Arc::new(MemoryView::default());
    let seen = |backend: &mut Backend| backend.view = view.clone();
    let one = nodes.start_with(seen).await;
    nodes.balanced(std::slice::from_ref(&one)).await;
    let started = one.engine.start(start("open", one_task())).await;
    started.expect("started");
    let home = PartitionId(0);
    let head = one.partitions()[0].position;
    while view.position(home).await.expect("read").through < head {
        nodes.second(&[&one]).await;
    }
    let stale = |backend: &mut Backend| {
        seen(backend);
        backend.journal = Arc::new(Stale {
            journal: backend.journal.clone(),
            reads: AtomicUsize::new(2),
        });
    };
    let two = nodes.start_with(stale).await;
    one.die().await;
    let is_led = || two.leads() == [home];
    nodes.within_5_seconds(&[&two], "a successor", is_led).await;
    let view = two.engine.view(&tenant(), &id("open")).await;
    assert_eq!(view.expect("seen").status, Status::Running);
}

#[tokio::test]
async fn streams_follow_a_partition_that_moves() {
    let nodes = Nodes::by_hand(3);
    let [one, two, three] = nodes.start_many().await;
    let execution = nodes.id_in(two.leads()[0], "stream");
    let of_tenant = one
        .engine
        .events(&tenant(), StreamFrom::Now)
        .await
        .expect("a stream");
    one.engine
        .start(start(execution.as_str(), three_tasks()))
        .await
        .expect("started");
    let from = StreamFrom::Execution(execution.clone(), Sequence(0));
    let of_one = one
        .engine
        .events(&tenant(), from.clone())
        .await
        .expect("a stream");
    let collecting = tokio::spawn(
        of_one
            .map(|event| event.expect("an event"))
            .collect::<Vec<_>>(),
    );

    complete(&one.engine, &next_task(&one.engine).await).await;
    // First it is handed over, then whoever has it dies, where that is not the node that is asked.
    two.engine.shutdown().await;
    nodes.balanced(&[one.clone(), three.clone()]).await;
    complete(&one.engine, &next_task(&one.engine).await).await;
    three.die().await;
    nodes
        .within_5_seconds(&[&one], "a successor", || one.leads().len() == 3)
        .await;
    complete(&one.engine, &next_task(&one.engine).await).await;
    assert_eq!(one.ended(&execution).await, Status::Completed);

    let streamed = tokio::time::timeout(PATIENCE, collecting)
        .await
        .expect("it ends")
        .expect("it ends");
    let again = one.engine.events(&tenant(), from).await.expect("a stream");
    let expected: Vec<_> = again.map(|event| event.expect("an event")).collect().await;
    assert_eq!(streamed, expected);
    let seen: Vec<_> = of_tenant
        .take(expected.len())
        .map(|event| event.expect("an event"))
        .collect()
        .await;
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn streams_go_on_when_the_node_that_is_asked_hands_over() {
    let nodes = Nodes::by_hand(2);
    let [one] = nodes.start_many().await;
    let (owner, engine) = (tenant(), &one.engine);
    let of_tenant = engine.events(&owner, StreamFrom::Now).await;
    let executions = [0, 1].map(|home| nodes.id_in(PartitionId(home), "stays"));
    let mut streams = Vec::new();
    for execution in &executions {
        let request = start(execution.as_str(), three_tasks());
        engine.start(request).await.expect("started");
        let from = StreamFrom::Execution(execution.clone(), Sequence(0));
        streams.push(engine.events(&owner, from).await.expect("a stream"));
    }
    complete(engine, &next_task(engine).await).await;
    let two = nodes.start().await;
    nodes.balanced(&[one.clone(), two.clone()]).await;
    for _ in 0..5 {
        complete(engine, &next_task(engine).await).await;
    }
    let mut expected = 0;
    for (execution, stream) in executions.iter().zip(streams) {
        let collecting = stream.map(|event| event.expect("an event")).collect();
        let streamed: Vec<_> = tokio::time::timeout(PATIENCE, collecting)
            .await
            .expect("it ends");
        let from = StreamFrom::Execution(execution.clone(), Sequence(0));
        let again = two.engine.events(&owner, from).await.expect("a stream");
        let again: Vec<_> = again.map(|event| event.expect("an event")).collect().await;
        assert_eq!(streamed, again);
        expected += again.len();
    }
    let of_tenant = of_tenant.expect("a stream").take(expected);
    let collecting = of_tenant.map(|event| event.expect("an event").id).collect();
    let seen: Vec<_> = tokio::time::timeout(PATIENCE, collecting)
        .await
        .expect("all of them");
    let different: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(different.len(), expected, "each once");
}
