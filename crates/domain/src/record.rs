//! The record: one atomic append, a compressed batch of events of many executions, chained to the one before.
//!
//! `Journal` takes bytes, so this is the one format of every store. Layout, integers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `EVF` and the version, 1 |
//! | 4 | CRC-32 of everything after it |
//! | 2 | partition |
//! | 8 | epoch |
//! | 8 | batch number within the epoch, the first is 0 |
//! | 8 | time, milliseconds since the Unix epoch |
//! | 32 | SHA-256 of the record before, zeros for the first |
//! | 4 | size of the body before compression |
//! | … | the body, LZ4: a JSON object per entry, each followed by a line break |

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    execution::Event,
    ids::{Digest, Epoch, ExecutionId, PartitionId, Sequence, Tenant},
    time::Timestamp,
    value::Json,
};

const MAGIC: [u8; 4] = *b"EVF\x01";
const HEADER_BYTES: usize = 4 + 4 + 2 + 8 + 8 + 8 + 32 + 4;
/// A body never unpacks to more: a writer stays far below (512 KiB of events a batch), a damaged size must not exhaust
/// memory.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What this version of the software writes and the highest that it reads; a higher one is refused (DESIGN section 5).
pub const FORMAT_LEVEL: u32 = 1;

/// Where a record belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose log it is in.
    pub partition: PartitionId,
    /// The reign of its writer.
    pub epoch: Epoch,
    /// Its number within the reign.
    pub batch: u64,
    /// Of all of its events.
    pub time: Timestamp,
    /// The hash of the record before.
    pub previous: Digest,
}

/// What happened to one execution, or to the partition itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A writer began to reign.
    #[serde(rename = "epoch")]
    EpochStarted {
        /// What every record of this reign may contain.
        level: u32,
        /// Who, for people.
        writer: String,
    },
    /// Consecutive events of one execution.
    #[serde(rename = "events")]
    Execution(ExecutionEvents),
}

/// Consecutive events of one execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionEvents {
    /// Whose it is.
    #[serde(rename = "t")]
    pub tenant: Tenant,
    /// Which.
    #[serde(rename = "x")]
    pub execution: ExecutionId,
    /// The sequence of the first.
    #[serde(rename = "s")]
    pub first: Sequence,
    /// Each an [`Event`] as it was written, so that hashes hold for ever.
    #[serde(rename = "e")]
    pub events: Vec<Json>,
}

impl ExecutionEvents {
    /// The events, parsed, each with its sequence.
    pub fn parse(&self) -> Result<Vec<(Sequence, Event)>, RecordFault> {
        let fault = |sequence: Sequence, detail: String| {
            RecordFault::Entry(format!("event {sequence} of {}: {detail}", self.execution))
        };
        let parse = |(place, json): (u64, &Json)| {
            let out_of_range = || fault(self.first, "its sequence is out of range".to_owned());
            let sequence = self.first.0.checked_add(place).map(Sequence);
            let sequence = sequence
                .filter(|sequence| sequence.0 > 0)
                .ok_or_else(out_of_range)?;
            let event = json
                .read()
                .map_err(|error| fault(sequence, error.to_string()))?;
            Ok((sequence, event))
        };
        (0..).zip(&self.events).map(parse).collect()
    }
}

/// A decoded record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it belongs.
    pub header: Header,
    /// In the order they were decided.
    pub entries: Vec<Entry>,
}

/// What is wrong with the bytes of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// Not a record, or one of another version.
    #[error("it does not begin like a record of version 1")]
    Foreign,
    /// It ends too early.
    #[error("it has {0} bytes, fewer than a record's header")]
    Truncated(usize),
    /// Some bit is not as it was written.
    #[error("its checksum does not fit: it was damaged after it was written")]
    Checksum,
    /// The body does not unpack.
    #[error("its body does not unpack: {0}")]
    Body(String),
    /// An entry cannot be read.
    #[error("it holds what this version cannot read: {0}")]
    Entry(String),
    /// It does not follow the record before it.
    #[error("it does not continue the chain: {0}")]
    Chain(String),
}

/// The body of a record under construction: entries are written as they are decided, so that their size is known.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
}

impl Body {
    /// Adds an entry.
    pub fn push(&mut self, entry: &Entry) {
        serde_json::to_writer(&mut self.bytes, entry).expect("an entry serialises into memory");
        self.bytes.push(b'\n');
    }

    /// Adds the events of one execution.
    pub fn push_events(
        &mut self,
        tenant: &Tenant,
        execution: &ExecutionId,
        first: Sequence,
        events: &[Event],
    ) {
        #[derive(Serialize)]
        struct Written<'a> {
            t: &'a Tenant,
            x: &'a ExecutionId,
            s: Sequence,
            e: &'a [Event],
        }
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum Line<'a> {
            Events(Written<'a>),
        }
        let line = Line::Events(Written {
            t: tenant,
            x: execution,
            s: first,
            e: events,
        });
        serde_json::to_writer(&mut self.bytes, &line).expect("events serialise into memory");
        self.bytes.push(b'\n');
    }

    /// Bytes so far, before compression.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The whole record.
    pub fn seal(&self, header: &Header) -> Vec<u8> {
        let packed = lz4_flex::block::compress(&self.bytes);
        let mut record = Vec::with_capacity(HEADER_BYTES + packed.len());
        record.extend(MAGIC);
        record.extend([0; 4]);
        record.extend(header.partition.0.to_be_bytes());
        record.extend(header.epoch.0.to_be_bytes());
        record.extend(header.batch.to_be_bytes());
        record.extend(header.time.0.to_be_bytes());
        record.extend(header.previous.0);
        let size = u32::try_from(self.bytes.len()).expect("a body is far below 4 GiB");
        record.extend(size.to_be_bytes());
        record.extend(packed);
        let checksum = crc32fast::hash(&record[8..]);
        record[4..8].copy_from_slice(&checksum.to_be_bytes());
        record
    }
}

/// Reads a record's bytes.
pub fn decode(bytes: &[u8]) -> Result<Record, RecordFault> {
    let (header, body) = unseal(bytes)?;
    // Not by line: a value that came in with line breaks keeps them.
    let entries = serde_json::Deserializer::from_slice(&body)
        .into_iter()
        .map(|entry| entry.map_err(|error| RecordFault::Entry(error.to_string())))
        .collect::<Result<_, _>>()?;
    Ok(Record { header, entries })
}

fn unseal(bytes: &[u8]) -> Result<(Header, Vec<u8>), RecordFault> {
    if bytes.len() < HEADER_BYTES {
        return Err(RecordFault::Truncated(bytes.len()));
    }
    if bytes[..4] != MAGIC {
        return Err(RecordFault::Foreign);
    }
    if bytes[4..8] != crc32fast::hash(&bytes[8..]).to_be_bytes() {
        return Err(RecordFault::Checksum);
    }
    let mut fields = Fields(&bytes[8..]);
    let header = Header {
        partition: PartitionId(u16::from_be_bytes(fields.take())),
        epoch: Epoch(u64::from_be_bytes(fields.take())),
        batch: u64::from_be_bytes(fields.take()),
        time: Timestamp(i64::from_be_bytes(fields.take())),
        previous: Digest(fields.take()),
    };
    let size = u32::from_be_bytes(fields.take()) as usize;
    if size > BODY_BYTES_MAX {
        return Err(RecordFault::Body(format!(
            "it says it has {size} bytes, more than {BODY_BYTES_MAX}"
        )));
    }
    let body = lz4_flex::block::decompress(fields.0, size)
        .map_err(|error| RecordFault::Body(error.to_string()))?;
    if body.len() != size {
        return Err(RecordFault::Body(format!(
            "it says it has {size} bytes, but has {}",
            body.len()
        )));
    }
    Ok((header, body))
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_at(N);
        self.0 = rest;
        field.try_into().expect("it was split at its own length")
    }
}

/// The end of a chain: what the next record must continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Whose log.
    pub partition: PartitionId,
    /// Of the last record; 0 before the first.
    pub epoch: Epoch,
    /// The number of the next batch of this epoch.
    pub next_batch: u64,
    /// The time of the last record.
    pub time: Timestamp,
    /// The hash of the last record.
    pub hash: Digest,
}

impl Chain {
    /// Before the first record.
    pub fn start(partition: PartitionId) -> Self {
        Self {
            partition,
            epoch: Epoch(0),
            next_batch: 0,
            time: Timestamp(0),
            hash: Digest([0; 32]),
        }
    }

    /// After a record that is trusted, because what depends on it was verified before.
    pub fn at(partition: PartitionId, bytes: &[u8]) -> Result<Self, RecordFault> {
        let (header, _) = unseal(bytes)?;
        if header.partition != partition {
            return Err(RecordFault::Chain(format!(
                "it belongs to partition {}",
                header.partition
            )));
        }
        let mut chain = Self::start(partition);
        chain.append(&header, bytes);
        Ok(chain)
    }

    /// A record's bytes, verified to be the next of this chain; the chain moves on.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Record, RecordFault> {
        let record = decode(bytes)?;
        let Header {
            partition,
            epoch,
            batch,
            time,
            previous,
        } = record.header;
        let broken = |what: String| Err(RecordFault::Chain(what));
        if partition != self.partition {
            return broken(format!(
                "it belongs to partition {partition}, not {}",
                self.partition
            ));
        }
        if previous != self.hash {
            return broken("it names another predecessor".to_owned());
        }
        let starts = |entry: &Entry| matches!(entry, Entry::EpochStarted { .. });
        let begins = record.entries.first().is_some_and(starts);
        if record.entries.iter().skip(1).any(starts) {
            return broken("a reign begins in the midst of it".to_owned());
        }
        // Before the first record there is no reign to continue: epochs count from 1.
        let continues =
            epoch == self.epoch && epoch > Epoch(0) && batch == self.next_batch && !begins;
        let follows = begins && epoch > self.epoch && batch == 0;
        if !continues && !follows {
            return broken(format!(
                "batch {batch} of epoch {epoch} after {} batches of epoch {}",
                self.next_batch, self.epoch
            ));
        }
        if time < self.time {
            return broken("its time is before that of its predecessor".to_owned());
        }
        if let Some(Entry::EpochStarted { level, .. }) = record.entries.first()
            && *level > FORMAT_LEVEL
        {
            return Err(RecordFault::Entry(format!(
                "format level {level}, newer than {FORMAT_LEVEL}: a newer version wrote here"
            )));
        }
        self.append(&record.header, bytes);
        Ok(record)
    }

    /// Moves on past a record that was just sealed.
    pub fn append(&mut self, header: &Header, bytes: &[u8]) {
        self.epoch = header.epoch;
        self.next_batch = header.batch + 1;
        self.time = header.time;
        self.hash = Digest(Sha256::digest(bytes).into());
    }

    /// The header of the next record at this time, never before the last one's.
    pub fn next_header(&self, epoch: Epoch, at: Timestamp) -> Header {
        let batch = if epoch == self.epoch {
            self.next_batch
        } else {
            0
        };
        Header {
            partition: self.partition,
            epoch,
            batch,
            time: self.time.max(at),
            previous: self.hash,
        }
    }
}

/// The hash of an event in its execution's history: SHA-256 over the hash before it and its own text.
pub fn history_hash(previous: &Digest, sequence: Sequence, event: &Json) -> Digest {
    let mut hash = Sha256::new();
    hash.update(previous.0);
    hash.update(sequence.0.to_be_bytes());
    hash.update(event.as_str().as_bytes());
    Digest(hash.finalize().into())
}
