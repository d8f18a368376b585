//! Making a journal's stream again.
//!
//! | step | the journal's stream | the copy, `<PREFIX>_REMADE_<p>` |
//! |---|---|---|
//! | close | leaves the journal's subject: nobody can write, no node can open it | |
//! | copy | | made, filled and verified; takes the journal's subject, so that nobody can make an empty journal |
//! | finish | deleted, made again below another subject, filled from the copy and verified | leaves the journal's subject |
//! | | takes the journal's subject | deleted |
//!
//! Which step was the last one is read from the streams, so that an interrupted quarantine goes on where it was.

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        Context,
        context::PublishAckFuture,
        stream::{Config, Stream, SubjectTransform},
    },
};
use bytes::Bytes;
use eventflow_domain::{
    Digest, PartitionId, Position,
    record::{Body, Chain, Entry, FORMAT_LEVEL, Header},
};
use eventflow_ports::{ReadError, ReadLimit};
use futures::{StreamExt as _, stream::FuturesOrdered};
use tokio::time::Instant;

use super::{
    NatsQuarantineError, SetAside,
    examine::{Examined, examine},
};
use crate::{
    NatsConfig, StoreReadError, bucket,
    journal::{self, reading},
    objects::Objects,
    reader::{info, messages, unavailable},
    stream as streams,
};

/// The quarantine that a stream was closed or made by, in its metadata.
const INCIDENT: &str = "eventflow-quarantine";
/// How many records a finished copy has, in its metadata.
const RECORDS: &str = "eventflow-records";
/// The hash of a finished copy's last record, in its metadata.
const HASH: &str = "eventflow-hash";
/// In each copied message: where it was before.
const POSITION_BEFORE: &str = "Eventflow-Position-Before";
/// Messages on their way to the copy: at 1 MiB each, 16 MiB.
const IN_FLIGHT: usize = 16;

/// A journal, and what is needed to make it again.
pub(super) struct Remaking {
    context: Context,
    config: NatsConfig,
    partition: PartitionId,
    needed: Config,
    copy: Config,
}

/// How far a quarantine has come.
pub(super) enum State {
    /// None was begun.
    Open,
    /// The journal is closed, and not copied yet.
    Closed { incident: String },
    /// The copy is complete and verified.
    Copied { incident: String },
}

impl State {
    /// The quarantine that was begun and not ended.
    pub(super) fn incident(&self) -> Option<&str> {
        match self {
            Self::Open => None,
            Self::Closed { incident } | Self::Copied { incident } => Some(incident),
        }
    }
}

impl Remaking {
    pub(super) fn new(client: &Client, config: &NatsConfig, partition: PartitionId) -> Self {
        let needed = journal::needed(config, partition);
        let copy = Config {
            name: format!("{}_REMADE_{partition}", config.upper_prefix()),
            description: Some("EventFlow's: a journal that is made again".to_owned()),
            subjects: vec![format!("{}.remade.{partition}", config.prefix)],
            subject_transform: Some(SubjectTransform {
                source: format!("{}.remade.{partition}", config.prefix),
                destination: needed.subjects.concat(),
            }),
            ..needed.clone()
        };
        Self {
            context: config.patient_context(client),
            config: config.clone(),
            partition,
            needed,
            copy,
        }
    }

    pub(super) async fn state(&self) -> Result<State, NatsQuarantineError> {
        if let Some(copy) = info(&self.context, &self.copy.name).await?
            && copy.config.metadata.contains_key(RECORDS)
            && let Some(incident) = copy.config.metadata.get(INCIDENT)
        {
            let incident = incident.clone();
            return Ok(State::Copied { incident });
        }
        let journal = info(&self.context, &self.needed.name).await?;
        let closed = journal.filter(|journal| journal.config.subjects != self.needed.subjects);
        let incident = closed.and_then(|closed| closed.config.metadata.get(INCIDENT).cloned());
        Ok(incident.map_or(State::Open, |incident| State::Closed { incident }))
    }

    /// The quarantine that the journal was last made again by.
    pub(super) async fn made_by(&self) -> Result<Option<String>, NatsQuarantineError> {
        let journal = info(&self.context, &self.needed.name).await?;
        Ok(journal.and_then(|journal| journal.config.metadata.get(INCIDENT).cloned()))
    }

    pub(super) async fn examine(&self, cut: Position) -> Result<Examined, NatsQuarantineError> {
        let stream = self.journal().await?;
        let subject = self.needed.subjects.concat();
        Ok(examine(&stream, &subject, self.partition, cut).await?)
    }

    pub(super) async fn journal(&self) -> Result<Stream<()>, StoreReadError> {
        self.stream(&self.needed.name).await
    }

    /// Where the journal's stream ends now.
    pub(super) async fn last(&self) -> Result<Position, NatsQuarantineError> {
        Ok(reading::head(&self.journal().await?).await?)
    }

    /// Lets nothing more in.
    pub(super) async fn close(&self, incident: &str) -> Result<(), StoreReadError> {
        let mut config = self.found(&self.needed.name).await?;
        config.subjects = vec![self.closed_subject()];
        config
            .metadata
            .insert(INCIDENT.to_owned(), incident.to_owned());
        self.update(&config).await
    }

    /// As if it had not been closed.
    pub(super) async fn reopen(&self) -> Result<(), StoreReadError> {
        let mut config = self.found(&self.needed.name).await?;
        config.subjects.clone_from(&self.needed.subjects);
        config.metadata.remove(INCIDENT);
        self.update(&config).await
    }

    /// Makes the copy of what stays and of the records that say nothing, and verifies it.
    pub(super) async fn copy(
        &self,
        examined: &Examined,
        order: &SetAside,
        incident: &str,
    ) -> Result<(), NatsQuarantineError> {
        self.delete(&self.copy.name).await?;
        let journal = self.journal().await?;
        let copy = self.make(&self.copy, incident).await?;
        let mut filling = Filling::new(self, &self.copy);
        for range in &examined.kept {
            filling.copy(&journal, *range.start(), *range.end()).await?;
        }
        let mut chain = examined.chain;
        // One more than there were: even who was about to write behind the last of them comes too late.
        while filling.records <= examined.last.0 {
            let record = nothing(&mut chain, examined, order, incident);
            filling.add(record.into(), None).await?;
        }
        let records = filling.end().await?;
        self.verify(&copy, &self.copy.name, records, &chain.hash)
            .await?;
        let mut config = self.found(&self.copy.name).await?;
        config.subjects = vec![self.copy.subjects.concat(), self.needed.subjects.concat()];
        config
            .metadata
            .insert(RECORDS.to_owned(), records.to_string());
        config
            .metadata
            .insert(HASH.to_owned(), chain.hash.to_string());
        Ok(self.update(&config).await?)
    }

    /// Puts the copy in the journal's place.
    pub(super) async fn finish(&self, client: &Client) -> Result<(), NatsQuarantineError> {
        let mut copied = self.found(&self.copy.name).await?;
        let incident = copied.metadata.get(INCIDENT).cloned().unwrap_or_default();
        let is_done = info(&self.context, &self.needed.name)
            .await?
            .is_some_and(|journal| {
                let made_by = journal.config.metadata.get(INCIDENT);
                journal.config.subjects == self.needed.subjects && made_by == Some(&incident)
            });
        if !is_done {
            // Also where it was interrupted between the last two steps.
            copied.subjects = vec![self.copy.subjects.concat(), self.needed.subjects.concat()];
            self.update(&copied).await?;
            self.replace(&copied, &incident).await?;
            self.forget_view(client).await?;
            copied.subjects.clone_from(&self.copy.subjects);
            self.update(&copied).await?;
            let mut config = self.found(&self.needed.name).await?;
            config.subjects.clone_from(&self.needed.subjects);
            config.subject_transform = None;
            self.update(&config).await?;
        }
        Ok(self.delete(&self.copy.name).await?)
    }

    /// Deletes the journal's stream, and makes it again from the copy, still closed.
    async fn replace(&self, copied: &Config, incident: &str) -> Result<(), NatsQuarantineError> {
        let unlike = || NatsQuarantineError::Unlike {
            stream: self.copy.name.clone(),
        };
        let records = copied
            .metadata
            .get(RECORDS)
            .and_then(|text| text.parse().ok());
        let records: u64 = records.ok_or_else(unlike)?;
        let hash = copied
            .metadata
            .get(HASH)
            .and_then(|text| Digest::parse(text));
        let hash = hash.ok_or_else(unlike)?;
        let copy = self.stream(&self.copy.name).await?;
        self.verify(&copy, &self.copy.name, records, &hash).await?;
        self.delete(&self.needed.name).await?;
        let closed = Config {
            subjects: vec![self.closed_subject()],
            subject_transform: Some(SubjectTransform {
                source: self.closed_subject(),
                destination: self.needed.subjects.concat(),
            }),
            ..self.needed.clone()
        };
        let journal = self.make(&closed, incident).await?;
        let mut filling = Filling::new(self, &closed);
        filling.copy(&copy, 1, records).await?;
        filling.end().await?;
        self.verify(&journal, &closed.name, records, &hash).await
    }

    /// What was folded from records that are gone, or lie elsewhere now.
    async fn forget_view(&self, client: &Client) -> Result<(), NatsQuarantineError> {
        let views = bucket::needed_objects(&self.config, "VIEWS").name;
        if info(&self.context, &views).await?.is_none() {
            return Ok(());
        }
        let objects = Objects::new(bucket::open_objects(client, &self.config, "VIEWS").await?);
        let partition = self.partition;
        let forgotten = objects.forget(&format!("partition-{partition}")).await;
        forgotten.map_err(unavailable(&views))?;
        let chunks = objects.chunks_within(&format!("{partition}.")).await;
        for chunks in chunks.map_err(unavailable(&views))? {
            objects.remove(&chunks).await;
        }
        Ok(())
    }

    /// Whether a stream holds so many records that follow each other, the last one with this hash: then they are those
    /// that were copied.
    async fn verify(
        &self,
        stream: &Stream<()>,
        name: &str,
        records: u64,
        hash: &Digest,
    ) -> Result<(), NatsQuarantineError> {
        let mut chain = Chain::start(self.partition);
        let mut verified = Position(0);
        while verified.0 < records {
            let page = messages(stream, verified, ReadLimit::REPLAY).await?;
            let is_empty = page.is_empty();
            for message in page
                .iter()
                .take_while(|message| message.position.0 <= records)
            {
                let follows =
                    message.position == verified.next() && chain.follow(&message.record).is_ok();
                if !follows || message.subject != self.needed.subjects.concat() {
                    return Err(unlike(name));
                }
                verified = message.position;
            }
            if is_empty {
                return Err(unlike(name));
            }
        }
        if chain.hash == *hash {
            Ok(())
        } else {
            Err(unlike(name))
        }
    }

    fn closed_subject(&self) -> String {
        format!("{}.closed.{}", self.config.prefix, self.partition)
    }

    async fn stream(&self, name: &str) -> Result<Stream<()>, StoreReadError> {
        let stream = self.context.get_stream_no_info(name).await;
        stream.map_err(unavailable(name))
    }

    /// A stream that can be written to when this returns.
    async fn make(
        &self,
        needed: &Config,
        incident: &str,
    ) -> Result<Stream<()>, NatsQuarantineError> {
        let mut config = needed.clone();
        config
            .metadata
            .insert(INCIDENT.to_owned(), incident.to_owned());
        let deadline = Instant::now() + self.config.open_within;
        Ok(streams::open(&self.context, &config, deadline).await?)
    }

    async fn found(&self, name: &str) -> Result<Config, StoreReadError> {
        let found = info(&self.context, name).await?;
        let found = found.ok_or("it is not there").map_err(unavailable(name))?;
        Ok(found.config)
    }

    async fn update(&self, config: &Config) -> Result<(), StoreReadError> {
        let updated = self.context.update_stream(config).await;
        updated.map(|_| ()).map_err(unavailable(&config.name))
    }

    async fn delete(&self, name: &str) -> Result<(), StoreReadError> {
        if info(&self.context, name).await?.is_none() {
            return Ok(());
        }
        let deleted = self.context.delete_stream(name).await;
        deleted.map(|_| ()).map_err(unavailable(name))
    }
}

fn unlike(stream: &str) -> NatsQuarantineError {
    NatsQuarantineError::Unlike {
        stream: stream.to_owned(),
    }
}

/// A record that says nothing; the first one begins an epoch, whose writer is the quarantine.
fn nothing(chain: &mut Chain, examined: &Examined, order: &SetAside, incident: &str) -> Vec<u8> {
    let epoch = examined.epoch.max(examined.chain.epoch).next();
    let header: Header = chain.next_header(epoch, order.at);
    let mut body = Body::default();
    if header.batch == 0 {
        body.push(&Entry::EpochStarted {
            level: FORMAT_LEVEL,
            writer: format!("journal quarantine {incident}, by {}", order.by),
        });
    }
    let record = body.seal(&header);
    chain.append(&header, &record);
    record
}

/// A stream that is being filled from its first message on.
struct Filling<'a> {
    remaking: &'a Remaking,
    subject: String,
    stream: String,
    records: u64,
    in_flight: FuturesOrdered<<PublishAckFuture as IntoFuture>::IntoFuture>,
}

impl<'a> Filling<'a> {
    fn new(remaking: &'a Remaking, config: &Config) -> Self {
        Self {
            remaking,
            subject: config.subjects.concat(),
            stream: config.name.clone(),
            records: 0,
            in_flight: FuturesOrdered::new(),
        }
    }

    /// Copies the messages of these positions, all of which are there.
    async fn copy(
        &mut self,
        from: &Stream<()>,
        first: u64,
        last: u64,
    ) -> Result<(), NatsQuarantineError> {
        let mut after = first - 1;
        while after < last {
            let page = messages(from, Position(after), ReadLimit::REPLAY).await?;
            let Some(end) = page.last() else {
                let gone = format!("record {} is gone since it was examined", after + 1);
                return Err(ReadError::Fatal(gone.into()).into());
            };
            after = end.position.0;
            for message in page {
                if message.position.0 <= last {
                    self.add(message.record, Some(message.position)).await?;
                }
            }
        }
        Ok(())
    }

    async fn add(&mut self, record: Bytes, before: Option<Position>) -> Result<(), StoreReadError> {
        if self.in_flight.len() == IN_FLIGHT {
            self.acknowledged().await?;
        }
        let mut headers = HeaderMap::new();
        if let Some(before) = before {
            headers.insert(POSITION_BEFORE, before.to_string());
        }
        let context = &self.remaking.context;
        let sent = context.publish_with_headers(self.subject.clone(), headers, record);
        let sent = sent.await.map_err(unavailable(&self.stream))?;
        self.in_flight.push_back(sent.into_future());
        self.records += 1;
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<(), StoreReadError> {
        match self.in_flight.next().await {
            Some(Err(error)) => Err(unavailable(&self.stream)(error)),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// How many records there are, all of them acknowledged.
    async fn end(mut self) -> Result<u64, StoreReadError> {
        while !self.in_flight.is_empty() {
            self.acknowledged().await?;
        }
        Ok(self.records)
    }
}
