//! How fast packed records are appended, for each way of keeping the journal: `cargo run --release --example
//! journal_bench -p eventflow-adapter-nats [seconds per line]`.

use std::{
    collections::VecDeque,
    env,
    error::Error,
    time::{Duration, Instant},
};

use bytes::Bytes;
use eventflow_adapter_nats::{JournalConfig, NatsJournal};
use eventflow_domain::{PartitionId, Position};
use eventflow_nats_server::{NatsCluster, NatsServer, Options};
use eventflow_ports::Journal;

const P: PartitionId = PartitionId(0);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = env::args()
        .nth(1)
        .map_or(Ok(3), |seconds| seconds.parse())?;
    let of = Duration::from_secs(seconds);
    println!("store      record  in flight  records/s   MB/s  p50 ms  p99 ms");
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
    for kib in [8, 64] {
        for in_flight in [1, 4] {
            let config = JournalConfig {
                prefix: format!("bench-{kib}-{in_flight}"),
                partitions: 1,
                replicas,
                ..JournalConfig::default()
            };
            let journal = NatsJournal::open(&client, config).await?;
            let (each, took) = appends(&journal, kib * 1024, in_flight, of).await?;
            let per_second = each.len() as f64 / took.as_secs_f64();
            println!(
                "{store:9} {kib:3} KiB {in_flight:10} {per_second:10.0} {:6.1} {:7.2} {:7.2}",
                per_second * kib as f64 / 1024.0,
                quantile(&each, 0.50),
                quantile(&each, 0.99),
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

/// In milliseconds, of sorted durations.
fn quantile(sorted: &[Duration], quantile: f64) -> f64 {
    let index = (sorted.len() as f64 * quantile) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .map_or(0.0, |duration| duration.as_secs_f64() * 1000.0)
}
