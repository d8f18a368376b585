//! Where what was set aside is kept: the Object Store `<PREFIX>_QUARANTINE`.
//!
//! | object | what |
//! |---|---|
//! | `<partition>-<first>-<time>.jsonl` | each message as it was stored, a JSON object a line, its payload in base64 |
//! | `<partition>-<first>-<time>.json` | what was set aside, by whom, when and why; put once the messages are stored and verified |

use std::io;

use async_nats::{Client, jetstream::stream::Stream};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use eventflow_domain::Position;
use eventflow_ports::{ReadError, ReadLimit, Source};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWriteExt as _, DuplexStream, duplex};

use super::{NatsQuarantineError, NatsQuarantined, SetAside, examine::Examined};
use crate::{
    NatsConfig, OpenError, StoreReadError, bucket,
    objects::Objects,
    reader::{messages, unavailable},
};

/// The bucket's name, behind the prefix.
pub(super) const BUCKET: &str = "QUARANTINE";
/// Bytes between who reads the messages and who stores them.
const BETWEEN_BYTES: usize = 256 * 1024;

/// The bucket.
pub(super) struct Shelf {
    objects: Objects,
    bucket: String,
}

impl Shelf {
    pub(super) async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        let objects = Objects::new(bucket::open_objects(client, config, BUCKET).await?);
        Ok(Self::on(objects, config))
    }

    pub(super) fn on(objects: Objects, config: &NatsConfig) -> Self {
        let bucket = bucket::bucket(config, BUCKET);
        Self { objects, bucket }
    }

    /// Keeps what goes, unless it was kept before.
    pub(super) async fn put(
        &self,
        stream: &Stream<()>,
        examined: &Examined,
        order: &SetAside,
        incident: &str,
    ) -> Result<(), NatsQuarantineError> {
        let audit = format!("{incident}.json");
        if self
            .objects
            .find(&audit)
            .await
            .map_err(self.failed())?
            .is_some()
        {
            return Ok(());
        }
        let (mut to, mut from) = duplex(BETWEEN_BYTES);
        let name = format!("{incident}.jsonl");
        let telling = async move {
            let told = tell(stream, examined, &mut to).await;
            told.map_err(NatsQuarantineError::from)
        };
        let keeping = async { Ok(self.keep(&name, &mut from).await?) };
        let (records, ()) = tokio::try_join!(telling, keeping)?;
        let quarantined = NatsQuarantined {
            object: format!("{}/{name}", self.bucket),
            partition: order.partition,
            first: examined.bad.unwrap_or(order.first),
            last: examined.last,
            records,
            loses: examined.loses,
            at: order.at,
            by: order.by.clone(),
            reason: order.reason.clone(),
        };
        let text = serde_json::to_vec(&quarantined).map_err(self.failed())?;
        self.keep(&audit, &mut &text[..]).await?;
        Ok(())
    }

    /// What was set aside in an incident.
    pub(super) async fn find(
        &self,
        incident: &str,
    ) -> Result<NatsQuarantined, NatsQuarantineError> {
        self.read(&format!("{incident}.json")).await
    }

    pub(super) async fn list(&self) -> Result<Vec<NatsQuarantined>, NatsQuarantineError> {
        let mut found = Vec::new();
        for name in self.objects.names().await.map_err(self.failed())? {
            if name.strip_suffix(".json").is_some() {
                found.push(self.read(&name).await?);
            }
        }
        found.sort_by_key(|quarantined| (quarantined.at, quarantined.partition));
        Ok(found)
    }

    async fn read(&self, name: &str) -> Result<NatsQuarantined, NatsQuarantineError> {
        let read = async {
            let line = self.objects.find(name).await?;
            let line = line.ok_or_else(|| format!("there is no object {name}"))?;
            let mut text = Vec::new();
            self.objects.read(&line.object, &mut text).await?;
            Ok(serde_json::from_slice(&text)?)
        };
        let found = read.await.map_err(self.failed::<Source>())?;
        Ok(found)
    }

    /// Stores an object, and reads it back.
    async fn keep(
        &self,
        name: &str,
        from: &mut (impl AsyncRead + Unpin + Send),
    ) -> Result<(), StoreReadError> {
        let written = self.objects.write("", from).await.map_err(self.failed())?;
        let before = self.objects.find(name).await.map_err(self.failed())?;
        let revision = before.as_ref().map_or(0, |line| line.revision);
        let point = self.objects.point(name, &written, None, revision);
        if !point.await.map_err(self.failed())? {
            return Err(self.failed()(
                "somebody else sets records aside at the same time",
            ));
        }
        if let Some(before) = before {
            // Of a quarantine that was interrupted.
            self.objects.remove(&before.object.nuid).await;
        }
        Ok(())
    }

    fn failed<E: Into<Source>>(&self) -> impl FnOnce(E) -> StoreReadError {
        unavailable(&self.bucket)
    }
}

/// Writes every message that goes; how many there are.
async fn tell(
    stream: &Stream<()>,
    examined: &Examined,
    to: &mut DuplexStream,
) -> Result<u64, ReadError> {
    let gone = |error: io::Error| ReadError::Unavailable(error.into());
    let mut records = 0;
    for range in &examined.aside {
        let mut after = range.start() - 1;
        while after < *range.end() {
            let page = messages(stream, Position(after), ReadLimit::REPLAY).await?;
            let within = page
                .iter()
                .filter(|message| message.position.0 <= *range.end());
            for message in within {
                let line = json!({
                    "position": message.position, "subject": message.subject, "at": message.at,
                    "headers": message.headers, "payload": STANDARD.encode(&message.record),
                });
                to.write_all(format!("{line}\n").as_bytes())
                    .await
                    .map_err(gone)?;
                records += 1;
            }
            // Where the page is empty, so is the rest.
            after = page
                .last()
                .map_or(*range.end(), |message| message.position.0);
        }
    }
    Ok(records)
}
