//! The writer's side of the model: what `partition/{recovery,writer,commit,mend}.rs` of the engine do, event by event.

use super::{
    Bug,
    journal::{Answer, Append, Instance, Log, Record, RecordId, WriterId},
};

/// As in the engine's configuration: one being made durable, one behind it.
const APPENDS_IN_FLIGHT_MAX: usize = 2;

/// What a writer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Not started yet.
    Down,
    /// It has read the log; its `EpochStarted` is under way.
    Starting,
    Leading,
    /// An append was not acknowledged: it settles every record under way, in order.
    Mending,
    /// The same, and the record has been sent again.
    SendingAgain,
    Fenced,
}

/// One life of one writer. A crashed one is one that does nothing any more: what it left under way goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) phase: Phase,
    pub(crate) epoch: u8,
    /// Up to here it has read the log before its own first record.
    pub(crate) read_to: u8,
    /// Where its `EpochStarted` stands, once it knows.
    pub(crate) reigns_from: Option<u8>,
    /// The last record that it handed over or read: the next one carries its hash.
    last: Option<RecordId>,
    /// Of that record.
    position: u8,
    /// Of its own records.
    next_number: u8,
    pub(crate) in_flight: Vec<Append>,
    pub(crate) journal: Instance,
}

/// A record whose callers are answered.
pub(crate) type Answered = (RecordId, How);

/// How a writer learned that a record is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum How {
    Acknowledged,
    ReadBack,
    SentAgain,
}

impl Writer {
    pub(crate) fn down() -> Self {
        Self {
            phase: Phase::Down,
            epoch: 0,
            read_to: 0,
            reigns_from: None,
            last: None,
            position: 0,
            next_number: 0,
            in_flight: Vec::new(),
            journal: Instance::default(),
        }
    }

    /// Reads the log to its end and hands over `EpochStarted`.
    pub(crate) fn start(&mut self, id: WriterId, log: &Log) {
        let last = log.records.last();
        self.phase = Phase::Starting;
        self.epoch = log
            .records
            .iter()
            .map(|record| record.epoch)
            .max()
            .unwrap_or(0)
            + 1;
        self.read_to = log.head();
        self.position = log.head();
        self.last = last.map(|record| record.id);
        self.hand_over_next(id);
    }

    pub(crate) fn may_submit(&self, batches_max: u8) -> bool {
        self.phase == Phase::Leading
            && self.in_flight.len() < APPENDS_IN_FLIGHT_MAX
            && self.next_number <= batches_max
    }

    /// Hands the next record over, behind the one before, acknowledged or not.
    pub(crate) fn hand_over_next(&mut self, id: WriterId) {
        let record = Record {
            id: (id, self.next_number),
            epoch: self.epoch,
            previous: self.last,
        };
        let append = Append {
            expected: self.position,
            record,
        };
        self.next_number += 1;
        self.last = Some(record.id);
        self.position = append.position();
        self.in_flight.push(append);
        self.hand_over(append);
    }

    fn hand_over(&mut self, append: Append) {
        if self.journal.has_untold_failure() {
            self.journal.answers.push(Answer::Failed);
        } else {
            self.journal.queue.push(append);
        }
    }

    /// Hears the next answer.
    pub(crate) fn hear(&mut self) -> Option<Answered> {
        let answer = self.journal.answers.remove(0);
        match (self.phase, answer) {
            (Phase::SendingAgain, Answer::Written) => Some(self.settled(How::SentAgain)),
            (Phase::SendingAgain, Answer::Failed) => {
                self.phase = Phase::Mending;
                None
            }
            (_, Answer::Written) => Some(self.committed(How::Acknowledged)),
            (_, Answer::Failed) => {
                self.phase = Phase::Mending;
                // It polls none of the others any more.
                self.journal.answers.clear();
                assert!(self.journal.queue.is_empty(), "clause 5 has failed them");
                None
            }
        }
    }

    /// Reads back where the oldest record under way should stand.
    pub(crate) fn look(&mut self, log: &Log, bug: Option<Bug>) -> Option<Answered> {
        let wanted = self.in_flight[0];
        if bug == Some(Bug::SendAgainUnread) {
            self.send_again(Append {
                expected: log.head(),
                ..wanted
            });
            return None;
        }
        match log.at(wanted.position()) {
            Some(found) if *found == wanted.record => Some(self.settled(How::ReadBack)),
            Some(_) if bug == Some(Bug::AnothersIsMine) => Some(self.settled(How::ReadBack)),
            Some(_) if bug == Some(Bug::TakeOverUnread) && self.reigns_from.is_none() => {
                self.begin_anew_at(log.head());
                None
            }
            Some(_) => {
                self.phase = Phase::Fenced;
                self.in_flight.clear();
                None
            }
            None => {
                self.send_again(wanted);
                None
            }
        }
    }

    fn send_again(&mut self, append: Append) {
        self.in_flight[0] = append;
        self.phase = Phase::SendingAgain;
        self.hand_over(append);
    }

    /// Only with [`Bug::TakeOverUnread`]: the end of the log has moved, and what moved it is not read.
    fn begin_anew_at(&mut self, head: u8) {
        let append = Append {
            expected: head,
            ..self.in_flight[0]
        };
        self.position = append.position();
        self.send_again(append);
    }

    /// The oldest record under way is durable; while mending, the next one is looked for.
    fn settled(&mut self, how: How) -> Answered {
        let answered = self.committed(how);
        self.phase = if self.in_flight.is_empty() {
            Phase::Leading
        } else {
            Phase::Mending
        };
        answered
    }

    fn committed(&mut self, how: How) -> Answered {
        let append = self.in_flight.remove(0);
        if self.reigns_from.is_none() {
            self.reigns_from = Some(append.position());
            self.phase = Phase::Leading;
        }
        (append.record.id, how)
    }
}
