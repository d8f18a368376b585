//! What does not hold, and where.

use std::fmt;

use eventflow_domain::{ExecutionId, PartitionId, Position, Sequence, Tenant};
use serde::{Deserialize, Serialize, Serializer};

/// Findings that are kept; further ones are only counted. The first name the cause, and a thousand of the same kind say
/// no more than one.
pub const FINDINGS_MAX: usize = 1_000;

/// An invariant (DESIGN section 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum Invariant {
    /// The records are whole, in order, and each continues the one before.
    Chain,
    /// Every acknowledged start exists and ends, or can still end.
    I1,
    /// No task starts before what it needs; an execution's sequence has no gap.
    I2,
    /// One terminal event, and nothing after it.
    I3,
    /// One accepted result per task; extras are attempts of their own number.
    I4,
    /// After an acknowledged pause or stop nothing new is begun.
    I5,
    /// Limits are never exceeded and never leak.
    I6,
    /// Timers are never early, late within a bound.
    I7,
    /// One idempotency key, one execution.
    I8,
    /// No tenant sees a byte of another.
    I9,
    /// Every state-changing command is in the journal.
    I10,
    /// The view equals what its journal folds to.
    I11,
    /// Every open execution has a live cause.
    I12,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Chain,
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
        Self::I12,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::I1 => "I1",
            Self::I2 => "I2",
            Self::I3 => "I3",
            Self::I4 => "I4",
            Self::I5 => "I5",
            Self::I6 => "I6",
            Self::I7 => "I7",
            Self::I8 => "I8",
            Self::I9 => "I9",
            Self::I10 => "I10",
            Self::I11 => "I11",
            Self::I12 => "I12",
        }
    }

    /// What it says.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Chain => "the records are whole, in order, and each continues the one before",
            Self::I1 => "every acknowledged start exists and ends, or can still end",
            Self::I2 => "no task starts before what it needs; an execution's sequence has no gap",
            Self::I3 => "one terminal event, and nothing after it",
            Self::I4 => "one accepted result per task; extras are attempts of their own number",
            Self::I5 => "after an acknowledged pause or stop nothing new is begun",
            Self::I6 => "limits are never exceeded and never leak",
            Self::I7 => "timers are never early, late within a bound",
            Self::I8 => "one idempotency key, one execution",
            Self::I9 => "no tenant sees a byte of another",
            Self::I10 => "every state-changing command is in the journal",
            Self::I11 => "the view equals what its journal folds to",
            Self::I12 => "every open execution has a live cause",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Invariant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which invariant.
    pub invariant: Invariant,
    /// In which partition; none where evidence names what no partition has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// In which record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Whose execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Of which execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// At which of its events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.invariant)?;
        if let Some(partition) = self.partition {
            write!(f, " partition {partition}")?;
        }
        if let Some(position) = self.position {
            write!(f, " record {position}")?;
        }
        if let (Some(tenant), Some(execution)) = (&self.tenant, &self.execution) {
            write!(f, " {tenant}/{execution}")?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, " event {sequence}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// Where the checker is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) partition: Option<PartitionId>,
    pub(crate) position: Option<Position>,
    pub(crate) owner: Option<(Tenant, ExecutionId)>,
    pub(crate) sequence: Option<Sequence>,
}

/// Everything that was found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) kept: Vec<Violation>,
    pub(crate) count: u64,
}

impl Findings {
    pub(crate) fn add(&mut self, place: &Place, invariant: Invariant, detail: String) {
        self.count += 1;
        if self.kept.len() >= FINDINGS_MAX {
            return;
        }
        let (tenant, execution) = place.owner.clone().unzip();
        self.kept.push(Violation {
            invariant,
            partition: place.partition,
            position: place.position,
            tenant,
            execution,
            sequence: place.sequence,
            detail,
        });
    }
}
