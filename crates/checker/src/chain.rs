//! The records of one partition, one after the other: whole, in order, each naming the one before (invariant "chain").
//!
//! Not `record::Chain`: the writer uses that one, and a fault of it must not hide itself.

use eventflow_domain::{
    Digest, Epoch, PartitionId, Position, Timestamp,
    record::{Entry, Header, Record},
};

/// The end of what was read.
#[derive(Debug)]
pub(crate) struct Links {
    partition: PartitionId,
    position: Position,
    epoch: Epoch,
    batches: u64,
    hash: Digest,
    /// When the last record was written.
    pub(crate) time: Timestamp,
    /// When its reign began.
    pub(crate) reign_since: Timestamp,
    /// The record before could not be read: what it would have said is not known.
    is_blind: bool,
}

impl Links {
    pub(crate) fn start(partition: PartitionId) -> Self {
        Self {
            partition,
            position: Position(0),
            epoch: Epoch(0),
            batches: 0,
            hash: Digest([0; 32]),
            time: Timestamp(0),
            reign_since: Timestamp(0),
            is_blind: false,
        }
    }

    /// Notes a record whose bytes could not be read.
    pub(crate) fn pass_unreadable(&mut self, position: Position, hash: Digest) -> Vec<String> {
        let faults = self.at(position);
        self.hash = hash;
        self.is_blind = true;
        faults
    }

    /// Notes a record, and what is wrong with its place.
    pub(crate) fn pass(
        &mut self,
        position: Position,
        hash: Digest,
        record: &Record,
    ) -> Vec<String> {
        let mut faults = self.at(position);
        let header = &record.header;
        if header.partition != self.partition {
            faults.push(format!(
                "it says that it is of partition {}",
                header.partition
            ));
        }
        if header.previous != self.hash {
            faults.push(
                "it does not name the record before it: one is missing, or was changed".into(),
            );
        }
        if header.time < self.time {
            faults.push(format!(
                "its time, {}, is before that of the record before, {}",
                header.time.0, self.time.0
            ));
        }
        if !self.is_blind {
            faults.extend(self.reign(header, record));
        }
        if header.epoch != self.epoch {
            self.reign_since = header.time;
        }
        self.epoch = header.epoch;
        self.batches = header.batch.saturating_add(1);
        self.time = header.time.max(self.time);
        self.hash = hash;
        self.is_blind = false;
        faults
    }

    fn at(&mut self, position: Position) -> Vec<String> {
        let expected = self.position.next();
        self.position = position;
        if position == expected {
            return Vec::new();
        }
        vec![format!("record {expected} is not there")]
    }

    /// An epoch begins with `EpochStarted` in its batch 0 and never comes back; its batches count without a gap.
    fn reign(&self, header: &Header, record: &Record) -> Option<String> {
        let says = |entry: &Entry| matches!(entry, Entry::EpochStarted { .. });
        let begins = record.entries.first().is_some_and(says);
        if record.entries.iter().skip(1).any(says) {
            return Some("an epoch begins in the midst of it".into());
        }
        if header.epoch < self.epoch {
            return Some(format!(
                "it is of epoch {}, whose writer was followed by that of epoch {}",
                header.epoch, self.epoch
            ));
        }
        let is_new = header.epoch > self.epoch;
        match (is_new, begins) {
            (true, false) => Some(format!("epoch {} did not begin", header.epoch)),
            (false, true) => Some(format!("epoch {} begins twice: a fork", header.epoch)),
            (true, true) if header.batch != 0 => Some(format!(
                "epoch {} begins with batch {}",
                header.epoch, header.batch
            )),
            (false, false) if header.batch != self.batches => Some(format!(
                "it is batch {} of its epoch, where batch {} was to come",
                header.batch, self.batches
            )),
            (true, true) | (false, false) => None,
        }
    }
}
