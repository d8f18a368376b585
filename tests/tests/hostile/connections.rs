//! Ten thousand clients that connect and never say what they want, or say it a byte at a time.

use std::time::{Duration, Instant};

use anyhow::ensure;
use eventflow_tests::{Client, Service, service::STOP_MAX};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{PATIENCE, control::Control};

/// Half-open connections; as many as the service has places for.
const HALF_OPEN: usize = 10_000;
/// Tasks that open them.
const CONNECTING: usize = 10;
/// How long clients come one after the other when the house is full.
const NEWCOMERS_FOR: Duration = Duration::from_secs(2);
/// Of the service while all of them are open: some kilobytes for each, in a debug build.
const RSS_MIB_MAX: u64 = 400;
/// Half-open connections while the service is told to end.
const AT_THE_END: usize = 1_000;
/// A client that does not know what it wants.
const BEGINNINGS: [&[u8]; 4] = [
    b"",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: app",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
];

/// As many files as the system allows: each connection is one here as well.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("a process may raise its limit to the maximum");
}

async fn half_open(service: &Service, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut connecting = JoinSet::new();
    for part in 0..CONNECTING {
        let address = service.url.trim_start_matches("http://").to_owned();
        connecting.spawn(async move {
            let mut sockets = Vec::with_capacity(count / CONNECTING);
            for number in part * count / CONNECTING..(part + 1) * count / CONNECTING {
                let mut socket = TcpStream::connect(&address).await?;
                socket
                    .write_all(BEGINNINGS[number % BEGINNINGS.len()])
                    .await?;
                sockets.push(socket);
            }
            Ok(sockets)
        });
    }
    let parts: anyhow::Result<Vec<_>> = connecting.join_all().await.into_iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}

/// Somebody new asks, on a connection of his own, and is answered.
async fn newcomer(service: &Service) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut socket = TcpStream::connect(service.url.trim_start_matches("http://")).await?;
    socket
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(began.elapsed())
}

/// A byte each second to each of them, until the service has closed it. Those that send nothing stay silent.
fn drip(sockets: Vec<TcpStream>) -> JoinSet<()> {
    let mut dripping = JoinSet::new();
    let mut sockets: Vec<_> = sockets.into_iter().map(Some).collect();
    dripping.spawn(async move {
        loop {
            for (number, place) in sockets.iter_mut().enumerate() {
                let Some(socket) = place else { continue };
                if !number.is_multiple_of(BEGINNINGS.len()) && socket.try_write(b"x").is_err() {
                    *place = None;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    dripping
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_half_open_connections_keep_nobody_out() -> anyhow::Result<()> {
    raise_open_files();
    let directory = tempfile::tempdir()?;
    let service = Service::start(directory.path(), &[]);
    let control = Control::begin(&service).await?;
    let client = Client::new(&service.url, PATIENCE)?;
    // What is not idle in the bad sense: a stream, and a lease that waits.
    let mut events = client.events("open", None).await?;
    events.next().await?;
    let lease = json!({"agent": "a", "capabilities": ["nothing"], "wait": "5s"});
    let waiting = client
        .request(Method::POST, "/v1/tasks/lease")
        .json(&lease)
        .send();
    let waiting = tokio::spawn(waiting);

    let before = service.rss_mib();
    let connecting = Instant::now();
    let sockets = half_open(&service, HALF_OPEN).await?;
    println!("{HALF_OPEN} connections after {:.1?}", connecting.elapsed());
    let rss = service.rss_mib();
    println!(
        "{before} MiB before, {rss} MiB with them, {} files open",
        service.open_files()
    );
    ensure!(rss < RSS_MIB_MAX, "it uses {rss} MiB");

    // Each of these comes on a connection of its own, into a full house.
    let dripping = drip(sockets);
    let newcomers = async {
        let began = Instant::now();
        let (mut count, mut longest) = (0, Duration::ZERO);
        while began.elapsed() < NEWCOMERS_FOR {
            longest = longest.max(newcomer(&service).await?);
            count += 1;
        }
        println!("{count} newcomers were answered, each within {longest:.1?}");
        ensure!(
            longest < Duration::from_secs(5),
            "a newcomer waited {longest:?}"
        );
        Ok(())
    };
    control.beside(newcomers).await?;
    // The next wave finds the places of the first.
    drop(half_open(&service, HALF_OPEN / 2).await?);
    newcomer(&service).await?;
    drop(dripping);

    let leased: Value = waiting.await??.json().await?;
    ensure!(leased["tasks"] == json!([]), "{leased}");
    control.end().await?;
    let rest = events.rest().await?;
    let last = rest.last().map(|event| event.kind.as_str());
    ensure!(last == Some("workflow_execution_completed"), "{last:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_waits_for_no_half_request() -> anyhow::Result<()> {
    raise_open_files();
    let directory = tempfile::tempdir()?;
    let mut service = Service::start(directory.path(), &[]);
    let control = Control::begin(&service).await?;
    let client = Client::new(&service.url, PATIENCE)?;
    let mut events = client.events("open", None).await?;
    events.next().await?;
    let lease = json!({"agent": "a", "capabilities": ["nothing"], "wait": "50s"});
    let waiting = client
        .request(Method::POST, "/v1/tasks/lease")
        .json(&lease)
        .send();
    let waiting = tokio::spawn(waiting);
    let dripping = drip(half_open(&service, AT_THE_END).await?);

    let told = Instant::now();
    let ending = tokio::task::spawn_blocking(move || (service.terminate(), service));
    let leased: Value = waiting.await??.json().await?;
    events.rest().await?;
    let answered = told.elapsed();
    let (code, mut service) = ending.await?;
    let ended = told.elapsed();
    println!("whoever waited was answered after {answered:.1?}, it ended after {ended:.1?}");
    ensure!(leased["tasks"] == json!([]), "{leased}");
    ensure!(
        answered < Duration::from_secs(2),
        "waiters were kept for {answered:?}"
    );
    ensure!(
        code == Some(0),
        "it ended with {code:?}, not within {STOP_MAX:?}"
    );
    ensure!(
        ended < STOP_MAX / 2,
        "half requests were waited for: {ended:?}"
    );
    drop(dripping);
    service.restart();
    control.end().await
}
