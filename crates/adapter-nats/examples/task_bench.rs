//! How fast tasks go through one server, for each way of keeping the queue: `cargo run --release --example task_bench -p
//! eventflow-adapter-nats [tasks per line]`.

use std::{
    env,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::jetstream;
use eventflow_adapter_nats::{NatsConfig, NatsTaskQueue};
use eventflow_domain::{
    Attempt, Capability, ExecutionId, Json, PartitionId, TaskReference, Tenant, Timestamp, Value,
    WorkflowId,
};
use eventflow_nats_server::{NatsCluster, NatsServer, Options};
use eventflow_ports::{TaskOffer, TaskQueue};

/// Offers that a partition's writer makes at a time.
const OFFERED_AT_ONCE: usize = 64;
/// Where a take finds nothing all of it has been taken.
const WAIT: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let tasks = env::args()
        .nth(1)
        .map_or(Ok(20_000), |tasks| tasks.parse())?;
    println!("store      takers  max  offers/s  takes/s  both at once/s");
    let server = NatsServer::start(Options { sync_always: false });
    bench("R1", &[server.url()], 1, tasks).await?;
    drop(server);
    let server = NatsServer::start(Options { sync_always: true });
    bench("R1 always", &[server.url()], 1, tasks).await?;
    drop(server);
    let cluster = NatsCluster::start(3);
    bench("R3", &cluster.urls(), 3, tasks).await
}

async fn bench(
    store: &str,
    urls: &[String],
    replicas: usize,
    tasks: usize,
) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(urls).await?;
    for (takers, max) in [(1, 1), (1, 100), (16, 10), (256, 1)] {
        let prefix = format!("bench-{takers}-{max}");
        let config = NatsConfig {
            prefix: prefix.clone(),
            replicas,
            ..NatsConfig::default()
        };
        let queue = Arc::new(NatsTaskQueue::open(&client, &config).await?);
        let context = jetstream::new(client.clone());
        let stream = format!("{}_TASKS", prefix.to_uppercase());
        let stream = context.get_stream(stream).await?;

        let start = Instant::now();
        offer(&queue, "first", tasks).await?;
        while stream.get_info().await?.state.messages < tasks as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let offered = start.elapsed();
        let taken = take(&queue, takers, max, tasks, Instant::now()).await?;

        let start = Instant::now();
        let (offering, both) = tokio::join!(
            offer(&queue, "second", tasks),
            take(&queue, takers, max, tasks, start)
        );
        offering?;
        println!(
            "{store:10} {takers:6} {max:4} {:9.0} {:8.0} {:15.0}",
            per_second(tasks, offered),
            per_second(tasks, taken),
            per_second(tasks, both?),
        );
    }
    Ok(())
}

async fn offer(queue: &NatsTaskQueue, of: &str, tasks: usize) -> Result<(), Box<dyn Error>> {
    let all: Vec<_> = (0..tasks).map(|task| sample(of, task)).collect();
    for some in all.chunks(OFFERED_AT_ONCE) {
        queue.offer(some.to_vec()).await?;
    }
    Ok(())
}

/// How long it took from `start` until the last one was taken, by so many takers.
async fn take(
    queue: &Arc<NatsTaskQueue>,
    takers: usize,
    max: usize,
    tasks: usize,
    start: Instant,
) -> Result<Duration, Box<dyn Error>> {
    let taken = Arc::new(AtomicUsize::new(0));
    let mut taking = tokio::task::JoinSet::new();
    for _ in 0..takers {
        let (queue, taken) = (queue.clone(), taken.clone());
        taking.spawn(async move {
            let tenant = Tenant::default_tenant();
            let capabilities = [Capability::parse("charge").expect("a name")];
            let mut last = start.elapsed();
            while taken.load(Ordering::SeqCst) < tasks {
                let some = queue.take(&tenant, &capabilities, max, WAIT).await;
                let some = some.expect("taken");
                if !some.is_empty() {
                    last = start.elapsed();
                }
                for task in &some {
                    queue.settle(&task.offered());
                }
                taken.fetch_add(some.len(), Ordering::SeqCst);
            }
            last
        });
    }
    let mut last = Duration::ZERO;
    while let Some(taker) = taking.join_next().await {
        last = last.max(taker?);
    }
    Ok(last)
}

fn sample(of: &str, task: usize) -> TaskOffer {
    TaskOffer {
        tenant: Tenant::default_tenant(),
        capability: Capability::parse("charge").expect("a name"),
        partition: PartitionId(0),
        execution: ExecutionId::parse(&format!("{of}-{task}")).expect("a name"),
        task: TaskReference::at("/do/0/charge"),
        attempt: Attempt(1),
        workflow: WorkflowId {
            namespace: "default".into(),
            name: "order".into(),
            version: "1.0.0".into(),
        },
        token: "eyJleGVjdXRpb24iOiJleGVjdXRpb24tMSIsInRhc2siOiIvZG8vMC9jaGFyZ2UifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ".into(),
        input: Value::new(Json::of(&serde_json::json!({"order": task, "total": 17.5}))),
        ready_at: Timestamp(1_700_000_000_000),
        traceparent: None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 tasks")]
fn per_second(tasks: usize, took: Duration) -> f64 {
    tasks as f64 / took.as_secs_f64()
}
