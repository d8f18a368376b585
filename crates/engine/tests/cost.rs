//! A step costs the same whatever came before it: counted, not timed.
//!
//! One test in a binary of its own, since the counters are those of the process.

mod support;

use std::{collections::BTreeMap, iter::Sum, ops::Add, sync::Arc, time::Instant};

use eventflow_adapter_memory::Faults;
use eventflow_domain::execution::Status;
use eventflow_engine::Engine;
use eventflow_ports::inbound::Executions;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::json;
use support::{
    World, manual_clock,
    requests::{PATIENCE, agent_task, complete, id, next_task, set_only, start, tenant, workflow},
};
use tokio::task::JoinSet;

/// Finished executions in the store; `EVENTFLOW_FINISHED` says how many, `just cost` 100,000.
const FINISHED: u64 = 5_000;
/// Starts under way at once while those are made.
const STARTS_AT_ONCE: u64 = 1_000;

/// A short and a long execution, in agent tasks.
const SHORT: u32 = 10;
const LONG: u32 = 1_000;
/// What a step of the long execution may have more, in bytes: the digits of what it names. It names tasks 4 times (each
/// index has up to 2 digits more) and 2 sequences (each up to 2 digits more), and LZ4 may need a token more for each
/// of the 4.
const DIGITS_BYTES: u64 = 4 * 2 + 2 * 2 + 4;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    folded: u64,
    rows_read: u64,
    rows_written: u64,
    records: u64,
    bytes: u64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            folded: self.folded + other.folded,
            rows_read: self.rows_read + other.rows_read,
            rows_written: self.rows_written + other.rows_written,
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Self::add)
    }
}

/// The process' counters.
struct Counters(Snapshotter);

impl Counters {
    fn install() -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder
            .install()
            .expect("nobody else counts in this process");
        Self(snapshotter)
    }

    /// What was counted since the last time.
    fn take(&self) -> Cost {
        let counted: BTreeMap<String, u64> = self
            .0
            .snapshot()
            .into_vec()
            .into_iter()
            .filter_map(|(key, _, _, value)| match value {
                DebugValue::Counter(count) => Some((key.key().name().to_owned(), count)),
                DebugValue::Gauge(_) | DebugValue::Histogram(_) => None,
            })
            .collect();
        let of = |name| counted.get(name).copied().unwrap_or_default();
        Cost {
            folded: of("eventflow_events_folded_total"),
            rows_read: of("eventflow_rows_read_total"),
            rows_written: of("eventflow_view_rows_total"),
            records: of("eventflow_records_total"),
            bytes: of("eventflow_record_bytes_total"),
        }
    }

    /// The same, with the rows that the view's feed is still to write.
    async fn take_with_rows(&self, rows: u64) -> Cost {
        let began = Instant::now();
        let mut cost = self.take();
        while cost.rows_written < rows {
            assert!(
                began.elapsed() < PATIENCE,
                "{} of {rows} rows were written",
                cost.rows_written
            );
            tokio::task::yield_now().await;
            cost = cost + self.take();
        }
        cost
    }
}

/// What each part of one execution of agent tasks costs.
struct Costs {
    start: Cost,
    /// Each lease with its completion; the last one ends the execution.
    steps: Vec<Cost>,
}

async fn run_agent_tasks(counters: &Counters, engine: &Engine, name: &str, tasks: u32) -> Costs {
    // Names of one length, so that only indices grow.
    let tasks = (0..tasks).map(|task| (format!("t{task:04}"), agent_task(&json!({}))));
    let tasks: Vec<_> = tasks.collect();
    let count = tasks.len();
    counters.take();
    engine
        .start(start(name, workflow("agents", tasks)))
        .await
        .expect("started");
    let start = counters.take();
    let mut steps = Vec::new();
    for step in 1..=count {
        let task = next_task(engine).await;
        complete(engine, &task).await;
        let ends = u64::from(step == count);
        steps.push(counters.take_with_rows(ends).await);
    }
    let view = engine.view(&tenant(), &id(name)).await.expect("seen");
    assert_eq!(view.status, Status::Completed);
    counters.take();
    Costs { start, steps }
}

/// Runs so many executions that end by themselves; gives what they cost.
async fn finish(counters: &Counters, engine: &Arc<Engine>, count: u64) -> Cost {
    counters.take();
    let mut cost = Cost::default();
    let mut first = 0;
    while first < count {
        let next = count.min(first + STARTS_AT_ONCE);
        let mut starts = JoinSet::new();
        for number in first..next {
            let engine = engine.clone();
            starts.spawn(async move {
                engine
                    .start(start(&format!("finished-{number:06}"), set_only()))
                    .await
            });
        }
        for started in starts.join_all().await {
            assert!(!started.expect("started").repeated);
        }
        cost = cost + counters.take_with_rows(next - first).await;
        first = next;
    }
    cost
}

/// The dearest of these steps, counter by counter.
fn dearest(costs: &[Cost]) -> Cost {
    costs.iter().fold(Cost::default(), |dearest, cost| Cost {
        folded: dearest.folded.max(cost.folded),
        rows_read: dearest.rows_read.max(cost.rows_read),
        rows_written: dearest.rows_written.max(cost.rows_written),
        records: dearest.records.max(cost.records),
        bytes: dearest.bytes.max(cost.bytes),
    })
}

/// Long and short alike, but for the digits of what is named.
fn assert_alike(what: &str, long: Cost, short: Cost) {
    let spared = Cost {
        bytes: long.bytes.min(short.bytes + DIGITS_BYTES),
        ..short
    };
    assert_eq!(long, spared, "{what}, against {short:?}");
}

async fn of_long_and_short_executions(counters: &Counters, store: &str, world: &World) {
    let engine = world.live(&Faults::new()).await.expect("it starts");
    let short = run_agent_tasks(counters, &engine, "measured", SHORT).await;
    let long = run_agent_tasks(counters, &engine, "measured-too", LONG).await;
    engine.shutdown().await;

    let (short_end, short_steps) = short.steps.split_last().expect("ten steps");
    let (long_end, long_steps) = long.steps.split_last().expect("a thousand steps");
    let (one, other) = (dearest(long_steps), dearest(short_steps));
    println!("{store}: a step of {LONG} at most {one:?}, of {SHORT} at most {other:?}");
    assert_alike("the start", long.start, short.start);
    assert_alike("a step", one, other);
    assert_alike("the last step", *long_end, *short_end);
    // Begun, completed, the next one scheduled: one record, and nothing is read or written beside it.
    for step in short_steps.iter().chain(long_steps) {
        let Cost { bytes, .. } = *step;
        let expected = Cost {
            folded: 3,
            records: 1,
            bytes,
            ..Cost::default()
        };
        assert_eq!(*step, expected);
    }
}

/// Runs the same execution in an empty store and in one that has seen a lot, and starts an engine on that.
async fn in_empty_and_full_stores(counters: &Counters, store: &str, worlds: [World; 2]) {
    let finished = match std::env::var("EVENTFLOW_FINISHED") {
        Ok(count) => count.parse().expect("EVENTFLOW_FINISHED is a number"),
        Err(_) => FINISHED,
    };
    let [empty, full] = worlds;
    let engine = empty.live(&Faults::new()).await.expect("it starts");
    let in_empty = run_agent_tasks(counters, &engine, "measured", SHORT).await;
    engine.shutdown().await;

    let began = Instant::now();
    let engine = Arc::new(full.live(&Faults::new()).await.expect("it starts"));
    let making = finish(counters, &engine, finished).await;
    // Of each: one row looked for before its start, one written when it had ended, and no second look at either.
    assert_eq!(
        (making.rows_read, making.rows_written),
        (finished, finished)
    );
    let in_full = run_agent_tasks(counters, &engine, "measured", SHORT).await;
    assert_eq!(in_full.start, in_empty.start, "{store}: the start");
    assert_eq!(in_full.steps, in_empty.steps, "{store}: the steps");
    println!(
        "{store}: the same with {finished} finished executions, made in {:?} with {} records, {} bytes each",
        began.elapsed(),
        making.records,
        making.bytes / finished
    );
    engine.shutdown().await;
    drop(engine);

    counters.take();
    let engine = full.live(&Faults::new()).await.expect("it starts again");
    let restart = counters.take();
    assert_eq!(
        (restart.folded, restart.rows_read),
        (0, 0),
        "{store}: a restart"
    );
    let again = run_agent_tasks(counters, &engine, "measured-too", SHORT).await;
    assert_eq!(sum_of(&again).records, sum_of(&in_empty).records);
    engine.shutdown().await;
}

fn sum_of(costs: &Costs) -> Cost {
    costs.start + costs.steps.iter().copied().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_costs_the_same_whatever_came_before_it() {
    let counters = Counters::install();
    for (store, is_on_sqlite) in [("memory", false), ("SQLite", true)] {
        let world = || {
            if is_on_sqlite {
                return World::sqlite(manual_clock());
            }
            World::memory(manual_clock())
        };
        of_long_and_short_executions(&counters, store, &world()).await;
        in_empty_and_full_stores(&counters, store, [world(), world()]).await;
    }
}
