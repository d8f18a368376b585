//! How fast packed records are appended, for each way of keeping the journal: `cargo run --release --example
//! journal_bench -p eventflow-adapter-nats [seconds per line]`.

use std::{
    collections::VecDeque,
    env,
    error::Error,
    time::{Duration, Instant},
};

use bytes::Bytes;
use eventflow_adapter_nats::{NatsConfig, NatsJournal};
use eventflow_domain::{PartitionId, Position};
use eventflow_nats_server::{NatsCluster, NatsServer, Options};
use eventflow_ports::{Journal, ReadLimit};

const P: PartitionId = PartitionId(0);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = env::args()
        .nth(1)
        .map_or(Ok(3), |seconds| seconds.parse())?;
    let of = Duration::from_secs(seconds);
    println!("store      record  in flight  records/s   MiB/s  p50 ms  p99 ms  replay, MiB/s");
    let server = NatsServer::start(Options { sync_always: false });
    bench("R1", &[server.url()], 1, of).await?;
    drop(server);
    let server = NatsServer::start(Options { sync_always: true });
    bench("R1 always", &[server.url()], 1, of).await?;
    drop(server);
    let cluster = NatsCluster::start(3);
    bench("R3", &cluster.urls(), 3, of).await
}

async fn bench(
    store: &str,
    urls: &[String],
    replicas: usize,
    of: Duration,
) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(urls).await?;
    for kib in [8_usize, 64] {
        for in_flight in [1, 4] {
            let config = NatsConfig {
                prefix: format!("bench-{kib}-{in_flight}"),
                partitions: 1,
                replicas,
                ..NatsConfig::default()
            };
            let journal = NatsJournal::open(&client, config).await?;
            let (each, took) = appends(&journal, kib * 1024, in_flight, of).await?;
            let records = f64::from(u32::try_from(each.len())?);
            let mib = records * f64::from(u32::try_from(kib)?) / 1024.0;
            let replay = replay(&journal).await?;
            println!(
                "{store:10} {kib:2} KiB {in_flight:10} {:10.0} {:7.1} {:7.2} {:7.2} {:14.1}",
                records / took.as_secs_f64(),
                mib / took.as_secs_f64(),
                percentile(&each, 50),
                percentile(&each, 99),
                mib / replay.as_secs_f64(),
            );
        }
    }
    Ok(())
}

/// How long each append took, sorted, and all of them together.
async fn appends(
    journal: &NatsJournal,
    bytes: usize,
    in_flight: usize,
    of: Duration,
) -> Result<(Vec<Duration>, Duration), Box<dyn Error>> {
    // What a compressed record looks like: nothing that the disk or the server could squeeze.
    let mut state = 0x9E37_79B9_u32;
    let record: Bytes = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect();
    let (mut each, mut waiting, mut last) = (Vec::new(), VecDeque::new(), Position(0));
    let start = Instant::now();
    while start.elapsed() < of {
        while waiting.len() < in_flight {
            waiting.push_back((Instant::now(), journal.append(P, last, record.clone())));
            last = last.next();
        }
        if let Some((since, append)) = waiting.pop_front() {
            append.await?;
            each.push(since.elapsed());
        }
    }
    let took = start.elapsed();
    for (_, append) in waiting {
        append.await?;
    }
    each.sort_unstable();
    Ok((each, took))
}

/// How long it takes to read everything back.
async fn replay(journal: &NatsJournal) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let mut last = Position(0);
    while let Some(entry) = journal.read(P, last, ReadLimit::REPLAY).await?.pop() {
        last = entry.position;
    }
    Ok(start.elapsed())
}

/// In milliseconds, of sorted durations.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted
        .get(sorted.len() * percent / 100)
        .map_or(0.0, |duration| duration.as_secs_f64() * 1000.0)
}
