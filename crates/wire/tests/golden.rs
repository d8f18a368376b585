//! Golden bodies: every file in `fixtures/wire` is read into its type and written again, and nothing of it is lost.
//!
//! These files are what clients have in hand. One that no longer passes is a breaking change, not a wrong file.

use std::{collections::BTreeSet, fs, path::PathBuf};

use eventflow_wire::v1::{
    Problem,
    calls::{CallBody, CallEvent},
    controls::ControlCommand,
    events::CloudEvent,
    executions::{ExecutionView, HistoryAnswer, ListAnswer, StartBody},
    flow::{CommandBody, Status},
    rejected::Rejected,
    system::{Health, System},
    tasks::{
        BeginAnswer, CompleteBody, DurableAnswer, FailBody, HeartbeatAnswer, HeartbeatBody,
        LeaseAnswer, LeaseBody, ResultItem, ResultsAnswer, ResultsBody,
    },
    triggers::PlatformEvent,
    workflows::{Validation, Workflow, WorkflowDocument, WorkflowList},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

type Check = fn(&str) -> Result<Value, serde_json::Error>;

const BODIES: &[(&str, Check)] = &[
    ("begin-answer", again::<BeginAnswer>),
    ("begin-answer-refused", again::<BeginAnswer>),
    ("begin-item", again::<ResultItem>),
    ("call-body", again::<CallBody>),
    ("call-failed", again::<CallEvent>),
    ("call-started", again::<CallEvent>),
    ("call-succeeded", again::<CallEvent>),
    ("cloud-event", again::<CloudEvent>),
    ("complete-body", again::<CompleteBody>),
    ("control-command", again::<ControlCommand>),
    ("durable-answer", again::<DurableAnswer>),
    ("execution-view", again::<ExecutionView>),
    ("fail-body", again::<FailBody>),
    ("flow-command-start", again::<CommandBody>),
    ("flow-command-stop", again::<CommandBody>),
    ("flow-status", again::<Status>),
    ("health", again::<Health>),
    ("heartbeat-answer", again::<HeartbeatAnswer>),
    ("heartbeat-body", again::<HeartbeatBody>),
    ("history-answer", again::<HistoryAnswer>),
    ("lease-answer", again::<LeaseAnswer>),
    ("lease-body", again::<LeaseBody>),
    ("list-answer", again::<ListAnswer>),
    ("platform-event", again::<PlatformEvent>),
    ("problem", again::<Problem>),
    ("rejected", again::<Rejected>),
    ("results-answer", again::<ResultsAnswer>),
    ("results-body", again::<ResultsBody>),
    ("start-body", again::<StartBody>),
    ("start-body-inline", again::<StartBody>),
    ("step-status", again::<Status>),
    ("system", again::<System>),
    ("validation", again::<Validation>),
    ("workflow", again::<Workflow>),
    ("workflow-document", again::<WorkflowDocument>),
    ("workflow-list", again::<WorkflowList>),
];

/// Reads a body and writes it, in its own key order, so that renamed, lost and added keys all show.
fn again<T: Serialize + DeserializeOwned>(text: &str) -> Result<Value, serde_json::Error> {
    let body: T = serde_json::from_str(text)?;
    serde_json::to_value(&body)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire")
}

#[test]
fn every_body_is_read_and_written_without_loss() {
    for (name, again) in BODIES {
        let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let written = again(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(written, golden, "{name}");
    }
}

#[test]
fn every_file_is_checked() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let checked = BODIES.iter().map(|(name, _)| format!("{name}.json"));
    assert_eq!(files, checked.collect());
}

#[test]
fn agents_of_a_later_version_are_understood() {
    let lease = r#"{"agent":"a","capabilities":["c"],"new":{"deep":[1]},"wait":"30s"}"#;
    let lease: LeaseBody = serde_json::from_str(lease).unwrap();
    assert_eq!(lease.max, 1);
    let results = r#"{"results":[{"token":"t","complete":{"output":1,"new":2},"new":3}]}"#;
    let results: ResultsBody = serde_json::from_str(results).unwrap();
    let output = &results.results[0].complete.as_ref().unwrap().output;
    assert_eq!(output.as_str(), "1");
}

#[test]
fn a_misspelt_key_of_a_start_is_refused_by_name() {
    for body in [
        r#"{"workflow":{"name":"order"},"executionID":"x"}"#,
        r#"{"workflow":{"name":"order","Version":"1.0.0"}}"#,
    ] {
        let refusal = serde_json::from_str::<StartBody>(body).unwrap_err();
        assert!(refusal.to_string().contains("unknown field"), "{refusal}");
    }
}

#[test]
fn what_an_agent_leaves_out_has_its_default() {
    let complete: CompleteBody = serde_json::from_str("{}").unwrap();
    assert_eq!(complete.output.as_str(), "null");
    let fail: FailBody = serde_json::from_str(r#"{"error":{}}"#).unwrap();
    assert!(fail.retryable);
    let error = eventflow_domain::Problem::from(fail.error);
    assert_eq!(error.status, 500);
    assert!(error.kind.ends_with("/errors/runtime"), "{}", error.kind);
}
