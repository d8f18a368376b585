//! Objects in the layout of the Object Store: chunks on a subject of their own, and a line that points at them.
//!
//! Written here instead of by the client's own store, because that one moves the line without comparing it, removes the
//! chunks from under who reads them, and reads from any replica: a bucket is the same for every other tool.

use async_nats::{
    HeaderMap,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_ROLLUP},
    jetstream::{
        Context,
        object_store::{ObjectInfo, ObjectOptions},
        stream::{LastRawMessageErrorKind, RawMessageErrorKind, Stream},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use eventflow_domain::Digest;
use eventflow_ports::Source;
use futures::{StreamExt as _, stream::FuturesOrdered};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{bucket, stream};

/// One chunk, as every client of the Object Store makes them: far below the largest message that a server takes.
const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks that are written at a time: enough to hide the way to the server and back, 2 MiB of memory.
const CHUNKS_IN_FLIGHT: usize = 16;

/// An open bucket of objects.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    context: Context,
    stream: Stream<()>,
    bucket: String,
}

/// Chunks that are all stored, and the same that were given.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) chunks_at: String,
    pub(crate) chunks: usize,
    pub(crate) bytes: usize,
    pub(crate) digest: Digest,
}

/// The line of an object, and its revision.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) revision: u64,
    pub(crate) object: ObjectInfo,
}

/// Why an object was not written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// Try again later.
    #[error("{0}")]
    Unavailable(Source),
    /// Not all of its chunks are there.
    #[error("a chunk is gone")]
    Gone,
    /// The other end: what is put, or where it goes.
    #[error("{0}")]
    Io(std::io::Error),
}

impl Objects {
    pub(crate) fn new((context, stream, bucket): (Context, Stream<()>, String)) -> Self {
        Self {
            context,
            stream,
            bucket,
        }
    }

    /// The newest line of an object; none where it was never written, or removed.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Line>, Source> {
        let subject = self.line_subject(name);
        match self.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => {
                let object: ObjectInfo = serde_json::from_slice(&message.payload)?;
                Ok((!object.deleted).then_some(Line {
                    revision: message.sequence,
                    object,
                }))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores chunks, and reads them back once: what a line points at is there and right. `within` begins the place of
    /// the chunks, which is nobody else's.
    pub(crate) async fn write(
        &self,
        within: &str,
        from: &mut (impl AsyncRead + Unpin + Send),
    ) -> Result<Written, ObjectError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| ObjectError::Unavailable(error.into()))?;
        let random = u128::from_be_bytes(random);
        let chunks_at = format!("{within}{random:032x}");
        let written = self.write_at(chunks_at.clone(), from).await;
        if written.is_err() {
            self.remove(&chunks_at).await;
        }
        written
    }

    async fn write_at(
        &self,
        chunks_at: String,
        from: &mut (impl AsyncRead + Unpin + Send),
    ) -> Result<Written, ObjectError> {
        let subject = self.chunk_subject(&chunks_at);
        let mut hash = Sha256::new();
        let (mut chunks, mut bytes) = (0, 0);
        let mut in_flight = FuturesOrdered::new();
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let part = &mut (&mut *from).take(CHUNK_BYTES as u64);
            part.read_to_end(&mut chunk)
                .await
                .map_err(ObjectError::Io)?;
            if chunk.is_empty() {
                break;
            }
            hash.update(&chunk);
            chunks += 1;
            bytes += chunk.len();
            if in_flight.len() == CHUNKS_IN_FLIGHT {
                acknowledged(in_flight.next().await)?;
            }
            let sent = self.context.publish(subject.clone(), chunk.into()).await;
            in_flight.push_back(sent.map_err(unavailable)?.into_future());
        }
        while let Some(ack) = in_flight.next().await {
            acknowledged(Some(ack))?;
        }
        let written = Written {
            chunks_at,
            chunks,
            bytes,
            digest: Digest(hash.finalize().into()),
        };
        let stored = self
            .read_chunks(&written.chunks_at, chunks, &mut tokio::io::sink())
            .await?;
        if stored == written.digest {
            Ok(written)
        } else {
            Err(unavailable("what is stored is not what was put"))
        }
    }

    /// Makes the object of this name what was written, where its line's revision is still `expected`, 0 for none; says
    /// whether it was. Where it was not, whoever was faster may not be seen yet: look again, until one of them is.
    pub(crate) async fn point(
        &self,
        name: &str,
        written: &Written,
        through: Option<u64>,
        expected: u64,
    ) -> Result<bool, Source> {
        let object = ObjectInfo {
            name: name.to_owned(),
            description: None,
            metadata: through
                .map(|through| (THROUGH.to_owned(), through.to_string()))
                .into_iter()
                .collect(),
            headers: None,
            options: Some(ObjectOptions {
                link: None,
                max_chunk_size: Some(CHUNK_BYTES),
            }),
            bucket: self.bucket.clone(),
            nuid: written.chunks_at.clone(),
            size: written.bytes,
            chunks: written.chunks,
            modified: None,
            digest: Some(digest_text(&written.digest)),
            deleted: false,
        };
        let mut headers = HeaderMap::new();
        headers.insert(NATS_ROLLUP, "sub");
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        let line = serde_json::to_vec(&object)?;
        let publish =
            self.context
                .publish_with_headers(self.line_subject(name), headers, line.into());
        match publish.await?.await {
            Ok(_) => Ok(true),
            Err(error) if stream::is_stale(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads all chunks of an object; the digest of what was read.
    pub(crate) async fn read(
        &self,
        object: &ObjectInfo,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<Digest, ObjectError> {
        self.read_chunks(&object.nuid, object.chunks, to).await
    }

    async fn read_chunks(
        &self,
        chunks_at: &str,
        chunks: usize,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<Digest, ObjectError> {
        let subject = self.chunk_subject(chunks_at);
        let mut hash = Sha256::new();
        let mut from = 1;
        for _ in 0..chunks {
            let chunk = self
                .stream
                .raw_message_builder()
                .sequence(from)
                .next_by_subject(&subject)
                .send()
                .await
                .map_err(|error| match error.kind() {
                    RawMessageErrorKind::NoMessageFound => ObjectError::Gone,
                    _ => unavailable(error),
                })?;
            hash.update(&chunk.payload);
            to.write_all(&chunk.payload)
                .await
                .map_err(ObjectError::Io)?;
            from = chunk.sequence + 1;
        }
        Ok(Digest(hash.finalize().into()))
    }

    /// Where there are chunks within a place, also of objects that were never finished.
    pub(crate) async fn chunks_within(&self, within: &str) -> Result<Vec<String>, Source> {
        let all = self.chunk_subject("");
        let found = bucket::subjects(&self.stream, &format!("{all}{within}>")).await?;
        let places = found
            .iter()
            .filter_map(|subject| subject.strip_prefix(&all));
        Ok(places.map(str::to_owned).collect())
    }

    /// Removes chunks that no line points at. Where that fails they take room, and are in nobody's way.
    pub(crate) async fn remove(&self, chunks_at: &str) {
        let purged = self.stream.purge().filter(self.chunk_subject(chunks_at));
        if let Err(error) = purged.await {
            let bucket = &self.bucket;
            tracing::warn!(bucket, chunks_at, %error, "chunks that nothing needs were not removed");
        }
    }

    /// The names of all objects that have a line.
    pub(crate) async fn names(&self) -> Result<Vec<String>, Source> {
        let all = format!("$O.{}.M.", self.bucket);
        let mut names = Vec::new();
        for subject in bucket::subjects(&self.stream, &format!("{all}>")).await? {
            let encoded = subject.strip_prefix(&all).unwrap_or(&subject);
            names.push(String::from_utf8(URL_SAFE.decode(encoded)?)?);
        }
        Ok(names)
    }

    /// Forgets an object as if it had never been put; its chunks are the caller's to remove.
    pub(crate) async fn forget(&self, name: &str) -> Result<(), Source> {
        self.stream.purge().filter(self.line_subject(name)).await?;
        Ok(())
    }

    fn line_subject(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.bucket, URL_SAFE.encode(name))
    }

    fn chunk_subject(&self, chunks_at: &str) -> String {
        format!("$O.{}.C.{chunks_at}", self.bucket)
    }
}

/// What an object's metadata calls the position that it reflects.
const THROUGH: &str = "through";

/// The position that an object reflects, where it was written with one.
pub(crate) fn through(object: &ObjectInfo) -> Option<u64> {
    object.metadata.get(THROUGH)?.parse().ok()
}

/// A digest as the Object Store writes it.
pub(crate) fn digest_text(digest: &Digest) -> String {
    format!("SHA-256={}", URL_SAFE.encode(digest.0))
}

fn acknowledged<T, E: Into<Source>>(ack: Option<Result<T, E>>) -> Result<(), ObjectError> {
    match ack {
        Some(Err(error)) => Err(unavailable(error)),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn unavailable(source: impl Into<Source>) -> ObjectError {
    ObjectError::Unavailable(source.into())
}
