//! Measures the journal's layouts against each other, and the view: `cargo run --release --example append_bench`.
//!
//! `appends` per second with so many in flight, latency of each from the call to the answer, and the bytes that this
//! process gave to the device (`write_bytes` of `/proc/self/io`; 0 elsewhere): until the last answer, and until the store
//! was closed, its checkpoint included. Takes the directory to measure in as an argument; the default is the current one.

use std::{
    collections::{BTreeMap, VecDeque},
    env, fs,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use eventflow_adapter_sqlite::{Options, SqliteStore, SqliteView};
use eventflow_domain::{
    Digest, ExecutionId, Json, PartitionId, Position, Tenant, Timestamp, execution::Status,
};
use eventflow_ports::{View, ViewBatch, ViewPosition, ViewRow};

const P0: PartitionId = PartitionId(0);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = env::args()
        .nth(1)
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    let directory = tempfile::tempdir_in(directory)?;
    raw_syncs(directory.path())?;

    let default = Options::new(1);
    let growing = Options {
        wal_bytes: 0,
        ..default
    };
    let pages = |page_bytes| Options {
        page_bytes,
        ..default
    };
    println!(
        "\nlayout        bytes in flight  appends/s   p50 us   p99 us  device B/append  with checkpoint"
    );
    for (record_bytes, appends) in [
        (200, 4000),
        (1500, 4000),
        (8 * 1024, 3000),
        (64 * 1024, 600),
    ] {
        for in_flight in [1, 4] {
            for (name, options) in [
                ("1k pages", pages(1024)),
                ("2k pages", pages(2048)),
                ("4k pages", pages(4096)),
                ("1k, growing", growing),
            ] {
                let load = Load {
                    record_bytes,
                    in_flight,
                    appends,
                };
                let store = directory.path().join("store");
                println!("{name:11} {}", measure(&store, options, load).await?);
                fs::remove_dir_all(&store)?;
            }
        }
    }
    three_in_a_row(&directory.path().join("three")).await?;
    view(&directory.path().join("view")).await?;
    Ok(())
}

#[derive(Clone, Copy)]
struct Load {
    record_bytes: usize,
    in_flight: usize,
    appends: usize,
}

async fn measure(
    path: &Path,
    options: Options,
    load: Load,
) -> Result<String, Box<dyn std::error::Error>> {
    let Load {
        record_bytes,
        in_flight,
        appends,
    } = load;
    let store = SqliteStore::open_with(path, &options)?;
    let journal = store.journal();
    let record = noise(record_bytes);
    let bytes_before = device_bytes();
    let began = Instant::now();
    let mut latencies = Vec::with_capacity(appends);
    let mut appending = VecDeque::with_capacity(in_flight);
    for last in 0..appends as u64 {
        if appending.len() == in_flight
            && let Some((at, append)) = appending.pop_front()
        {
            finish(at, append, &mut latencies).await?;
        }
        let append = journal.append(P0, Position(last), record.clone());
        appending.push_back((Instant::now(), append));
    }
    for (at, append) in appending {
        finish(at, append, &mut latencies).await?;
    }
    let took = began.elapsed();
    let bytes_appended = device_bytes() - bytes_before;
    drop((journal, store));
    let bytes_closed = device_bytes() - bytes_before;
    latencies.sort();
    Ok(format!(
        "{record_bytes:7} {in_flight:9} {:10.0} {:8} {:8} {:16} {:16}",
        per_second(appends, took),
        latencies[appends / 2].as_micros(),
        latencies[appends * 99 / 100].as_micros(),
        bytes_appended / appends as u64,
        bytes_closed / appends as u64,
    ))
}

async fn finish(
    at: Instant,
    append: eventflow_ports::Appending,
    latencies: &mut Vec<Duration>,
) -> Result<(), eventflow_ports::AppendError> {
    append.await?;
    latencies.push(at.elapsed());
    Ok(())
}

/// What the device takes for the same without a store.
fn raw_syncs(directory: &Path) -> std::io::Result<()> {
    const WRITES: usize = 1000;
    const BYTES: usize = 4096;
    let path = directory.join("raw");
    let file = File::create(&path)?;
    for (name, filled) in [("adding blocks", false), ("overwriting blocks", true)] {
        if !filled {
            file.set_len(0)?;
        }
        let mut latencies = Vec::with_capacity(WRITES);
        for write in 0..WRITES {
            let began = Instant::now();
            file.write_all_at(&[7; BYTES], (write * BYTES) as u64)?;
            file.sync_data()?;
            latencies.push(began.elapsed());
        }
        latencies.sort();
        println!(
            "write of 4 KiB and fdatasync, {name}: p50 {} us, p99 {} us",
            latencies[WRITES / 2].as_micros(),
            latencies[WRITES * 99 / 100].as_micros()
        );
    }
    fs::remove_file(path)
}

/// Three appends, each after the answer to the one before: what a chain of three steps waits for.
async fn three_in_a_row(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const ROUNDS: u64 = 500;
    let store = SqliteStore::open(path, 1)?;
    let journal = store.journal();
    let record = noise(1500);
    let mut latencies = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        for append in 0..3 {
            let last = Position(round * 3 + append);
            journal.append(P0, last, record.clone()).await?;
        }
        latencies.push(began.elapsed());
    }
    latencies.sort();
    println!(
        "\nthree appends of 1,500 B in a row: p50 {} us, p99 {} us",
        latencies[latencies.len() / 2].as_micros(),
        latencies[latencies.len() * 99 / 100].as_micros()
    );
    Ok(())
}

/// Executions that are 64 at a time under way, each written three times, in batches as a feed brings them.
async fn view(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const EXECUTIONS: u64 = 20_000;
    const UNDER_WAY: u64 = 64;
    const LOOK_UPS: u64 = 10_000;
    const STATUSES: [Status; 3] = [Status::Running, Status::Waiting, Status::Completed];
    let view = SqliteView::open(path, 1)?;
    let bytes_before = device_bytes();
    let began = Instant::now();
    let mut through = 0;
    for first in (0..EXECUTIONS).step_by(usize::try_from(UNDER_WAY)?) {
        for status in STATUSES {
            through += 1;
            let position = ViewPosition {
                through: Position(through),
                replay_after: Position(through),
            };
            let rows = (first..first + UNDER_WAY).map(|number| row(number, status));
            let rows = rows.collect();
            view.apply(P0, ViewBatch { position, rows }).await?;
        }
    }
    let rows = through * UNDER_WAY;
    let took = began.elapsed();
    let bytes = device_bytes() - bytes_before;
    println!(
        "\nview, 64 executions at a time, summary 500 B, state 600 B: {:.0} rows/s, {} device bytes per row",
        per_second(usize::try_from(rows)?, took),
        bytes / rows
    );
    let began = Instant::now();
    for number in 0..LOOK_UPS {
        let found = view
            .get(P0, &Tenant::default_tenant(), &execution(number))
            .await?;
        assert!(found.is_some(), "a row that was applied");
    }
    println!(
        "view, get by id: {} us each",
        began.elapsed().as_micros() / u128::from(LOOK_UPS)
    );
    Ok(())
}

fn row(number: u64, status: Status) -> ViewRow {
    ViewRow {
        tenant: Tenant::default_tenant(),
        execution: execution(number),
        workflow: "order".to_owned(),
        status,
        created_at: Timestamp(1_700_000_000_000 + i64::try_from(number).unwrap_or(0)),
        labels: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        summary: Json::of(&"s".repeat(500)),
        state: Some(noise(600)),
    }
}

/// Without order, as ids that are derived from a cause.
fn execution(number: u64) -> ExecutionId {
    ExecutionId::parse(&Digest::of(&number.to_be_bytes()).to_string()[..32])
        .expect("hex digits make an id")
}

/// Bytes that do not compress, as records do not.
fn noise(bytes: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect()
}

#[allow(clippy::cast_precision_loss)] // for people
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn device_bytes() -> u64 {
    fs::read_to_string("/proc/self/io")
        .ok()
        .and_then(|io| {
            let line = io.lines().find(|line| line.starts_with("write_bytes"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        })
        .unwrap_or(0)
}
