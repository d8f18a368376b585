//! A task queue that is slow or loses what it was offered: no writer waits for it, and nothing is forgotten.

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use eventflow_adapter_memory::MemoryTaskQueue;
use eventflow_domain::{Capability, PartitionId, Tenant, execution::Status};
use eventflow_ports::{
    OfferedAttempt, QueueError, TaskOffer, TaskQueue,
    inbound::{Action, Controls, Executions, ResultOutcome, Tasks},
};
use support::{
    nodes::{Nodes, TestNode},
    requests::{PATIENCE, bring, completed, id, lease_now, next_task, one_task, start, tenant},
    until,
};
use tokio::sync::Semaphore;

/// Passes on what it is offered, unless it is told otherwise.
struct Unsteady {
    queue: MemoryTaskQueue,
    loses: AtomicBool,
    /// Offered and not settled.
    watched: Mutex<BTreeSet<OfferedAttempt>>,
    lost: Mutex<Vec<OfferedAttempt>>,
    forgotten: Mutex<Vec<PartitionId>>,
    /// An offer takes a permit.
    permits: Semaphore,
}

impl Unsteady {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: MemoryTaskQueue::default(),
            loses: AtomicBool::new(false),
            watched: Mutex::default(),
            lost: Mutex::default(),
            forgotten: Mutex::default(),
            permits: Semaphore::new(permits),
        })
    }

    fn watches(&self) -> usize {
        self.watched.lock().unwrap().len()
    }
}

#[async_trait]
impl TaskQueue for Unsteady {
    async fn offer(&self, tasks: Vec<TaskOffer>) -> Result<(), QueueError> {
        let permit = self.permits.acquire().await.expect("open");
        permit.forget();
        let offered = tasks.iter().map(|task| OfferedAttempt {
            partition: task.partition,
            tenant: task.tenant.clone(),
            execution: task.execution.clone(),
            task: task.task.clone(),
            attempt: task.attempt,
        });
        let offered: Vec<_> = offered.collect();
        self.watched.lock().unwrap().extend(offered.iter().cloned());
        if self.loses.load(Ordering::SeqCst) {
            self.lost.lock().unwrap().extend(offered);
            return Ok(());
        }
        self.queue.offer(tasks).await
    }

    async fn take(
        &self,
        tenant: &Tenant,
        capabilities: &[Capability],
        max: usize,
        wait: Duration,
    ) -> Result<Vec<TaskOffer>, QueueError> {
        self.queue.take(tenant, capabilities, max, wait).await
    }

    async fn lost(&self, partition: PartitionId) -> Result<Vec<OfferedAttempt>, QueueError> {
        if self.loses.load(Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        let watched = self.watched.lock().unwrap();
        let mut lost = self.lost.lock().unwrap();
        let told = lost.extract_if(.., |lost| lost.partition == partition);
        Ok(told.filter(|lost| watched.contains(lost)).collect())
    }

    fn settle(&self, attempt: &OfferedAttempt) {
        self.watched.lock().unwrap().remove(attempt);
    }

    fn forget(&self, partition: PartitionId) {
        self.forgotten.lock().unwrap().push(partition);
    }
}

async fn node_with(nodes: &Nodes, queue: &Arc<Unsteady>) -> Arc<TestNode> {
    let node = nodes
        .start_with(|backend| backend.queue = queue.clone())
        .await;
    nodes.balanced(std::slice::from_ref(&node)).await;
    node
}

#[tokio::test]
async fn what_got_lost_is_offered_again_where_it_is_still_wanted() {
    let nodes = Nodes::by_hand(2);
    let queue = Unsteady::new(Semaphore::MAX_PERMITS);
    let node = node_with(&nodes, &queue).await;
    queue.loses.store(true, Ordering::SeqCst);
    for number in 0..20 {
        let name = format!("lost-{number}");
        let started = node.engine.start(start(&name, one_task())).await;
        started.expect("started");
    }
    until("the offers", || queue.watches() == 20).await;
    let owner = tenant();
    assert!(
        node.engine
            .lease(&owner, lease_now(20))
            .await
            .expect("answered")
            .is_empty()
    );
    // What nobody wants any more is not offered again, and need not be watched.
    for number in 0..5 {
        let execution = id(&format!("lost-{number}"));
        let stopping = node.engine.control(&owner, &execution, Action::Stop, None);
        assert_eq!(stopping.await.expect("stopped").status, Status::Cancelled);
    }
    assert_eq!(queue.watches(), 15);

    queue.loses.store(false, Ordering::SeqCst);
    let mut done = BTreeSet::new();
    nodes.second(&[&node]).await;
    while done.len() < 15 {
        let task = next_task(&node.engine).await;
        assert!(
            done.insert(task.execution.clone()),
            "{} twice",
            task.execution
        );
        let outcome = bring(&node.engine, completed(&task)).await;
        assert!(matches!(outcome, ResultOutcome::Accepted), "{outcome:?}");
    }
    assert_eq!(queue.watches(), 0, "what was begun is settled");
    assert!(
        node.engine
            .lease(&owner, lease_now(20))
            .await
            .expect("answered")
            .is_empty()
    );
    node.engine.shutdown().await;
    queue.forgotten.lock().unwrap().sort_unstable();
    assert_eq!(
        *queue.forgotten.lock().unwrap(),
        [PartitionId(0), PartitionId(1)]
    );
}

#[tokio::test]
async fn a_queue_that_does_not_answer_holds_up_no_writer_and_keeps_the_order() {
    let nodes = Nodes::by_hand(1);
    let queue = Unsteady::new(0);
    let node = node_with(&nodes, &queue).await;
    for number in 0..20 {
        let name = format!("slow-{number}");
        let request = start(&name, one_task());
        let starting = tokio::time::timeout(PATIENCE, node.engine.start(request));
        starting.await.expect("no writer waits").expect("started");
    }
    assert_eq!(queue.watches(), 0, "it has answered nothing");
    queue.permits.add_permits(Semaphore::MAX_PERMITS);
    for number in 0..20 {
        let task = next_task(&node.engine).await;
        assert_eq!(task.execution, id(&format!("slow-{number}")));
    }
}
