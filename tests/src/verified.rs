//! The independent checker on the store that a test leaves behind: `eventflow verify`, with what the test was told as
//! evidence.

use std::{io::Write as _, path::Path, time::Duration};

use serde_json::Value;

use crate::{process, service};

/// Checks every invariant on the store in `directory/store`, once its service has ended, and panics with what does not
/// hold. Evidence is what was acknowledged, as `eventflow verify --help` says.
#[track_caller]
pub fn verified(directory: &Path, evidence: &[Value]) -> Value {
    verified_at(&service::sqlite_url(directory), evidence)
}

/// The same for a store by its URL.
#[track_caller]
pub fn verified_at(store: &str, evidence: &[Value]) -> Value {
    verified_within(process::END_MAX, store, evidence)
}

/// The same for a store so large that it takes longer.
#[track_caller]
pub fn verified_within(limit: Duration, store: &str, evidence: &[Value]) -> Value {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    for line in evidence {
        writeln!(file, "{line}").expect("the evidence is written");
    }
    let path = file.path().to_str().expect("a temporary path is text");
    let mut verify = service::eventflow(&[
        "verify",
        "--store",
        store,
        "--evidence",
        path,
        "--output",
        "json",
    ]);
    let said = process::run_within(&mut verify, limit);
    assert!(
        matches!(said.code, Some(0 | 1)),
        "the store cannot be verified: {said:#?}"
    );
    let report = said.json();
    assert_eq!(report["found"], 0, "{report:#}");
    assert_eq!(said.code, Some(0), "{report:#}");
    let records = report["partitions"].as_array().into_iter().flatten();
    let records = records.filter_map(|partition| partition["records"].as_u64());
    assert!(records.sum::<u64>() > 0, "nothing was verified: {report:#}");
    report
}
