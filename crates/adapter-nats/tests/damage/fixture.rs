//! A journal of real records, and the ways in which its stream is damaged.

use async_nats::{
    Client, HeaderMap,
    jetstream::{self, Context, stream::Config},
};
use bytes::Bytes;
use eventflow_adapter_nats::{
    NatsConfig, NatsJournal, NatsQuarantineError, NatsQuarantined, NatsReader, SetAside,
};
use eventflow_domain::{
    Epoch, PartitionId, Position, Timestamp,
    record::{Body, Chain, Entry, FORMAT_LEVEL},
};
use eventflow_ports::{Journal, ReadLimit};

use super::support::Servers;

/// The partition that is damaged.
pub(crate) const P: PartitionId = PartitionId(1);
const STREAM: &str = "EVENTFLOW_JOURNAL_1";
const SUBJECT: &str = "eventflow.journal.1";
/// Records before the damage: three epochs of four.
pub(crate) const RECORDS: u64 = 12;
const PER_EPOCH: u64 = 4;
/// Tries to store one message; each takes a few seconds where no answer comes.
const TRIES_MAX: usize = 4;

pub(crate) struct Site {
    pub(crate) client: Client,
    pub(crate) config: NatsConfig,
    /// As they were appended.
    pub(crate) records: Vec<Bytes>,
    pub(crate) servers: Servers,
}

/// What is stored instead of a stream's messages.
pub(crate) enum Stored {
    Record(Bytes),
    /// Published, and removed again.
    Hole,
}

impl Site {
    pub(crate) async fn start(servers: Servers) -> Self {
        let config = NatsConfig {
            partitions: 2,
            replicas: servers.replicas(),
            ..NatsConfig::default()
        };
        let client = servers.connect().await;
        let site = Self {
            records: records(),
            client,
            config,
            servers,
        };
        let journal = site.journal().await;
        for (before, record) in (0..).zip(&site.records) {
            let appended = journal.append(P, Position(before), record.clone()).await;
            appended.expect("appended");
        }
        site
    }

    pub(crate) async fn journal(&self) -> NatsJournal {
        NatsJournal::open(&self.client, self.config.clone())
            .await
            .expect("opened")
    }

    pub(crate) fn context(&self) -> Context {
        jetstream::new(self.client.clone())
    }

    /// What a plain client publishes to the journal's subject.
    pub(crate) async fn stranger(&self, text: &str) {
        let context = self.context();
        let publish = context.publish(SUBJECT, text.to_owned().into());
        publish.await.expect("published").await.expect("stored");
    }

    /// The stream with other messages, as a restored or damaged disk leaves it.
    pub(crate) async fn store_instead(&self, messages: &[Stored]) {
        let context = self.context();
        let needed = context.get_stream(STREAM).await.expect("a stream");
        let needed = needed.cached_info().config.clone();
        context.delete_stream(STREAM).await.expect("deleted");
        let open = Config {
            deny_delete: false,
            deny_purge: false,
            ..needed.clone()
        };
        let stream = context.create_stream(open).await.expect("created");
        for (sequence, message) in (1..).zip(messages) {
            let payload = match message {
                Stored::Record(record) => record.clone(),
                Stored::Hole => "to be removed".into(),
            };
            store(&context, sequence, payload).await;
            if matches!(message, Stored::Hole) {
                stream.delete_message(sequence).await.expect("gone");
            }
        }
        context.update_stream(needed).await.expect("as it was");
    }

    /// All records, one of them instead of another.
    pub(crate) fn with(&self, position: u64, stored: Stored) -> Vec<Stored> {
        let mut messages: Vec<_> = self.records.iter().cloned().map(Stored::Record).collect();
        let index = usize::try_from(position - 1).expect("small");
        messages[index] = stored;
        messages
    }

    pub(crate) async fn quarantine(
        &self,
        first: u64,
    ) -> Result<NatsQuarantined, NatsQuarantineError> {
        Box::pin(NatsQuarantined::set_aside(
            &self.client,
            "eventflow",
            &order(first),
        ))
        .await
    }

    pub(crate) async fn reader(&self) -> NatsReader {
        Box::pin(NatsReader::open(&self.client, "eventflow"))
            .await
            .expect("a store")
    }

    /// The journal reads from its first record to its last, and each continues the one before.
    pub(crate) async fn whole(&self) -> Vec<Bytes> {
        let journal = self.journal().await;
        let (mut chain, mut records) = (Chain::start(P), Vec::new());
        loop {
            let after = Position(records.len() as u64);
            let page = journal.read(P, after, ReadLimit::REPLAY).await;
            let page = page.expect("the journal can be read");
            if page.is_empty() {
                assert_eq!(journal.head(P).await.expect("a head"), after);
                let head = self.reader().await.head(P).await.expect("a head");
                assert_eq!(head, (after, None));
                return records;
            }
            for entry in page {
                assert_eq!(entry.position.0, records.len() as u64 + 1, "a gap");
                chain.follow(&entry.record).expect("it continues the chain");
                records.push(entry.record);
            }
        }
    }
}

pub(crate) fn order(first: u64) -> SetAside {
    SetAside {
        partition: P,
        first: Position(first),
        at: Timestamp(1_700_000_000_000),
        by: "ada@host".to_owned(),
        reason: "a test".to_owned(),
    }
}

/// The next record of a chain.
pub(crate) fn next(chain: &mut Chain, epoch: Epoch) -> Bytes {
    let header = chain.next_header(epoch, Timestamp(1_000));
    let mut body = Body::default();
    if header.batch == 0 {
        body.push(&Entry::EpochStarted {
            level: FORMAT_LEVEL,
            writer: "a test".to_owned(),
        });
    }
    let record = body.seal(&header);
    chain.append(&header, &record);
    record.into()
}

fn records() -> Vec<Bytes> {
    let mut chain = Chain::start(P);
    (0..RECORDS)
        .map(|number| next(&mut chain, Epoch(number / PER_EPOCH + 1)))
        .collect()
}

/// Stores the next message. Where three servers have just made the stream, an answer may be late or missing.
async fn store(context: &Context, sequence: u64, payload: Bytes) {
    let mut failed = Vec::new();
    for _ in 0..TRIES_MAX {
        let publish = context.publish_with_headers(SUBJECT, HeaderMap::new(), payload.clone());
        match publish.await.expect("published").await {
            Ok(stored) => return assert_eq!(stored.sequence, sequence),
            Err(error) => failed.push(error),
        }
        let stream = context.get_stream(STREAM).await;
        if stream.is_ok_and(|stream| stream.cached_info().state.last_sequence == sequence) {
            return;
        }
    }
    panic!("message {sequence} could not be stored: {failed:?}");
}
