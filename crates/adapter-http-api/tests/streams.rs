//! Histories and live events over HTTP, and the server itself over real sockets.

#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]

mod support;

use std::{
    future::pending,
    net::SocketAddr,
    time::{Duration, Instant},
};

use eventflow_adapter_http_api::serve;
use eventflow_domain::{Digest, Sequence, Timestamp, execution::Status};
use eventflow_ports::{
    LifecycleEvent,
    inbound::{EventStream, HistoryEvent, HistoryPage, Refusal, StreamFrom},
};
use futures::{StreamExt as _, stream};
use support::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

fn history_event(sequence: u64) -> HistoryEvent {
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
    ports.executions.expect_history().returning(move |_, _, after, limit| {
        let limit = limit.min(2) as u64;
        let last = count.min(after.0 + limit);
        let next = (last < count).then_some(Sequence(last));
        let events = (after.0 + 1..=last).map(history_event).collect();
        Ok(HistoryPage { events, next })
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
    stream::iter(all.into_iter().filter(move |event| event.sequence.0 > after).map(Ok)).boxed()
}

fn streams() -> Ports {
    let mut ports = Ports::default();
    ports
        .executions
        .expect_events()
        .returning(|_, from| Ok(live(&from)));
    ports
        .executions
        .expect_view()
        .returning(|_, _| Ok(view("order-17", Status::Completed)));
    ports
}

#[tokio::test]
async fn a_history_comes_in_pages() {
    let page = history_of(3).ask(get("/v1/executions/order-17/history?limit=2")).await.json();
    assert_eq!(page["events"][0]["sequence"], 1);
    assert_eq!(page["events"][1]["type"], "task_completed");
    assert_eq!(page["events"][1]["hash"], "01".repeat(32));
    assert_eq!(page["next"], 2);
    let page = history_of(3).ask(get("/v1/executions/order-17/history?after=2")).await.json();
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
            .returning(|_, _, _, _| Err(Refusal::NotFound("no execution".into())));
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
    let told: Vec<(&str, &str)> = events.iter().map(|(id, kind, _)| (&**id, &**kind)).collect();
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
    Ports::default().ask(request).await.is_problem(400, "Last-Event-ID");
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
        Ok(stream::iter([Ok(event(1, "task_completed")), Err(refusal)]).boxed())
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
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn of(ports: Ports) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, ports.api(), async {
            let _ = stopped.await;
        }));
        Self { address, stop, serving }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops it and tells how long that took.
    async fn stops(self) -> Duration {
        let asked = Instant::now();
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
        asked.elapsed()
    }
}

/// An event, then silence: a stream that ends only with its reader or the server.
fn silent() -> Ports {
    let mut ports = Ports::default();
    ports.executions.expect_events().returning(|_, _| {
        let first = stream::iter([Ok(event(1, "task_started"))]);
        Ok(first.chain(stream::pending()).boxed())
    });
    ports
}

#[tokio::test]
async fn events_arrive_while_the_stream_is_open_and_it_ends_with_the_server() {
    let server = Server::of(silent()).await;
    let response = reqwest::get(server.url("/v1/events")).await.unwrap();
    let mut chunks = response.bytes_stream();
    let first = chunks.next().await.unwrap().unwrap();
    assert_eq!(parse(std::str::from_utf8(&first).unwrap())[0].1, "task_started");
    let took = server.stops().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(chunks.next().await.is_none());
}

#[tokio::test]
async fn whoever_waits_for_tasks_is_answered_when_the_server_stops() {
    let (asked, was_asked) = oneshot::channel();
    let asked = std::sync::Mutex::new(Some(asked));
    let mut ports = Ports::default();
    ports.tasks.expect_lease().returning(move |_, _| {
        if let Some(asked) = asked.lock().unwrap().take() {
            asked.send(()).unwrap();
        }
        Ok(Vec::new())
    });
    // The mock answers at once; one that waits is made of a stream's port below.
    let server = Server::of(ports).await;
    let body = r#"{"agent":"a","capabilities":["c"],"wait":"30s"}"#;
    let request = reqwest::Client::new().post(server.url("/v1/tasks/lease"));
    let response = request.header("content-type", "application/json").body(body).send();
    assert_eq!(response.await.unwrap().text().await.unwrap(), r#"{"tasks":[]}"#);
    was_asked.await.unwrap();
    assert!(server.stops().await < Duration::from_secs(3));
}

#[tokio::test]
async fn a_sender_of_too_much_reads_the_refusal() {
    let server = Server::of(Ports::default()).await;
    let request = reqwest::Client::new().post(server.url("/v1/executions"));
    let body = vec![b' '; 3 * 1024 * 1024];
    let response = request.header("content-type", "application/json").body(body).send().await;
    let response = response.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
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
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer as well.
        let _ = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let health = reqwest::get(server.url("/healthz")).await.unwrap();
    assert_eq!(health.status(), 200);
    server.stops().await;
}

#[tokio::test]
async fn streams_have_a_bound() {
    let server = Server::of(silent()).await;
    let client = reqwest::Client::new();
    let mut open = Vec::new();
    for _ in 0..eventflow_adapter_http_api::STREAMS_MAX {
        let response = client.get(server.url("/v1/events")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    let refused = client.get(server.url("/v1/events")).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    open.pop();
    let again = async {
        loop {
            let response = client.get(server.url("/v1/events")).send().await.unwrap();
            if response.status() == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.unwrap();
    drop(open);
    server.stops().await;
    let () = tokio::select! { () = pending() => {}, () = async {} => {} };
}
