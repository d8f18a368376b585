//! What of a journal's stream is good: one pass over all messages.
//!
//! A record names the one before it by its hash. So a message that does not continue the journal, while a later one
//! continues what was before it, never was a part of the journal: nothing is lost without it. Where no later one does,
//! everything from the bad message on is of no use.

use std::ops::RangeInclusive;

use async_nats::jetstream::stream::Stream;
use eventflow_domain::{
    Epoch, PartitionId, Position,
    record::{self, Chain, RecordFault},
};
use eventflow_ports::{ReadError, ReadLimit};

use super::{NatsQuarantineError, SetAside};
use crate::{StoredMessage, journal::reading, reader::messages};

/// A journal's stream, sorted.
#[derive(Debug)]
pub(super) struct Examined {
    /// What stays, in order.
    pub(super) kept: Vec<RangeInclusive<u64>>,
    /// What goes, in order; positions without a message may be among them.
    pub(super) aside: Vec<RangeInclusive<u64>>,
    /// The end of what stays.
    pub(super) chain: Chain,
    /// The highest epoch of all records, also of those that go.
    pub(super) epoch: Epoch,
    /// Where the stream ends.
    pub(super) last: Position,
    /// The first position that is bad, or where the operator cuts a journal that is not.
    pub(super) bad: Option<Position>,
    /// Whether something that was acknowledged may be lost.
    pub(super) loses: bool,
    /// Whether something that stays gets another position.
    pub(super) moves: bool,
}

/// What is wrong with a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It is empty.
    Missing,
    /// A message that never was a record of a writer that led.
    Foreign,
    /// Something else.
    Record,
}

impl Examined {
    /// Whether there is something to be set aside from the position on that was named.
    pub(super) fn check(&self, order: &SetAside) -> Result<(), NatsQuarantineError> {
        let (partition, first) = (order.partition, order.first);
        match self.bad {
            Some(bad) if bad < first => Err(NatsQuarantineError::Earlier { partition, bad }),
            Some(_) => Ok(()),
            None => Err(NatsQuarantineError::Nothing { partition, first }),
        }
    }
}

/// Sorts a stream that should have this subject only. A sound record at `cut`, where nothing before it is bad, is set
/// aside with all that follow it.
pub(super) async fn examine(
    stream: &Stream<()>,
    subject: &str,
    partition: PartitionId,
    cut: Position,
) -> Result<Examined, ReadError> {
    let last = reading::head(stream).await?;
    let mut sorting = Sorting {
        subject,
        cut,
        is_cut: false,
        waiting: Vec::new(),
        next: Position(1),
        examined: Examined {
            kept: Vec::new(),
            aside: Vec::new(),
            chain: Chain::start(partition),
            epoch: Epoch(0),
            last,
            bad: None,
            loses: false,
            moves: false,
        },
    };
    while sorting.next <= last {
        let page = messages(stream, Position(sorting.next.0 - 1), ReadLimit::REPLAY).await?;
        let page: Vec<_> = page
            .into_iter()
            .filter(|message| message.position <= last)
            .collect();
        if page.is_empty() {
            sorting.missing(last.next());
        }
        for message in page {
            sorting.missing(message.position);
            sorting.sort(&message);
        }
    }
    Ok(sorting.end())
}

struct Sorting<'a> {
    subject: &'a str,
    cut: Position,
    is_cut: bool,
    /// Bad, and nothing good has come since.
    waiting: Vec<Wrong>,
    next: Position,
    examined: Examined,
}

impl Sorting<'_> {
    /// Everything before `position` that was not seen is empty.
    fn missing(&mut self, position: Position) {
        if self.next < position {
            let gap = self.next.0..=position.0 - 1;
            self.wrong(gap, Wrong::Missing);
            self.next = position;
        }
    }

    fn sort(&mut self, message: &StoredMessage) {
        let position = message.position;
        self.next = position.next();
        match self.fault(message) {
            None => {
                self.examined.moves |= self.examined.bad.is_some();
                self.waiting.clear();
                push(&mut self.examined.kept, position.0..=position.0);
            }
            Some(wrong) => self.wrong(position.0..=position.0, wrong),
        }
    }

    fn fault(&mut self, message: &StoredMessage) -> Option<Wrong> {
        let header = record::decode(&message.record).map(|record| record.header);
        if let Ok(header) = &header {
            self.examined.epoch = self.examined.epoch.max(header.epoch);
        }
        if message.subject != self.subject {
            return Some(Wrong::Foreign);
        }
        let mut chain = self.examined.chain;
        if !self.is_cut && chain.follow(&message.record).is_ok() {
            if message.position != self.cut || self.examined.bad.is_some() {
                self.examined.chain = chain;
                return None;
            }
            self.is_cut = true;
        }
        match header {
            Err(RecordFault::Foreign | RecordFault::Truncated(_)) => Some(Wrong::Foreign),
            // Its writer had been followed by another one already, and told nobody of it.
            Ok(header) if header.epoch < self.examined.chain.epoch => Some(Wrong::Foreign),
            _ => Some(Wrong::Record),
        }
    }

    fn wrong(&mut self, positions: RangeInclusive<u64>, wrong: Wrong) {
        self.examined
            .bad
            .get_or_insert(Position(*positions.start()));
        if self.waiting.last() != Some(&wrong) {
            self.waiting.push(wrong);
        }
        push(&mut self.examined.aside, positions);
    }

    fn end(mut self) -> Examined {
        self.examined.loses = self.waiting.iter().any(|wrong| *wrong != Wrong::Foreign);
        self.examined
    }
}

/// Adds positions that follow all that are there.
fn push(ranges: &mut Vec<RangeInclusive<u64>>, more: RangeInclusive<u64>) {
    match ranges.last_mut() {
        Some(last) if *last.end() + 1 == *more.start() => *last = *last.start()..=*more.end(),
        _ => ranges.push(more),
    }
}
