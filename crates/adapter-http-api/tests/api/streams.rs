//! Histories and live events over HTTP, and the server itself over real sockets.

use std::{
    future::pending,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::*;
use eventflow_adapter_http_api::{CONNECTIONS_MAX, STREAMS_MAX, WAITING_MAX, router, serve};
use eventflow_domain::{Digest, Sequence, Timestamp, execution::Status};
use eventflow_ports::{
    LifecycleEvent,
    inbound::{EventStream, HistoryEvent, HistoryPage, Refusal, Started, StreamFrom},
};
use futures::{StreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tower::ServiceExt as _;

pub(crate) fn history_event(sequence: u64) -> HistoryEvent {
    HistoryEvent {
        sequence: Sequence(sequence),
        kind: "task_completed",
        time: Timestamp(T0.0 + 1),
        data: json("{\"a\":\r\n 1}"),
        hash: Digest([1; 32]),
    }
}

/// A history of `count` events, in pages of at most 2.
fn history_of(count: u64) -> Ports {
    let mut ports = Ports::default();
    ports
        .executions
        .expect_history()
        .returning(move |_, _, after, limit| {
            let limit = limit.min(2) as u64;
            let last = count.min(after.0 + limit);
            let next = (last < count).then_some(Sequence(last));
            let events = (after.0 + 1..=last).map(history_event).collect();
            now(Ok(HistoryPage { events, next }))
        });
    ports
}

fn event(sequence: u64, kind: &'static str) -> LifecycleEvent {
    LifecycleEvent {
        id: format!("0195-{sequence}").into(),
        kind,
        tenant: tenant(),
        execution: id("order-17"),
        workflow: workflow(),
        sequence: Sequence(sequence),
        time: T0,
        correlation: None,
        causation: None,
        traceparent: None,
        data: json("{\"task\":\r\n\"/do/0\"}"),
    }
}

/// Three events, then the end.
fn live(from: &StreamFrom) -> EventStream {
    let after = match from {
        StreamFrom::Execution(_, after) => after.0,
        StreamFrom::Now => 0,
    };
    let all = [
        event(1, "workflow_execution_started"),
        event(4, "task_completed"),
        event(9, "workflow_execution_completed"),
    ];
    stream::iter(
        all.into_iter()
            .filter(move |event| event.sequence.0 > after)
            .map(Ok),
    )
    .boxed()
}

fn streams() -> Ports {
    let mut ports = Ports::default();
    ports
        .executions
        .expect_events()
        .returning(|_, from| now(Ok(live(&from))));
    ports
        .executions
        .expect_view()
        .returning(|_, _| now(Ok(view("order-17", Status::Completed))));
    ports
}

#[tokio::test]
async fn a_history_comes_in_pages() {
    let page = history_of(3)
        .ask(get("/v1/executions/order-17/history?limit=2"))
        .await
        .json();
    assert_eq!(page["events"][0]["sequence"], 1);
    assert_eq!(page["events"][1]["type"], "task_completed");
    assert_eq!(page["events"][1]["hash"], "01".repeat(32));
    assert_eq!(page["next"], 2);
    let page = history_of(3)
        .ask(get("/v1/executions/order-17/history?after=2"))
        .await
        .json();
    assert_eq!(page["events"][0]["sequence"], 3);
    assert_eq!(page["next"], serde_json::Value::Null);
}

#[tokio::test]
async fn ndjson_exports_all_of_a_history_one_event_a_line() {
    let request = get("/v1/executions/order-17/history");
    let request = with(request, "accept", "application/x-ndjson; q=1, */*;q=0.1");
    let answer = history_of(5).ask(request).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines: Vec<&str> = answer.text.lines().collect();
    assert_eq!(lines.len(), 5);
    for (line, sequence) in lines.iter().zip(1..) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["sequence"], sequence);
        assert_eq!(event["data"]["a"], 1);
    }
}

#[tokio::test]
async fn a_history_of_nothing_is_404_in_both_forms() {
    for accept in ["application/json", "application/x-ndjson"] {
        let mut ports = Ports::default();
        ports
            .executions
            .expect_history()
            .returning(|_, _, _, _| now(Err(Refusal::NotFound("no execution".into()))));
        let request = with(get("/v1/executions/x/history"), "accept", accept);
        ports.ask(request).await.is_problem(404, "no execution");
    }
}

/// The fields of each event of a stream, without comments.
fn parse(text: &str) -> Vec<(String, String, serde_json::Value)> {
    let field = |block: &str, name: &str| {
        let mut values = block.lines().filter_map(|line| line.strip_prefix(name));
        let value = values.next().unwrap_or_default().trim().to_owned();
        assert!(values.next().is_none(), "{name} stands twice in {block}");
        value
    };
    text.split("\n\n")
        .filter(|block| block.contains("data:"))
        .map(|block| {
            let data = serde_json::from_str(&field(block, "data:")).unwrap();
            (field(block, "id:"), field(block, "event:"), data)
        })
        .collect()
}

#[tokio::test]
async fn events_of_an_execution_are_cloudevents_known_by_their_sequence() {
    let answer = streams().ask(get("/v1/executions/order-17/events")).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events = parse(&answer.text);
    let told: Vec<(&str, &str)> = events
        .iter()
        .map(|(id, kind, _)| (&**id, &**kind))
        .collect();
    assert_eq!(
        told,
        [
            ("1", "workflow_execution_started"),
            ("4", "task_completed"),
            ("9", "workflow_execution_completed"),
        ]
    );
    let event = &events[1].2;
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "task_completed");
    assert_eq!(event["subject"], "order-17");
    assert_eq!(event["data"]["task"], "/do/0");
    assert_eq!(event["data"]["sequence"], 4);
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_seen() {
    let request = with(get("/v1/executions/order-17/events"), "last-event-id", "4");
    let events = parse(&streams().ask(request).await.text);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, "9");
}

#[tokio::test]
async fn a_reader_that_has_seen_everything_is_told_not_to_come_back() {
    let request = with(get("/v1/executions/order-17/events"), "last-event-id", "9");
    let answer = streams().ask(request).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
}

#[tokio::test]
async fn an_id_that_is_no_event_is_400() {
    let request = with(get("/v1/executions/order-17/events"), "last-event-id", "x");
    Ports::default()
        .ask(request)
        .await
        .is_problem(400, "Last-Event-ID");
}

#[tokio::test]
async fn events_of_the_tenant_are_known_by_their_own_id() {
    let events = parse(&streams().ask(get("/v1/events")).await.text);
    assert_eq!(events[0].0, "0195-1");
}

#[tokio::test]
async fn a_stream_that_breaks_says_why() {
    let mut ports = Ports::default();
    ports.executions.expect_events().returning(|_, _| {
        let refusal = Refusal::unavailable("the leader moved");
        let events: EventStream =
            stream::iter([Ok(event(1, "task_completed")), Err(refusal)]).boxed();
        now(Ok(events))
    });
    let events = parse(&ports.ask(get("/v1/executions/order-17/events")).await.text);
    assert_eq!(events[1].1, "error");
    assert_eq!(events[1].2["status"], 503);
    assert_eq!(events[1].0, "", "an error is no place to go on from");
}

/// A server over real sockets, until told to stop.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn of(ports: Ports) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, ports.api(), CONNECTIONS_MAX, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            serving,
        }
    }

    /// A connection that has sent this request.
    async fn asked(&self, request: &[u8]) -> Connection {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request).await.unwrap();
        Connection {
            socket,
            text: String::new(),
        }
    }

    /// The same, with a JSON body.
    async fn posted(&self, path: &str, headers: &str, body: &str) -> Connection {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        self.asked((head + body).as_bytes()).await
    }

    /// Stops it and tells how long that took.
    async fn stops(self) -> Duration {
        let asked = Instant::now();
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        asked.elapsed()
    }
}

/// A client's end of a connection.
struct Connection {
    socket: TcpStream,
    text: String,
}

impl Connection {
    /// Reads until this has arrived.
    async fn reads(&mut self, wanted: &str) {
        let reading = async {
            while !self.text.contains(wanted) {
                let mut bytes = [0; 4096];
                let count = self.socket.read(&mut bytes).await.unwrap();
                assert_ne!(count, 0, "`{wanted}` did not come: {}", self.text);
                self.text += std::str::from_utf8(&bytes[..count]).unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reading)
            .await
            .unwrap();
    }

    /// Reads until the other side closes; a reset is an end as well.
    async fn reads_to_the_end(mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.socket.read_to_end(&mut bytes).await;
        self.text + &String::from_utf8_lossy(&bytes)
    }
}

/// An event, then silence: a stream that ends only with its reader or the server.
pub(crate) fn silent() -> Ports {
    let mut ports = Ports::default();
    ports.executions.expect_events().returning(|_, _| {
        let first = stream::iter([Ok(event(1, "task_started"))]);
        let events: EventStream = first.chain(stream::pending()).boxed();
        now(Ok(events))
    });
    ports
}

#[tokio::test]
async fn events_arrive_while_the_stream_is_open_and_it_ends_with_the_server() {
    let server = Server::of(silent()).await;
    let mut stream = server
        .asked(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    stream.reads("event: task_started").await;
    let took = server.stops().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let text = stream.reads_to_the_end().await;
    assert!(
        text.ends_with("0\r\n\r\n"),
        "the stream was cut, not ended: {text}"
    );
}

/// A queue that never has anything, and says when it is asked.
fn empty_queue() -> (Ports, mpsc::UnboundedReceiver<()>) {
    let (asked, was_asked) = mpsc::unbounded_channel();
    let mut ports = Ports::default();
    ports.tasks.expect_lease().returning(move |_, _| {
        asked.send(()).unwrap();
        Box::pin(pending())
    });
    (ports, was_asked)
}

const LEASE: &str = r#"{"agent":"a","capabilities":["c"],"wait":"30s"}"#;

#[tokio::test]
async fn whoever_waits_for_tasks_is_answered_when_the_server_stops() {
    let (ports, mut was_asked) = empty_queue();
    let server = Server::of(ports).await;
    let mut waiting = server.posted("/v1/tasks/lease", "", LEASE).await;
    was_asked.recv().await.unwrap();
    assert!(server.stops().await < Duration::from_secs(3));
    waiting.reads(r#"{"tasks":[]}"#).await;
    assert!(waiting.text.starts_with("HTTP/1.1 200"), "{}", waiting.text);
}

#[tokio::test]
async fn whoever_waits_for_an_end_is_answered_when_the_server_stops() {
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let mut ports = Ports::default();
    ports.executions.expect_start().returning(|_| {
        now(Ok(Started {
            execution: id("order-17"),
            repeated: false,
            view: view("order-17", Status::Running),
        }))
    });
    ports.executions.expect_wait().returning(move |_, _, _| {
        asked.send(()).unwrap();
        Box::pin(pending())
    });
    let server = Server::of(ports).await;
    let body = r#"{"workflow":{"name":"order"}}"#;
    let mut waiting = server
        .posted("/v1/executions", "Prefer: wait=30\r\n", body)
        .await;
    was_asked.recv().await.unwrap();
    assert!(server.stops().await < Duration::from_secs(3));
    waiting.reads(r#""status":"running""#).await;
    assert!(waiting.text.starts_with("HTTP/1.1 202"), "{}", waiting.text);
}

#[tokio::test]
async fn places_to_wait_have_a_bound_and_are_given_back() {
    let (ports, mut was_asked) = empty_queue();
    let app = router(ports.api());
    let lease = || app.clone().oneshot(post("/v1/tasks/lease", LEASE));
    let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| tokio::spawn(lease())).collect();
    for _ in 0..WAITING_MAX {
        was_asked.recv().await.unwrap();
    }
    let refused = lease().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    let gone = waiting.pop().unwrap();
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let again = tokio::spawn(lease());
    was_asked.recv().await.unwrap();
    again.abort();
    waiting.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_sender_of_too_much_reads_the_refusal() {
    let server = Server::of(Ports::default()).await;
    let body = " ".repeat(3 * 1024 * 1024);
    let mut sender = server.posted("/v1/executions", "", &body).await;
    sender.reads("at most 1048576 bytes").await;
    assert!(sender.text.starts_with("HTTP/1.1 413"), "{}", sender.text);
    server.stops().await;
}

#[tokio::test]
async fn bytes_that_are_no_request_break_nothing() {
    let server = Server::of(Ports::default()).await;
    for bytes in [
        &b"\x00\x01\x02\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/tasks/lease HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
    ] {
        let mut sender = server.asked(bytes).await;
        sender.socket.shutdown().await.unwrap();
        let answer = sender.reads_to_the_end().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut health = server
        .asked(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    health.reads(r#"{"status":"ok"}"#).await;
    server.stops().await;
}

#[tokio::test]
async fn streams_have_a_bound_and_are_given_back() {
    let app = router(silent().api());
    let open = || app.clone().oneshot(get("/v1/events"));
    let mut streams = Vec::with_capacity(STREAMS_MAX);
    for _ in 0..STREAMS_MAX {
        let response = open().await.unwrap();
        assert_eq!(response.status(), 200);
        streams.push(response);
    }
    let refused = open().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    streams.pop();
    assert_eq!(open().await.unwrap().status(), 200);
}
