//! The journal's side of the model: one log, what is on its way to it, and what its port promises.

/// A writer's number, in the order of their starts.
pub(crate) type WriterId = u8;

/// Which record: whose, and the how manieth of its epoch. The first is `EpochStarted`.
pub(crate) type RecordId = (WriterId, u8);

/// A record. Two that are equal have the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) id: RecordId,
    pub(crate) epoch: u8,
    /// The record whose hash it carries.
    pub(crate) previous: Option<RecordId>,
}

/// An append as it was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Append {
    /// The position that it follows.
    pub(crate) expected: u8,
    pub(crate) record: Record,
}

impl Append {
    pub(crate) fn position(self) -> u8 {
        self.expected + 1
    }
}

/// What a writer hears of an append. It treats `Conflict` and `Unavailable` alike: it reads back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Written,
    Failed,
}

/// One writer's instance of the port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    /// Handed over and not yet carried out, in the order of the calls (clause 4).
    pub(crate) queue: Vec<Append>,
    /// Not yet heard by the writer, in the same order.
    pub(crate) answers: Vec<Answer>,
}

impl Instance {
    /// Whether an append has failed of which the writer does not know.
    pub(crate) fn has_untold_failure(&self) -> bool {
        self.answers.contains(&Answer::Failed)
    }
}

/// An append whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Late {
    append: Append,
    /// It stood behind another one whose answer was lost: where that one is missing, it must not be written (clause 5).
    only_behind_its_own: bool,
}

/// A partition's log, and appends that their writers have given up and that may still arrive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    pub(crate) records: Vec<Record>,
    /// Unordered: kept sorted, so that equal states are equal.
    pub(crate) late: Vec<Late>,
    /// How many answers have been lost so far.
    pub(crate) lost_answers: u8,
}

impl Log {
    pub(crate) fn head(&self) -> u8 {
        u8::try_from(self.records.len()).expect("a model's log is short")
    }

    /// What stands at a position, the first being 1.
    pub(crate) fn at(&self, position: u8) -> Option<&Record> {
        self.records.get(usize::from(position).checked_sub(1)?)
    }

    /// Writes where the append expects to, and nowhere else (clauses 1 and 2), unless the fence is down.
    pub(crate) fn carry_out(&mut self, append: Append, fenced: bool) -> Answer {
        if fenced && append.expected != self.head() {
            return Answer::Failed;
        }
        self.records.push(append.record);
        Answer::Written
    }

    pub(crate) fn keep_late(&mut self, append: Append, only_behind_its_own: bool) {
        self.late.push(Late {
            append,
            only_behind_its_own,
        });
        self.late.sort_by_key(|late| late.append.record.id);
    }

    /// An append arrives of which nobody hears any more.
    pub(crate) fn arrive(&mut self, which: usize, fenced: bool) {
        let late = self.late.remove(which);
        let last = self.records.last().map(|record| record.id);
        if !late.only_behind_its_own || last == late.append.record.previous {
            let _ = self.carry_out(late.append, fenced);
        }
    }
}
