//! What becomes of what was not synced when the power fails.

use std::{collections::HashMap, ops::Range};

use fastrand::Rng;

/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;
/// What a file system hands to it at a time.
const PAGE_BYTES: usize = 4096;

/// What a fate is decided for, each part for itself where the fate is mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The unit that holds this byte.
    At(usize),
    /// A change of names, by its number.
    Name(usize),
    /// The file's size.
    Size,
}

/// What becomes of one file, or of all names.
pub(crate) struct Fate {
    kind: Kind,
    /// Units are decided for one by one.
    unit: usize,
    /// The first change that is not certain, and the moment of the loss.
    span: Range<usize>,
    rng: Rng,
    limits: HashMap<Part, usize>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Nothing has reached the disk.
    Nothing,
    Everything,
    /// What came before this change, in order.
    UpTo(usize),
    /// Of each unit, what came before some change of its own.
    Mixed,
}

/// Whether all of the disk has the same fate.
pub(crate) struct Moment {
    all: Option<Kind>,
    now: usize,
}

impl Moment {
    pub(crate) fn draw(rng: &mut Rng, now: usize) -> Self {
        let all = match rng.u8(0..8) {
            0 => Some(Kind::Nothing),
            1 => Some(Kind::Everything),
            _ => None,
        };
        Self { all, now }
    }

    /// The fate of a file, or of the names, whose first change that is not certain is this.
    pub(crate) fn fate(&self, rng: &mut Rng, first: Option<usize>) -> Fate {
        let span = first.unwrap_or(self.now)..self.now + 1;
        let kind = match rng.u8(0..6) {
            0 => Kind::Nothing,
            1 => Kind::Everything,
            2 => Kind::UpTo(rng.usize(span.clone())),
            _ => Kind::Mixed,
        };
        Fate {
            kind: self.all.unwrap_or(kind),
            unit: if rng.u8(0..3) == 0 {
                PAGE_BYTES
            } else {
                SECTOR_BYTES
            },
            span,
            rng: rng.fork(),
            limits: HashMap::new(),
        }
    }
}

impl Fate {
    /// Of what was synced.
    pub(crate) fn everything() -> Self {
        Self {
            kind: Kind::Everything,
            unit: SECTOR_BYTES,
            span: 0..1,
            rng: Rng::with_seed(0),
            limits: HashMap::new(),
        }
    }

    /// Whether this part is as this change, or a later one, has left it.
    pub(crate) fn reaches(&mut self, part: Part, change: usize) -> bool {
        match self.kind {
            Kind::Nothing => false,
            Kind::Everything => true,
            Kind::UpTo(limit) => change < limit,
            Kind::Mixed => change < self.limit(part),
        }
    }

    fn limit(&mut self, part: Part) -> usize {
        let part = match part {
            Part::At(at) => Part::At(at / self.unit),
            Part::Name(_) | Part::Size => part,
        };
        let (rng, span) = (&mut self.rng, &self.span);
        *self
            .limits
            .entry(part)
            .or_insert_with(|| match rng.u8(0..3) {
                0 => span.start,
                1 => span.end,
                _ => rng.usize(span.clone()),
            })
    }

    /// Where the piece ends that begins here, of a write that ends at `end`: each is decided for by itself.
    pub(crate) fn piece_end(&self, begin: usize, end: usize) -> usize {
        match self.kind {
            Kind::Mixed => end.min((begin / self.unit + 1) * self.unit),
            Kind::Nothing | Kind::Everything | Kind::UpTo(_) => end,
        }
    }
}
