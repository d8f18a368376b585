//! Golden histories: every file in `fixtures/histories/` folds to the state beside it, for ever.
//!
//! **They are read-only once they are released.** A change that breaks one needs a new event version, not a new
//! fixture. A file for a new scenario is written, and an existing one never touched, by
//! `EVENTFLOW_NEW_HISTORIES=1 cargo nextest run -p eventflow-domain golden`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use eventflow_domain::{
    Digest, ExecutionId, Json, Sequence, Tenant, Timestamp,
    execution::{Event, Execution},
};

use crate::{
    scenarios::{SCENARIOS, Scenario},
    support::{laws, run::identity},
};

/// The first line of a history.
#[derive(Serialize, Deserialize)]
struct Meta {
    tenant: Tenant,
    execution: ExecutionId,
    digest: Digest,
    document: Json,
}

/// Every other line.
#[derive(Serialize, Deserialize)]
struct Line {
    sequence: Sequence,
    time: Timestamp,
    event: Json,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/histories")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All histories by name.
fn histories() -> Vec<(String, Meta, Vec<Line>)> {
    let entries = fs::read_dir(folder()).expect("fixtures/histories can be read");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let text = read(path);
            let mut lines = text.lines();
            let meta = serde_json::from_str(lines.next().expect("a first line"))
                .expect("the first line is its meta");
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (
                name,
                meta,
                lines
                    .map(|line| serde_json::from_str(line).expect("a line is an event"))
                    .collect(),
            )
        })
        .collect()
}

fn state(name: &str) -> Execution {
    let path = folder().join(format!("{name}.state.json"));
    serde_json::from_str(&read(&path)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn events(lines: &[Line]) -> Vec<(Event, Timestamp)> {
    let event = |line: &Line| {
        (
            line.event.read().expect("an event of any version is read"),
            line.time,
        )
    };
    lines.iter().map(event).collect()
}

#[test]
fn every_history_folds_to_the_state_beside_it() {
    let histories = histories();
    assert!(histories.len() >= 6, "only {} histories", histories.len());
    for (name, meta, lines) in histories {
        assert!(
            lines
                .iter()
                .map(|line| line.sequence.0)
                .eq(1..=lines.len() as u64),
            "{name} has a gap"
        );
        let events = events(&lines);
        let events = events.iter().map(|(event, at)| (event, *at));
        let folded =
            Execution::fold(meta.tenant, meta.execution, events).expect("it begins with a request");
        assert_eq!(folded, state(&name), "{name}");
    }
}

#[test]
fn every_event_is_written_as_it_was() {
    for (name, _, lines) in histories() {
        for line in lines {
            let event: Event = line.event.read().expect("an event of any version is read");
            assert_eq!(
                Json::of(&event).as_str(),
                line.event.as_str(),
                "event {} of {name}",
                line.sequence
            );
        }
    }
}

#[test]
fn every_history_obeys_the_laws_of_its_document() {
    for (name, meta, lines) in histories() {
        let plan = eventflow_dsl::compile(&meta.document)
            .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_eq!(plan.digest, meta.digest, "{name}");
        laws::check(&plan, &events(&lines));
    }
}

#[test]
fn every_scenario_has_its_history() {
    for scenario in SCENARIOS {
        let scenario = scenario();
        let path = folder().join(format!("{}.jsonl", scenario.name));
        if !path.exists() && std::env::var_os("EVENTFLOW_NEW_HISTORIES").is_some() {
            write(&scenario, &path);
        }
        let hint =
            "write it with EVENTFLOW_NEW_HISTORIES=1 cargo nextest run -p eventflow-domain golden";
        assert!(
            path.exists(),
            "{} has no golden history: {hint}",
            scenario.name
        );
    }
}

/// Writes a history that is not there yet.
fn write(scenario: &Scenario, path: &Path) {
    let plan = scenario.plan();
    let run = scenario.run(&plan);
    let (tenant, execution) = identity();
    let meta = Meta {
        tenant,
        execution,
        digest: plan.digest,
        document: scenario.parsed(),
    };
    let mut text = format!("{}\n", Json::of(&meta).as_str());
    for (sequence, (event, time)) in (1..).map(Sequence).zip(&run.history) {
        let line = Line {
            sequence,
            time: *time,
            event: Json::of(event),
        };
        text.push_str(Json::of(&line).as_str());
        text.push('\n');
    }
    let state = serde_json::to_string_pretty(&run.execution).expect("an execution serialises");
    create(
        &folder().join(format!("{}.state.json", scenario.name)),
        &format!("{state}\n"),
    );
    create(path, &text);
}

fn create(path: &Path, text: &str) {
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    let mut file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.write_all(text.as_bytes())
        .expect("the fixture is written");
}
