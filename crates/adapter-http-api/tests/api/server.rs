//! The server over real sockets, against clients that keep it waiting. Where the clock is paused, it jumps to the next
//! deadline as soon as nothing else happens.

use std::time::Duration;

use eventflow_adapter_http_api::{CONNECTIONS_MAX, serve};
use eventflow_domain::Sequence;
use eventflow_ports::inbound::HistoryPage;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};

use crate::{
    streams::{history_event, silent},
    support::*,
};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
const HALF_A_HEAD: &[u8] = b"GET /healthz HTTP/1.1\r\nHo";
const HALF_A_BODY: &[u8] =
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn of(ports: Ports, connections_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let serving = tokio::spawn(serve(listener, ports.api(), connections_max, stopped));
        Self {
            address,
            stop,
            serving,
        }
    }

    async fn sent(&self, bytes: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket
    }

    /// How long it takes to end once it is told to.
    async fn stops(self) -> Duration {
        let told = Instant::now();
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        told.elapsed()
    }
}

/// Everything up to the end; a reset is an end as well.
async fn rest(mut socket: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn read(socket: &mut TcpStream, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "`{wanted}` did not come: {text}");
        text += std::str::from_utf8(&bytes[..count]).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn silence_half_a_head_and_an_idle_connection_are_closed_in_time() {
    let server = Server::of(Ports::default(), CONNECTIONS_MAX).await;
    let began = Instant::now();
    for sent in [b"", HALF_A_HEAD] {
        let text = rest(server.sent(sent).await).await;
        assert_eq!(text, "");
    }
    let text = rest(server.sent(HEALTH).await).await;
    assert!(text.contains(r#"{"status":"ok"}"#), "{text}");
    // Three times 15 seconds, on a clock that jumps.
    let took = began.elapsed();
    assert!((45..50).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_drip_do_not_keep_a_connection() {
    let server = Server::of(Ports::default(), CONNECTIONS_MAX).await;
    let mut socket = server.sent(b"GET /healthz HTTP/1.1\r\nx: ").await;
    let began = Instant::now();
    while socket.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it is still open"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_body_is_answered_408() {
    let server = Server::of(Ports::default(), CONNECTIONS_MAX).await;
    let text = rest(server.sent(HALF_A_BODY).await).await;
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert!(text.contains("did not arrive in time"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_outlives_every_deadline() {
    let server = Server::of(silent(), CONNECTIONS_MAX).await;
    let mut stream = server
        .sent(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    read(&mut stream, "event: task_started").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(5) {
        // A comment every 15 seconds.
        read(&mut stream, ":").await;
    }
    server.stops().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_nothing_of_an_endless_answer_is_dropped() {
    let mut ports = Ports::default();
    ports
        .executions
        .expect_history()
        .returning(|_, _, after, _| {
            let events = vec![history_event(after.0 + 1)];
            let next = Some(Sequence(after.0 + 1));
            now(Ok(HistoryPage { events, next }))
        });
    let server = Server::of(ports, CONNECTIONS_MAX).await;
    let request =
        b"GET /v1/executions/x/history HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n";
    let mut socket = server.sent(request).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let mut bytes = vec![0; 1 << 20];
    let mut read = 0;
    while let Ok(count @ 1..) = socket.read(&mut bytes).await {
        read += count;
        assert!(read < 64 << 20, "it goes on and on");
    }
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_whoever_is_silent_and_never_of_a_stream() {
    let server = Server::of(silent(), 3).await;
    let mut stream = server
        .sent(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    read(&mut stream, "event: task_started").await;
    let oldest = server.sent(HALF_A_HEAD).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let _half = server.sent(HALF_A_BODY).await;
    let mut newcomer = server.sent(HEALTH).await;
    read(&mut newcomer, r#"{"status":"ok"}"#).await;
    assert_eq!(rest(oldest).await, "", "the oldest was to give way");
    for _ in 0..20 {
        read(&mut server.sent(HEALTH).await, r#"{"status":"ok"}"#).await;
    }
    server.stops().await;
    let text = rest(stream).await;
    assert!(text.ends_with("0\r\n\r\n"), "the stream was cut: {text}");
}

#[tokio::test]
async fn when_everybody_is_served_a_newcomer_is_told_to_come_back() {
    let server = Server::of(silent(), 1).await;
    let mut stream = server
        .sent(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    read(&mut stream, "event: task_started").await;
    let newcomer = TcpStream::connect(server.address).await.unwrap();
    let text = rest(newcomer).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503"), "{text}");
    assert!(head.contains("retry-after: 1"), "{text}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["status"], 503);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("too many connections")
    );
    drop(stream);
    server.stops().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused_before_it_fills_the_memory() {
    let server = Server::of(Ports::default(), CONNECTIONS_MAX).await;
    let head = format!(
        "GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n",
        "y".repeat(128 * 1024)
    );
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
    for head in [head, many] {
        let text = rest(server.sent(head.as_bytes()).await).await;
        assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    }
}

#[tokio::test]
async fn bodies_on_their_way_stay_within_a_bound_of_memory() {
    let server = Server::of(Ports::default(), CONNECTIONS_MAX).await;
    let head = "POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n";
    let nearly = (head.to_owned() + &" ".repeat(1_000_000)).into_bytes();
    // 128 MiB are allowed, and of each what comes at first is not counted.
    let mut waiting = Vec::new();
    for _ in 0..160 {
        waiting.push(server.sent(&nearly).await);
    }
    let mut refused = 0;
    for mut socket in waiting {
        let mut answer = [0; 4096];
        if let Ok(Ok(count)) =
            tokio::time::timeout(Duration::from_millis(20), socket.read(&mut answer)).await
        {
            let text = String::from_utf8_lossy(&answer[..count]);
            assert!(text.starts_with("HTTP/1.1 429"), "{text}");
            assert!(text.contains("retry-after: 1"), "{text}");
            refused += 1;
        }
    }
    assert!((1..60).contains(&refused), "{refused} of 160 were refused");
    let mut newcomer = server.sent(HEALTH).await;
    read(&mut newcomer, r#"{"status":"ok"}"#).await;
    server.stops().await;
}

#[tokio::test]
async fn half_a_request_does_not_keep_the_server_from_ending() {
    let server = Server::of(Ports::default(), CONNECTIONS_MAX).await;
    let mut waiting = vec![server.sent(b"").await, server.sent(HALF_A_HEAD).await];
    let mut idle = server.sent(HEALTH).await;
    read(&mut idle, r#"{"status":"ok"}"#).await;
    waiting.push(idle);
    let took = server.stops().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    for socket in waiting {
        assert_eq!(rest(socket).await, "");
    }
}
