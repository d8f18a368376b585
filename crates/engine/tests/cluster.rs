//! Several nodes on one store: any of them answers for any execution, and whoever leads a partition may go at any time.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{
    DurationMs, ExecutionId, Json, PartitionId, Position, Sequence, execution::Status,
};
use eventflow_ports::{
    Appending, Journal, JournalEntry, ListQuery, ReadError, ReadLimit,
    inbound::{
        Action, Controls, Executions, Refusal, ResultOutcome, StreamFrom, TaskVerdict, Tasks,
    },
};
use futures::StreamExt;
use serde_json::json;
use support::{
    Stores,
    nodes::{Nodes, TestNode},
    requests::{
        PATIENCE, agent_task, complete, completed, id, lease_now, next_task, one_task, set_only,
        start, tenant, workflow,
    },
    scene::assert_unavailable,
};
use tokio::task::JoinHandle;

fn everything() -> ListQuery {
    ListQuery {
        tenant: tenant(),
        statuses: Vec::new(),
        workflow: None,
        labels: Vec::new(),
        started_after: None,
        started_before: None,
        limit: 1_000,
        before: None,
    }
}

async fn listed(node: &TestNode) -> Vec<ExecutionId> {
    let page = node.engine.list(everything()).await.expect("listed");
    let ids = page.executions.into_iter().map(|view| view.execution);
    ids.collect()
}

async fn status(node: &TestNode, execution: &ExecutionId) -> Status {
    let view = node.engine.view(&tenant(), execution).await;
    view.expect("seen").status
}

async fn ended(node: &TestNode, execution: &ExecutionId) -> Status {
    let view = node.engine.wait(&tenant(), execution, PATIENCE).await;
    view.expect("seen").status
}

/// Three agent steps, one after the other.
fn three_tasks() -> Json {
    workflow(
        "three",
        ["a", "b", "c"].map(|name| (name.to_owned(), agent_task(&json!({})))),
    )
}

/// So many at once.
const CALLERS: usize = 8;

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
            assert_eq!(ended(node, &execution).await, Status::Completed);
        }
    }
}

#[tokio::test]
async fn any_node_answers_for_any_execution() {
    let nodes = Nodes::by_hand(4);
    let [one, two, three] = nodes.start_many().await;
    for number in 0..12 {
        let execution = format!("any-{number}");
        let started = one.engine.start(start(&execution, three_tasks())).await;
        assert!(!started.expect("started").repeated);
        let again = two.engine.start(start(&execution, three_tasks())).await;
        assert!(again.expect("the same").repeated, "{execution}");
        let other = three.engine.start(start(&execution, one_task())).await;
        assert!(matches!(other, Err(Refusal::Contradiction(_))), "{other:?}");
    }
    for round in 0..36 {
        let node = [&one, &two, &three][round % 3];
        let task = next_task(&node.engine).await;
        let explained = two
            .engine
            .explain(&tenant(), &task.execution)
            .await
            .expect("explained");
        assert_eq!(
            explained.waits[0].held_by.as_ref().expect("held").as_str(),
            "agent"
        );
        let beat = completed(&task);
        let beat = eventflow_ports::inbound::TaskResult {
            verdict: TaskVerdict::Heartbeat,
            ..beat
        };
        let alive = three.engine.results(&tenant(), vec![beat]).await;
        assert!(matches!(alive[..], [ResultOutcome::Alive(_)]), "{alive:?}");
        complete(&[&two, &three, &one][round % 3].engine, &task).await;
    }
    for number in 0..12 {
        let execution = id(&format!("any-{number}"));
        assert_eq!(ended(&three, &execution).await, Status::Completed);
        let history = async |node: &TestNode| {
            let page = node
                .engine
                .history(&tenant(), &execution, Sequence(0), 100)
                .await;
            page.expect("read").events.last().expect("events").hash
        };
        assert_eq!(history(&one).await, history(&two).await);
    }
    assert_eq!(listed(&one).await.len(), 12);
    assert_eq!(listed(&one).await, listed(&three).await);
    for node in [&one, &two, &three] {
        let unknown = node.engine.view(&tenant(), &id("unknown")).await;
        assert!(matches!(unknown, Err(Refusal::NotFound(_))), "{unknown:?}");
    }
}

#[tokio::test]
async fn results_of_many_partitions_come_back_in_order() {
    let nodes = Nodes::by_hand(4);
    let [one, two] = nodes.start_many().await;
    for number in 0..200 {
        one.engine
            .start(start(&format!("many-{number}"), one_task()))
            .await
            .expect("started");
    }
    let mut tasks = Vec::new();
    while tasks.len() < 200 {
        tasks.extend(
            two.engine
                .lease(&tenant(), lease_now(64))
                .await
                .expect("leased"),
        );
    }
    let mut results: Vec<_> = tasks.iter().map(completed).collect();
    results[7].token = eventflow_ports::inbound::TaskToken("forged".into());
    let outcomes = one.engine.results(&tenant(), results).await;
    for (place, outcome) in outcomes.iter().enumerate() {
        let is_forged = matches!(outcome, ResultOutcome::Refused(Refusal::NotFound(_)));
        assert_eq!(is_forged, place == 7, "{place}: {outcome:?}");
        assert!(
            is_forged || matches!(outcome, ResultOutcome::Accepted),
            "{outcome:?}"
        );
    }
    for (place, task) in tasks.iter().enumerate() {
        let expected = if place == 7 {
            Status::Running
        } else {
            Status::Completed
        };
        assert_eq!(status(&two, &task.execution).await, expected);
    }
}

#[tokio::test]
async fn controls_and_large_values_go_to_the_leader_and_back() {
    let nodes = Nodes::by_hand(2);
    let [one, two] = nodes.start_many().await;
    let large = Json::of(&json!({"text": "x".repeat(200_000)}));
    for home in [PartitionId(0), PartitionId(1)] {
        let execution = nodes.id_in(home, "large");
        let mut request = start(execution.as_str(), one_task());
        request.input = large.clone();
        one.engine.start(request).await.expect("started");
        let paused = two
            .engine
            .control(&tenant(), &execution, Action::Pause, Some("lunch".into()))
            .await;
        assert_eq!(paused.expect("paused").status, Status::Suspended);
        assert!(
            one.engine
                .lease(&tenant(), lease_now(1))
                .await
                .expect("answered")
                .is_empty()
        );
        let resumed = one
            .engine
            .control(&tenant(), &execution, Action::Resume, None)
            .await;
        assert_eq!(resumed.expect("resumed").status, Status::Running);
        let task = next_task(&two.engine).await;
        assert_eq!(task.input, large);
        let mut result = completed(&task);
        result.verdict = TaskVerdict::Complete(large.clone());
        let outcome = one.engine.results(&tenant(), vec![result]).await;
        assert!(
            matches!(outcome[..], [ResultOutcome::Accepted]),
            "{outcome:?}"
        );
        for node in [&one, &two] {
            let view = node
                .engine
                .wait(&tenant(), &execution, PATIENCE)
                .await
                .expect("seen");
            assert_eq!(
                (view.input, view.output),
                (large.clone(), Some(large.clone()))
            );
        }
        let stopped = two
            .engine
            .control(&tenant(), &execution, Action::Stop, None)
            .await;
        assert!(
            matches!(stopped, Err(Refusal::Contradiction(_))),
            "{stopped:?}"
        );
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
        async move { ended(&one, &execution).await }
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
    assert_eq!(ended(&one, &execution).await, Status::Completed);
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
    assert_eq!(status(&two, &execution).await, Status::Running);
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
    assert_eq!(status(&two, &execution).await, Status::Cancelled);
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
    assert_eq!(ended(&one, &execution).await, Status::Completed);
}

/// A journal whose first records are not what was written, from some moment on.
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
        if let Some(first) = entries.first_mut()
            && first.position == Position(1)
            && self.since.load(Ordering::SeqCst)
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
    let damaged = |backend: &mut eventflow_engine::Backend| {
        let journal = backend.journal.clone();
        let since = since.clone();
        backend.journal = Arc::new(Damaged { journal, since });
    };
    let two = nodes.start_with(damaged).await;
    two.engine.verify_journals();
    nodes.balanced(&[one.clone(), two.clone()]).await;
    let kept = two.leads()[0];
    // What it leads from the beginning was sound when it was read.
    nodes.second(&[&one, &two]).await;
    since.store(true, Ordering::SeqCst);
    one.die().await;
    let stopped = || {
        let partitions = two.partitions().into_iter();
        let taken = partitions.filter(|view| view.id != kept);
        taken.clone().count() == 1
            && taken
                .map(|view| format!("{view:?}"))
                .all(|view| view.contains("record 1"))
    };
    for _ in 0..20 {
        nodes.second(&[&two]).await;
        if stopped() {
            return;
        }
    }
    panic!("{:#?}", two.partitions());
}

#[tokio::test]
async fn a_list_names_the_partition_that_nobody_leads() {
    let nodes = Nodes::by_hand(3);
    let [one, two] = nodes.start_many().await;
    for number in 0..30 {
        one.engine
            .start(start(&format!("list-{number}"), set_only()))
            .await
            .expect("started");
    }
    let page = ListQuery {
        limit: 10,
        ..everything()
    };
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let query = ListQuery {
            before,
            ..page.clone()
        };
        let page = two.engine.list(query).await.expect("listed");
        pages.extend(page.executions.into_iter().map(|view| view.execution));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(pages, listed(&one).await);
    assert_eq!(pages.len(), 30);

    let lost = two.leads();
    two.die().await;
    let refused = one
        .engine
        .list(everything())
        .await
        .expect_err("one is missing");
    let named = lost
        .iter()
        .any(|id| refused.to_string().contains(&format!("partition {id}")));
    assert!(named, "{refused}");
    nodes
        .within_5_seconds(&[&one], "a successor", || one.leads().len() == 3)
        .await;
    assert_eq!(listed(&one).await, pages);
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
    assert_eq!(ended(&one, &execution).await, Status::Completed);

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

#[tokio::test]
async fn readiness_and_system_tell_who_leads_what() {
    let nodes = Nodes::by_hand(3);
    let [one, two] = nodes.start_many().await;
    for node in [&one, &two] {
        let partitions = node.partitions();
        let leaders: Vec<_> = partitions
            .iter()
            .map(|view| view.leader.clone().expect("led"))
            .collect();
        let own = leaders
            .iter()
            .filter(|leader| **leader == node.name.to_string())
            .count();
        assert_eq!(own, node.leads().len());
        assert!(
            partitions
                .iter()
                .all(|view| view.epoch.0 > 0 && view.position.0 > 0),
            "{partitions:?}"
        );
    }
    two.die().await;
    let all = || one.leads().len() == 3 && one.readiness().is_ok();
    nodes.within_5_seconds(&[&one], "a successor", all).await;
}
