//! The configuration in docs/nats.md: what each of its users can do, and what none but its owner can.

use std::{path::Path, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event,
    jetstream::{
        self,
        consumer::{AckPolicy, PullConsumer, pull},
        stream::{Config, RetentionPolicy},
    },
};
use eventflow_adapter_nats::{NatsConfig, NatsInbound};
use eventflow_domain::{NodeName, Timestamp};
use eventflow_nats_server::NatsServer;
use eventflow_ports::inbound::{MockTasks, ResultOutcome};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::node::{Mocks, SOON, at_once, starting};

/// The one configuration of the page, as it stands there.
fn configuration() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/nats.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let (_, rest) = page
        .split_once("```conf\n")
        .expect("it has a configuration");
    let (text, rest) = rest.split_once("\n```").expect("it ends");
    assert!(!rest.contains("```conf"), "which one?");
    text.to_owned()
}

/// Somebody who is connected as one of its users.
struct User {
    nats: Client,
    refused: mpsc::UnboundedReceiver<String>,
}

impl User {
    async fn connect(server: &NatsServer, name: &str) -> Self {
        let (told, refused) = mpsc::unbounded_channel();
        let nats =
            ConnectOptions::with_user_and_password(name.to_owned(), format!("change-{name}"))
                .custom_inbox_prefix(format!("_INBOX_{name}"))
                .request_timeout(Some(SOON))
                .event_callback(move |event| {
                    let told = told.clone();
                    async move {
                        if let Event::ServerError(error) = event {
                            let _ = told.send(error.to_string().to_lowercase());
                        }
                    }
                })
                .connect(server.url())
                .await
                .expect("connected");
        Self { nats, refused }
    }

    async fn ask(&self, subject: &str, body: &Value) -> Value {
        let answer = self
            .nats
            .request(subject.to_owned(), body.to_string().into());
        let answer = answer.await.expect("answered");
        serde_json::from_slice(&answer.payload).expect("JSON")
    }

    /// The server refuses to take this from here, by name.
    async fn cannot_publish(&mut self, subject: &str) {
        let sent = self.nats.publish(subject.to_owned(), "{}".into());
        sent.await.expect("handed over");
        self.is_refused("publish", subject).await;
    }

    async fn cannot_subscribe(&mut self, subject: &str) {
        let listening = self.nats.subscribe(subject.to_owned());
        let _listening = listening.await.expect("handed over");
        self.is_refused("subscription", subject).await;
    }

    async fn is_refused(&mut self, what: &str, subject: &str) {
        let refusal = tokio::time::timeout(SOON, self.refused.recv()).await;
        let refusal = refusal.expect("it is refused").expect("connected");
        let (what, subject) = (
            format!("permissions violation for {what}"),
            subject.to_lowercase(),
        );
        assert!(
            refusal.contains(&what) && refusal.contains(&subject),
            "{refusal}"
        );
    }
}

fn tasks() -> MockTasks {
    let mut tasks = MockTasks::new();
    tasks
        .expect_begin()
        .returning(|_, begins| at_once(begins.iter().map(|_| Ok(Timestamp(60_000))).collect()));
    tasks
        .expect_results()
        .returning(|_, results| at_once(results.iter().map(|_| ResultOutcome::Accepted).collect()));
    tasks
}

/// The work queue as the service makes it, with one task in it.
async fn queue(service: &Client) -> jetstream::stream::Stream {
    let jetstream = jetstream::new(service.clone());
    let queue = Config {
        name: "EVENTFLOW_TASKS".to_owned(),
        subjects: vec!["eventflow.tasks.>".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        ..Config::default()
    };
    let queue = jetstream.create_stream(queue).await.expect("created");
    for capability in ["charge", "ship"] {
        let consumer = pull::Config {
            durable_name: Some(format!("default-{capability}")),
            filter_subject: format!("eventflow.tasks.default.{capability}"),
            ack_policy: AckPolicy::Explicit,
            ..pull::Config::default()
        };
        queue.create_consumer(consumer).await.expect("created");
        let subject = format!("eventflow.tasks.default.{capability}");
        let body = json!({"token": "t"}).to_string();
        let sent = jetstream.publish(subject, body.into()).await.expect("sent");
        sent.await.expect("stored");
    }
    queue
}

#[tokio::test]
async fn the_pages_users_can_do_their_work_and_nothing_else() {
    let server = NatsServer::configured(&configuration());
    let service = User::connect(&server, "service").await;
    let mut queue = queue(&service.nats).await;
    let (executions, starts) = starting();
    let mocks = Mocks {
        executions,
        tasks: tasks(),
        ..Mocks::default()
    };
    let config = NatsConfig {
        node: NodeName::parse("node-1").ok(),
        ..NatsConfig::default()
    };
    let inbound = NatsInbound::open(&service.nats, &config).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = inbound.expect("opened").serve(mocks.into_ports(), async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(serving);

    an_agent(&server).await;
    let info = queue.info().await.expect("told");
    assert_eq!(
        info.state.messages, 1,
        "its task is done, the other's is there"
    );
    an_operator(&server, &service).await;
    the_platform(&server).await;
    assert_eq!(starts.until(2).await.len(), 2);

    let _ = stop.send(());
    serving.await.expect("it does not panic");
}

async fn an_agent(server: &NatsServer) {
    let mut agent = User::connect(server, "charge").await;
    let jetstream = jetstream::new(agent.nats.clone());
    let found = jetstream.get_consumer_from_stream("default-charge", "EVENTFLOW_TASKS");
    let consumer: PullConsumer = found.await.expect("the consumer is seen");
    let pulled = consumer.fetch().max_messages(1).messages().await;
    let message = pulled
        .expect("pulled")
        .next()
        .await
        .expect("a task")
        .expect("sound");
    // Somebody else may have to listen first.
    let question = json!({"token": "t", "begin": {"agent": "charge"}});
    let asking = async {
        loop {
            let asked = agent
                .nats
                .request("eventflow.results.default", question.to_string().into());
            match asked.await {
                Ok(answer) => return serde_json::from_slice::<Value>(&answer.payload),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let begun = tokio::time::timeout(SOON, asking).await.expect("answered");
    assert_eq!(begun.expect("JSON")["granted"], true);
    let complete = json!({"token": "t", "complete": {"output": 1}});
    let told = agent.ask("eventflow.results.default", &complete).await;
    assert_eq!(told, json!({"status": 200}));
    let told = agent
        .ask("eventflow.results.default.node-1", &complete)
        .await;
    assert_eq!(told, json!({"status": 200}));
    message.double_ack().await.expect("acknowledged");

    for subject in [
        "eventflow.start.default",
        "eventflow.control.default.e1.stop",
        "eventflow.commands.default.start",
        "execution.commands",
        "eventflow.results.other",
        "eventflow.results.other.node-1",
        "eventflow.tasks.default.charge",
        "eventflow.journal.0",
        "eventflow.partition.0",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTFLOW_TASKS.default-ship",
        "$JS.API.STREAM.PURGE.EVENTFLOW_TASKS",
        "$JS.API.DIRECT.GET.KV_EVENTFLOW_KEYS",
        "$KV.EVENTFLOW_LEASES.partition.0",
    ] {
        agent.cannot_publish(subject).await;
    }
    for subject in [
        "eventflow.events.>",
        "execution.status",
        "_INBOX.>",
        "_INBOX_operator.>",
    ] {
        agent.cannot_subscribe(subject).await;
    }
}

async fn an_operator(server: &NatsServer, service: &User) {
    let mut operator = User::connect(server, "operator").await;
    let start = json!({"workflow": {"name": "order"}, "executionId": "e1"});
    let told = operator.ask("eventflow.start.default", &start).await;
    assert_eq!(told["executionId"], "e1");
    let mut events = operator
        .nats
        .subscribe("eventflow.events.default.>")
        .await
        .expect("listening");
    let subject = "eventflow.events.default.order.task_started";
    // Until the subscription has arrived, nothing comes.
    let publishing = async {
        loop {
            let sent = service.nats.publish(subject, "{}".into());
            sent.await.expect("published");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let heard = tokio::select! {
        heard = tokio::time::timeout(SOON, events.next()) => heard,
        () = publishing => unreachable!("it goes on for ever"),
    };
    assert_eq!(
        heard.expect("heard").expect("a message").subject.as_str(),
        subject
    );

    for subject in [
        "eventflow.start.other",
        "eventflow.results.default",
        "execution.commands",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTFLOW_TASKS.default-ship",
        "$JS.API.STREAM.DELETE.EVENTFLOW_JOURNAL_0",
    ] {
        operator.cannot_publish(subject).await;
    }
    for subject in ["eventflow.events.>", "eventflow.tasks.>", "_INBOX_charge.>"] {
        operator.cannot_subscribe(subject).await;
    }
}

async fn the_platform(server: &NatsServer) {
    let mut platform = User::connect(server, "platform").await;
    let start = json!({"eventType": "START", "flowId": "flow1", "runId": "run1"});
    let jetstream = jetstream::new(platform.nats.clone());
    let sent = jetstream.publish("execution.commands", start.to_string().into());
    sent.await.expect("sent").await.expect("stored");
    platform.cannot_publish("eventflow.start.default").await;
    platform.cannot_subscribe("eventflow.tasks.>").await;
}
