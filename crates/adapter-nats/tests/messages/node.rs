//! A node that listens, over mocks of the inbound ports, and a plain client beside it.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{Client, HeaderMap, Message, jetstream};
use eventflow_adapter_nats::{InboundPorts, NatsConfig, NatsInbound};
use eventflow_domain::{
    Digest, ExecutionId, Json, NodeName, Sequence, Tenant, Timestamp, WorkflowId, execution::Status,
};
use eventflow_ports::{
    MockClock,
    inbound::{
        ExecutionView, MockCalls, MockControls, MockEvents, MockExecutions, MockTasks, Progress,
        Refusal, StartExecution, Started,
    },
};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::support::Servers;

/// Whatever is to happen happens within this; a machine that builds beside the tests is slow.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The ports of a node, each a mock that expects nothing until it is told to.
pub(crate) struct Mocks {
    pub(crate) executions: MockExecutions,
    pub(crate) controls: MockControls,
    pub(crate) tasks: MockTasks,
    pub(crate) events: MockEvents,
    pub(crate) calls: MockCalls,
    /// How much later it is than the messages' own time.
    pub(crate) late_by: Duration,
}

impl Default for Mocks {
    fn default() -> Self {
        Self {
            executions: MockExecutions::new(),
            controls: MockControls::new(),
            tasks: MockTasks::new(),
            events: MockEvents::new(),
            calls: MockCalls::new(),
            late_by: Duration::ZERO,
        }
    }
}

impl Mocks {
    pub(crate) fn into_ports(self) -> InboundPorts {
        let mut clock = MockClock::new();
        let late_by = self.late_by;
        clock.expect_now().returning(move || {
            let now = std::time::SystemTime::now() + late_by;
            let since = now
                .duration_since(std::time::UNIX_EPOCH)
                .expect("after 1970");
            Timestamp(i64::try_from(since.as_millis()).expect("it fits"))
        });
        InboundPorts {
            executions: Arc::new(self.executions),
            controls: Arc::new(self.controls),
            tasks: Arc::new(self.tasks),
            events: Arc::new(self.events),
            calls: Arc::new(self.calls),
            clock: Arc::new(clock),
        }
    }
}

/// A running node.
pub(crate) struct Node {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Node {
    /// Listens on the servers once this returns.
    pub(crate) async fn start(servers: &Servers, mocks: Mocks) -> Self {
        let client = servers.connect().await;
        let config = NatsConfig {
            replicas: servers.replicas(),
            node: NodeName::parse("node-1").ok(),
            ..NatsConfig::default()
        };
        let inbound = NatsInbound::open(&client, &config).await.expect("opened");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(inbound.serve(mocks.into_ports(), async {
            let _ = stopped.await;
        }));
        Self { stop, serving }
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(SOON, self.serving)
            .await
            .expect("it stops in time")
            .expect("it does not panic");
    }
}

/// Somebody with a NATS client.
pub(crate) struct Somebody {
    pub(crate) nats: Client,
    pub(crate) jetstream: jetstream::Context,
}

impl Somebody {
    pub(crate) async fn connect(servers: &Servers) -> Self {
        let nats = servers.connect().await;
        let jetstream = jetstream::new(nats.clone());
        Self { nats, jetstream }
    }

    /// Asks until somebody listens.
    pub(crate) async fn ask(&self, subject: &str, headers: &[(&str, &str)], body: &str) -> Message {
        let asked = async {
            loop {
                let headers = header_map(headers);
                let answer = self.nats.request_with_headers(
                    subject.to_owned(),
                    headers,
                    body.to_owned().into(),
                );
                match answer.await {
                    Ok(answer) => return answer,
                    Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) => panic!("{subject}: {error}"),
                }
            }
        };
        let answer = tokio::time::timeout(SOON, asked).await;
        answer.expect("somebody answers")
    }

    /// The answer as JSON.
    pub(crate) async fn told(&self, subject: &str, body: &str) -> Value {
        let answer = self.ask(subject, &[], body).await;
        serde_json::from_slice(&answer.payload).expect("JSON")
    }

    /// Publishes a durable message; it is stored when this returns.
    pub(crate) async fn publish(&self, subject: &str, headers: &[(&str, &str)], body: &str) {
        let sent = self.jetstream.publish_with_headers(
            subject.to_owned(),
            header_map(headers),
            body.to_owned().into(),
        );
        sent.await.expect("sent").await.expect("stored");
    }

    /// Waits until every command is carried out or set aside.
    pub(crate) async fn until_all_is_done(&self) {
        let mut stream = self
            .jetstream
            .get_stream("EVENTFLOW_COMMANDS")
            .await
            .expect("the stream is there");
        let done = async {
            while stream.info().await.expect("told").state.messages > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, done).await.expect("all is done");
    }

    /// Everything in a stream: subject, headers and body of each message.
    pub(crate) async fn stored(&self, stream: &str) -> Vec<(String, HeaderMap, Value)> {
        let mut stream = self
            .jetstream
            .get_stream(stream)
            .await
            .expect("it is there");
        let state = stream.info().await.expect("told").state.clone();
        let mut stored = Vec::new();
        // A stream that never had a message begins at 0.
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.expect("it is there");
            let body = serde_json::from_slice(&message.payload).expect("JSON");
            stored.push((message.subject.to_string(), message.headers, body));
        }
        stored
    }
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    map
}

/// What a port was asked, in order.
#[derive(Clone)]
pub(crate) struct Heard<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Heard<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Heard<T> {
    pub(crate) fn note(&self, heard: T) {
        self.0.lock().expect("not poisoned").push(heard);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().expect("not poisoned").clone()
    }

    /// Waits for so many.
    pub(crate) async fn until(&self, count: usize) -> Vec<T> {
        let enough = async {
            while self.all().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, enough).await.expect("heard");
        self.all()
    }
}

/// Executions that start whatever they are asked to.
pub(crate) fn starting() -> (MockExecutions, Heard<StartExecution>) {
    let heard = Heard::default();
    let noted = heard.clone();
    let mut executions = MockExecutions::new();
    executions.expect_start().returning(move |start| {
        noted.note(start.clone());
        at_once(Ok(started(&start)))
    });
    (executions, heard)
}

/// A port's answer that is there at once.
pub(crate) fn at_once<T: Send + 'static>(answer: T) -> Pin<Box<dyn Future<Output = T> + Send>> {
    Box::pin(std::future::ready(answer))
}

/// What a header says.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name);
    value.unwrap_or_else(|| panic!("no header {name}")).as_str()
}

pub(crate) fn started(start: &StartExecution) -> Started {
    let id = start.execution.clone();
    let execution = id.unwrap_or_else(|| ExecutionId::parse("made-up").expect("a name"));
    Started {
        view: view(&execution),
        execution,
        repeated: false,
    }
}

pub(crate) fn view(execution: &ExecutionId) -> ExecutionView {
    ExecutionView {
        execution: execution.clone(),
        tenant: tenant("acme"),
        workflow: WorkflowId {
            namespace: "default".into(),
            name: "order".into(),
            version: "1.0.0".into(),
        },
        digest: Digest([7; 32]),
        correlation: None,
        labels: BTreeMap::new(),
        status: Status::Running,
        input: Json::null(),
        output: None,
        error: None,
        created_at: Timestamp(0),
        started_at: None,
        ended_at: None,
        estimated_completion: None,
        progress: Progress::default(),
        tasks: Vec::new(),
        sequence: Sequence(1),
    }
}

pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("a name")
}

/// Every refusal, and its status outside.
pub(crate) fn refusals() -> Vec<(Refusal, u16)> {
    vec![
        (Refusal::malformed("no"), 400),
        (Refusal::NotFound("no".into()), 404),
        (Refusal::Contradiction("no".into()), 409),
        (
            Refusal::TooLarge {
                what: "an input",
                limit: 1,
            },
            413,
        ),
        (eventflow_wire::v1::invalid(Vec::new()), 422),
        (
            Refusal::Busy {
                detail: "no".into(),
                retry_after: Duration::from_secs(2),
            },
            429,
        ),
        (Refusal::unavailable("no"), 503),
    ]
}

/// The next message of a subscription.
pub(crate) async fn next(subscriber: &mut async_nats::Subscriber) -> Message {
    let message = tokio::time::timeout(SOON, subscriber.next()).await;
    message.expect("in time").expect("it has not ended")
}
