//! The trace of a recorded run: what `record.c` and the load append to it, and how it is read.

use std::{fs::File, io::Write as _, ops::Range, path::Path, sync::Mutex};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

/// The size of `struct entry` in `record.c`.
const HEADER_BYTES: usize = 24;
/// The operation of an entry that the load appends.
const ACKNOWLEDGED: u32 = 100;

/// What was done, in the order in which it was done.
pub(crate) enum Entry {
    Opened {
        file: u32,
        emptied: bool,
        path: String,
    },
    Written {
        file: u32,
        at: usize,
        bytes: Range<usize>,
    },
    Resized {
        file: u32,
        to: usize,
    },
    SyncBegun {
        sync: u64,
    },
    Synced {
        file: u32,
        sync: u64,
    },
    Renamed {
        from: String,
        to: String,
    },
    Removed {
        path: String,
    },
    DirectoryMade {
        path: String,
    },
    Acknowledged(Acknowledged),
}

/// What the service has answered to its clients: from here on it must survive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Acknowledged {
    /// The service said that it is ready, at this time in milliseconds since 1970.
    Ready { at: i64 },
    /// This document.
    Registered { document: usize },
    /// This execution.
    Started { execution: String },
    /// Not durable by itself, but the token must stay good.
    Leased {
        execution: String,
        task: String,
        token: String,
    },
    /// This task's output.
    Completed { execution: String, task: String },
}

/// A whole trace.
pub(crate) struct Trace {
    bytes: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
}

impl Trace {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let header = bytes
                .get(at..at + HEADER_BYTES)
                .context("a header is cut")?;
            let small = |from: usize| {
                u32::from_ne_bytes(header[from..from + 4].try_into().expect("4 bytes"))
            };
            let large = |from: usize| {
                u64::from_ne_bytes(header[from..from + 8].try_into().expect("8 bytes"))
            };
            let begin = at + HEADER_BYTES;
            let end = begin + usize::try_from(large(16))?;
            let content = bytes.get(begin..end).context("an entry is cut")?;
            entries.push(entry(small(0), small(4), large(8), begin..end, content)?);
            at = end;
        }
        ensure!(
            !entries.is_empty(),
            "{} is empty: nothing was recorded",
            path.display()
        );
        Ok(Self { bytes, entries })
    }

    /// What a write wrote.
    pub(crate) fn content(&self, bytes: &Range<usize>) -> &[u8] {
        &self.bytes[bytes.clone()]
    }
}

fn entry(
    operation: u32,
    file: u32,
    at: u64,
    bytes: Range<usize>,
    content: &[u8],
) -> anyhow::Result<Entry> {
    let text = || std::str::from_utf8(content).map(str::to_owned);
    Ok(match operation {
        1 => Entry::Opened {
            file,
            emptied: at != 0,
            path: text()?,
        },
        2 => Entry::Written {
            file,
            at: usize::try_from(at)?,
            bytes,
        },
        3 => Entry::Resized {
            file,
            to: usize::try_from(at)?,
        },
        4 => Entry::SyncBegun { sync: at },
        5 => Entry::Synced { file, sync: at },
        6 => {
            let both = text()?;
            let (from, to) = both.split_once('\0').context("a rename has two paths")?;
            Entry::Renamed {
                from: from.to_owned(),
                to: to.to_owned(),
            }
        }
        7 => Entry::Removed { path: text()? },
        8 => Entry::DirectoryMade { path: text()? },
        ACKNOWLEDGED => Entry::Acknowledged(serde_json::from_slice(content)?),
        _ => bail!(
            "the service did what record.c and the disk of this test do not understand yet: {}",
            text()?
        ),
    })
}

/// Where the load writes down what was acknowledged to it, before it goes on.
pub(crate) struct Notes(Mutex<File>);

impl Notes {
    pub(crate) fn in_trace(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().append(true).create(true).open(path);
        Ok(Self(Mutex::new(file.context("the trace can be created")?)))
    }

    pub(crate) fn note(&self, acknowledged: &Acknowledged) -> anyhow::Result<()> {
        let content = serde_json::to_vec(acknowledged)?;
        let mut entry = Vec::new();
        entry.extend(ACKNOWLEDGED.to_ne_bytes());
        entry.extend([0; 12]);
        entry.extend((content.len() as u64).to_ne_bytes());
        entry.extend(content);
        // One write, so that it does not come in between another entry.
        let written = self.0.lock().expect("no note panics").write(&entry)?;
        ensure!(written == entry.len(), "a note was cut");
        Ok(())
    }
}
