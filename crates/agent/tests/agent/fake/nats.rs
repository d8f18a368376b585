//! The fake's NATS face: a real server with the queues that the engine makes, and who answers what agents say.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self,
        consumer::{AckPolicy, PullConsumer, pull},
        stream::{self, RetentionPolicy, Stream},
    },
};
use bytes::Bytes;
use eventflow_nats_server::NatsServer;
use eventflow_wire::v1::tasks::{
    DurableAnswer, LeasedTask, NODE_HEADER, ResultItem, ResultsAnswer, ResultsBody,
};
use futures::StreamExt;
use serde::Serialize;

use super::{Fake, problem};

/// A message that is not acknowledged comes again after this: shorter than the engine has it, so that tests see it.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(2);

/// The server and the engine's side of it.
pub(crate) struct Side {
    server: Mutex<NatsServer>,
    client: Client,
    /// The subjects of all that agents have said, in order.
    told_on: Mutex<Vec<String>>,
}

impl Side {
    /// A stream, and one queue, `work`.
    pub(super) async fn on(server: NatsServer) -> Self {
        let client = async_nats::connect(server.url()).await.unwrap();
        let config = stream::Config {
            name: "EVENTFLOW_TASKS".into(),
            subjects: vec!["eventflow.tasks.>".into()],
            retention: RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        };
        let created = jetstream::new(client.clone()).create_stream(config).await;
        created.unwrap();
        let side = Self {
            server: Mutex::new(server),
            client,
            told_on: Mutex::default(),
        };
        side.queue("work").await;
        side
    }

    /// Makes the queue of a capability.
    pub(crate) async fn queue(&self, capability: &str) {
        self.queue_of("default", capability).await;
    }

    /// Makes the queue of a tenant, of whom nobody answers what agents say unless it is `default`.
    pub(crate) async fn queue_of(&self, tenant: &str, capability: &str) {
        let config = pull::Config {
            durable_name: Some(format!("{tenant}-{capability}")),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            filter_subject: format!("eventflow.tasks.{tenant}.{capability}"),
            ..pull::Config::default()
        };
        self.stream().await.create_consumer(config).await.unwrap();
    }

    pub(crate) fn url(&self) -> String {
        self.server().url()
    }

    /// To kill it and start it again.
    pub(crate) fn server(&self) -> MutexGuard<'_, NatsServer> {
        self.server.lock().unwrap()
    }

    /// How many messages are in a queue or with an agent that has not acknowledged them.
    pub(crate) async fn queued(&self) -> u64 {
        self.stream().await.get_info().await.unwrap().state.messages
    }

    /// How many messages agents hold without having acknowledged them.
    pub(crate) async fn unacknowledged(&self, queue: &str) -> usize {
        let stream = self.stream().await;
        let info = stream.consumer_info(queue).await.unwrap();
        info.num_ack_pending
    }

    /// How many messages of so many a queue gives at once, to whoever asks next.
    pub(crate) async fn at_hand(&self, queue: &str, max: usize) -> usize {
        let consumer: PullConsumer = self.stream().await.get_consumer(queue).await.unwrap();
        let batch = consumer.fetch().max_messages(max).messages().await.unwrap();
        batch.count().await
    }

    /// What has no JSON of a task in it.
    pub(crate) async fn publish_nonsense(&self) {
        self.send("default", "work", None, "{".into()).await;
    }

    pub(crate) async fn publish(&self, tenant: &str, tasks: impl Iterator<Item = LeasedTask>) {
        self.publish_by(None, tenant, tasks).await;
    }

    /// Given out by a node that says its name.
    pub(crate) async fn publish_by(
        &self,
        node: Option<&str>,
        tenant: &str,
        tasks: impl Iterator<Item = LeasedTask>,
    ) {
        for task in tasks {
            let mut body = serde_json::to_value(&task).unwrap();
            // The lease begins with the task.
            body.as_object_mut().unwrap().remove("deadline");
            let capability = task.capability.as_str();
            let body = body.to_string().into();
            self.send(tenant, capability, node, body).await;
        }
    }

    async fn send(&self, tenant: &str, capability: &str, node: Option<&str>, body: Bytes) {
        let jetstream = jetstream::new(self.client.clone());
        let subject = format!("eventflow.tasks.{tenant}.{capability}");
        let mut headers = HeaderMap::new();
        if let Some(node) = node {
            headers.insert(NODE_HEADER, node);
        }
        let sent = jetstream.publish_with_headers(subject, headers, body);
        let sent = sent.await.unwrap();
        sent.await.unwrap();
    }

    async fn stream(&self) -> Stream {
        let jetstream = jetstream::new(self.client.clone());
        jetstream.get_stream("EVENTFLOW_TASKS").await.unwrap()
    }

    /// What agents have said went here, in order.
    pub(crate) fn told_on(&self) -> Vec<String> {
        self.told_on.lock().unwrap().clone()
    }

    /// Somebody who listens there and never answers.
    pub(crate) async fn hang_on(&self, subject: &str) {
        let mut requests = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.client.flush().await.unwrap();
        tokio::spawn(async move { while requests.next().await.is_some() {} });
    }
}

/// Answers what agents say there.
pub(super) async fn serve(fake: Fake, subject: &str) {
    let client = fake.nats().client.clone();
    let mut requests = client.subscribe(subject.to_owned()).await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let told_on = request.subject.to_string();
            fake.nats().told_on.lock().unwrap().push(told_on);
            let answer = answer(&fake, &request.payload);
            client
                .publish(request.reply.unwrap(), answer)
                .await
                .unwrap();
        }
    });
}

fn answer(fake: &Fake, request: &[u8]) -> Bytes {
    if let Ok(batch) = serde_json::from_slice::<ResultsBody>(request) {
        assert!(batch.lease.is_none(), "nothing is leased over NATS");
        return match fake.batch(&batch.results) {
            Ok(results) => json(&ResultsAnswer {
                results,
                ..ResultsAnswer::default()
            }),
            Err(status) => json(&problem(status)),
        };
    }
    let item: ResultItem = serde_json::from_slice(request).unwrap();
    match fake.single(&item).map(|answer| answer.status) {
        Ok(200) => json(&DurableAnswer { status: 200 }),
        Ok(status) | Err(status) => json(&problem(status)),
    }
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).unwrap().into()
}
