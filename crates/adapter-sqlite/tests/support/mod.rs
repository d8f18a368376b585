//! What the tests of the store share.

// Each test file uses a part of it.
#![allow(dead_code)]

use std::{fs, path::Path};

use bytes::Bytes;
use eventflow_domain::{PartitionId, Position};
use eventflow_ports::{Journal, ReadLimit};
use tempfile::TempDir;

/// The only partition of most tests.
pub(crate) const P0: PartitionId = PartitionId(0);

/// A directory that goes with the test.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Appends records one after the other, the first at `from`.
pub(crate) async fn append(
    journal: &dyn Journal,
    from: u64,
    records: impl IntoIterator<Item = Bytes>,
) {
    for (last, record) in (from..).zip(records) {
        let position = journal.append(P0, Position(last), record).await;
        assert_eq!(position.expect("appended"), Position(last + 1));
    }
}

/// A record that says which one it is; `bytes` long.
pub(crate) fn record(number: u64, bytes: usize) -> Bytes {
    let mut record = number.to_be_bytes().to_vec();
    record.resize(bytes.max(8), u8::try_from(number % 251).expect("below 251"));
    record.into()
}

/// All records of the first partition, whose positions must have no gap.
pub(crate) async fn all(journal: &dyn Journal) -> Vec<Bytes> {
    let mut seen: Vec<Bytes> = Vec::new();
    loop {
        let after = Position(seen.len() as u64);
        let page = journal.read(P0, after, ReadLimit::REPLAY).await;
        let page = page.expect("read");
        if page.is_empty() {
            return seen;
        }
        for entry in page {
            assert_eq!(entry.position.0, seen.len() as u64 + 1, "no gap");
            seen.push(entry.record);
        }
    }
}

/// Copies the files of a store, as a power loss leaves them: what is taken later may be newer, so the heads come first.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    let entries = fs::read_dir(from).expect("listed");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("listed")).collect();
    files.sort_by_key(|file| file.file_name() != "journal.heads");
    for file in files {
        if file.file_type().expect("a type").is_file() {
            fs::copy(file.path(), to.join(file.file_name())).expect("copied");
        }
    }
}

/// The names and contents of the files in a directory.
pub(crate) fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("listed")
        .map(|entry| entry.expect("listed"))
        .filter(|entry| entry.file_type().expect("a type").is_file())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("read"))
        })
        .collect();
    files.sort();
    files
}
