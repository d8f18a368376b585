//! Identities: one type each, parsed once at the edge, cheap to clone.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The longest name that is accepted anywhere, in bytes (DESIGN section 10).
pub const NAME_BYTES_MAX: usize = 64;

/// A name that is not `[A-Za-z0-9_-]{1,64}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{given}` is not a name: use 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 _ -")]
pub struct InvalidName {
    /// What the name was to identify.
    pub what: &'static str,
    /// The text as given, cut to a length that fits an error message.
    pub given: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses a name: `[A-Za-z0-9_-]{1,64}`.
            pub fn parse(name: &str) -> Result<Self, InvalidName> {
                if is_name(name) {
                    Ok(Self(name.into()))
                } else {
                    Err(InvalidName { what: $what, given: name.chars().take(NAME_BYTES_MAX).collect() })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::parse(&name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

name!(
    /// The isolation boundary: every id, subject and row carries it.
    Tenant,
    "tenant"
);
name!(
    /// One run of a workflow, unique within its tenant.
    ExecutionId,
    "execution id"
);
name!(
    /// Whoever performs attempts.
    AgentName,
    "agent"
);
name!(
    /// The name of the queue that an agent serves.
    Capability,
    "capability"
);

name!(
    /// One running service, of one or many on the same store; another one after each start.
    NodeName,
    "node"
);

impl Tenant {
    /// The tenant of everything while there is no authentication (INTERFACES section 7).
    pub fn default_tenant() -> Self {
        Self("default".into())
    }
}

impl ExecutionId {
    /// The id of an execution whose start is made unique by `cause`: the same cause, the same id, on every node.
    ///
    /// `kind` keeps different sorts of causes apart (`idempotency-key`, `event`, `child`). 128 bits of SHA-256 in hex.
    pub fn derived(tenant: &Tenant, kind: &str, cause: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in [tenant.as_str(), kind].iter().chain(cause) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hex(&hash.finalize()[..16]).into())
    }
}

/// Carried from the trigger of an execution through all of its events (requirement E4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CorrelationId(pub Arc<str>);

/// A shard of executions with one writer at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The home of an execution among `partitions`.
    pub fn of(tenant: &Tenant, execution: &ExecutionId, partitions: u16) -> Self {
        let mut hash = Sha256::new();
        hash.update(tenant.as_str().as_bytes());
        hash.update([0]);
        hash.update(execution.as_str().as_bytes());
        let digest = hash.finalize();
        let number = u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes"));
        let home = number % u64::from(partitions.max(1));
        Self(u16::try_from(home).expect("a remainder of a u16 fits a u16"))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $type(pub $inner);

        impl $type {
            /// The next one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// One reign of one writer over a partition; the first is 1.
    Epoch(u64)
);
counter!(
    /// The place of a record in its partition's journal; the first is 1, 0 is before all.
    Position(u64)
);
counter!(
    /// The place of an event in its execution; the first is 1, without gaps.
    Sequence(u64)
);
counter!(
    /// One try of a task; the first is 1. It goes on counting when a task is activated again, so that
    /// `(execution, task, attempt)` never names two different tries.
    Attempt(u32)
);

/// The id of a public event: a UUID v7 of the event's time, its other bits from SHA-256 of execution and sequence, so
/// that the same event has the same id however often it is published (DESIGN section 4).
pub fn event_id(
    tenant: &Tenant,
    execution: &ExecutionId,
    sequence: Sequence,
    time: crate::Timestamp,
) -> Arc<str> {
    let cause = Sha256::digest(format!("{tenant}\0{execution}\0{sequence}"));
    let millis = u64::try_from(time.0).unwrap_or(0) << 16;
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[..6]);
    bytes[6..].copy_from_slice(&cause[..10]);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let text = hex(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
    .into()
}

/// SHA-256, shown in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads the 64 hex digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not a SHA-256 digest in hex"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 0xf)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
    text
}

/// A definition's name for people: namespace, name and version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkflowId {
    /// Groups definitions, `default` where nothing is said.
    pub namespace: Arc<str>,
    /// Unique within its namespace.
    pub name: Arc<str>,
    /// A semantic version.
    pub version: Arc<str>,
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.version)
    }
}

/// Where a task stands: the JSON Pointer of its node in the document, and the iteration path, outermost index first.
///
/// Written as the pointer alone, or inside of loops as `[pointer, [indices]]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "WrittenReference", into = "WrittenReference")]
pub struct TaskReference {
    /// RFC 6901, as `/do/0/charge`.
    pub pointer: Arc<str>,
    /// Empty outside of loops.
    pub iteration: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenReference {
    Pointer(Arc<str>),
    Iterated(Arc<str>, Vec<u32>),
}

impl From<WrittenReference> for TaskReference {
    fn from(written: WrittenReference) -> Self {
        match written {
            WrittenReference::Pointer(pointer) => Self {
                pointer,
                iteration: Vec::new(),
            },
            WrittenReference::Iterated(pointer, iteration) => Self { pointer, iteration },
        }
    }
}

impl From<TaskReference> for WrittenReference {
    fn from(reference: TaskReference) -> Self {
        if reference.iteration.is_empty() {
            Self::Pointer(reference.pointer)
        } else {
            Self::Iterated(reference.pointer, reference.iteration)
        }
    }
}

impl TaskReference {
    /// A task outside of any loop.
    pub fn at(pointer: &str) -> Self {
        Self {
            pointer: pointer.into(),
            iteration: Vec::new(),
        }
    }
}

impl fmt::Display for TaskReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pointer)?;
        self.iteration
            .iter()
            .try_for_each(|index| write!(f, "[{index}]"))
    }
}
