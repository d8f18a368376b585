//! Commands that need no service: run, validate, completions; and what is said where one is missing.

use crate::support::{Said, eventflow, file, path, run};
use serde_json::{Value, json};

const GREET: &str = "\
document: {dsl: 1.0.3, namespace: default, name: greet, version: 1.0.0}
do:
  - greet:
      set: {greeting: '${ \"Hello, \" + .name }'}
";
const FAULTY: &str = "\
document: {dsl: 1.0.3, namespace: default, name: faulty, version: 1.0.0}
do:
  - first: {set: {a: 1}}
  - explode:
      raise:
        error: {type: https://example.com/errors/boom, status: 418, title: Boom, detail: it went off}
";
const INVALID: &str = "\
document: {dsl: 1.0.3, namespace: default, name: wrong, version: 1.0.0}
do:
  - a:
      frobnicate: 1
  - b:
      set: {x: '${ .a | nonsense }'}
";

#[test]
fn run_prints_the_output_and_shows_the_tasks() {
    let document = file(GREET);
    let said = run(&["run", path(&document), "--input", r#"{"name": "Ada"}"#]).exits(0);
    assert_eq!(said.json(), json!({ "greeting": "Hello, Ada" }));
    assert!(
        said.err.contains("greet") && said.err.contains("completed"),
        "{}",
        said.err
    );
    assert!(
        !said.err.contains('\u{1b}'),
        "no colour where nobody looks: {}",
        said.err
    );
}

#[test]
fn run_takes_its_input_from_a_file_and_gives_the_whole_view_as_json() {
    let (document, input) = (file(GREET), file(r#"{"name": "Bob"}"#));
    let from = format!("@{}", path(&input));
    let said = run(&["run", path(&document), "--input", &from, "--output", "json"]).exits(0);
    let view = said.json();
    assert_eq!(view["status"], "completed");
    assert_eq!(view["output"]["greeting"], "Hello, Bob");
    assert_eq!(view["tasks"][0]["reference"], "/do/0/greet");
    assert_eq!(said.err, "");
}

#[test]
fn a_fault_is_told_with_its_type_title_detail_and_task() {
    let document = file(FAULTY);
    let said = run(&["run", path(&document)]).exits(1);
    assert_eq!(said.out, "");
    for part in [
        "https://example.com/errors/boom",
        "Boom",
        "it went off",
        "/do/1/explode",
    ] {
        assert!(said.err.contains(part), "{part} in {}", said.err);
    }
}

#[test]
fn an_invalid_document_is_not_run() {
    let document = file(INVALID);
    let said = run(&["run", path(&document)]).exits(1);
    assert!(said.out.contains("/do/0/a"), "{}", said.out);
}

#[test]
fn validate_names_every_fault_with_line_column_and_pointer() {
    let (good, bad) = (file(GREET), file(INVALID));
    let said = run(&["validate", path(&good), path(&bad)]).exits(1);
    assert!(
        said.out.contains("valid default/greet:1.0.0"),
        "{}",
        said.out
    );
    let of = |pointer: &str| {
        let line = said.out.lines().find(|line| line.contains(pointer));
        line.unwrap_or_else(|| panic!("{pointer} in {}", said.out))
            .to_owned()
    };
    assert!(of("/do/0/a").contains(&format!("{}:", path(&bad))));
    assert!(
        of("/do/1/b").starts_with(&format!("{}:6:", path(&bad))),
        "{}",
        said.out
    );
    run(&["validate", path(&good)]).exits(0);
}

#[test]
fn validate_says_the_same_as_json() {
    let bad = file(INVALID);
    let said = run(&["validate", path(&bad), "--output", "json"]).exits(1);
    let checked = said.json();
    assert_eq!(checked["valid"], false);
    let errors = checked["errors"].as_array().unwrap();
    assert!(errors.len() >= 2, "{checked}");
    assert!(
        errors.iter().all(|error| error["line"].as_u64() > Some(2)),
        "{checked}"
    );
}

#[test]
fn a_missing_file_and_a_missing_service_are_said_in_a_line() {
    let said = run(&["validate", "/no/such/file.yaml"]).exits(2);
    assert!(said.err.contains("/no/such/file.yaml"), "{}", said.err);
    // Port 9 discards; nobody listens there.
    let said = run(&["--server", "http://127.0.0.1:9", "list"]).exits(2);
    assert!(
        said.err.contains("http://127.0.0.1:9") && said.err.contains("refused"),
        "{}",
        said.err
    );
    assert_eq!(said.err.lines().count(), 1);
    let said = run(&["--server", "http://127.0.0.1:9", "list", "--output", "json"]).exits(2);
    let problem: Value = serde_json::from_str(&said.err).unwrap();
    assert!(
        problem["problem"]["detail"]
            .as_str()
            .unwrap()
            .contains("127.0.0.1:9")
    );
    let said = run(&["--server", "localhost", "list"]).exits(2);
    assert!(said.err.contains("http://host:port"), "{}", said.err);
}

#[test]
fn an_agent_over_nats_says_what_it_lacks() {
    let exec = |arguments: &[&str]| {
        let arguments = [&["agent", "exec", "-C", "work"], arguments, &["--", "true"]].concat();
        run(&arguments).exits(2).err
    };
    let said = exec(&["--nats", "nats://ada:s3cret@host:port"]);
    assert!(
        said.contains("nats://host:port") && !said.contains("s3cret"),
        "{said}"
    );
    let said = exec(&["--nats", "nats://host", "--creds", "no/such.creds"]);
    assert!(said.contains("no/such.creds"), "{said}");
    let said = exec(&["--nats", "nats://host", "--tenant", "a b"]);
    assert!(said.contains("a b"), "{said}");
    // Over HTTP neither would mean anything.
    for alone in [
        ["--creds", "a.creds"],
        ["--tenant", "acme"],
        ["--prefix", "test"],
    ] {
        let said = exec(&alone);
        assert!(said.contains("--nats"), "{said}");
    }
}

#[test]
fn usage_is_explained() {
    let said = run(&["--help"]).exits(0);
    for command in [
        "run", "validate", "workflow", "start", "list", "show", "watch", "history", "agent",
        "bench",
    ] {
        assert!(
            said.out.contains(&format!("  {command} ")),
            "{command} in {}",
            said.out
        );
    }
    assert!(!said.out.contains("bench-agent"), "hidden: {}", said.out);
    run(&["frobnicate"]).exits(2);
    assert!(
        run(&["completions", "bash"])
            .exits(0)
            .out
            .contains("eventflow")
    );
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child = eventflow(&["completions", "zsh"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let said = Said::of(child.wait_with_output().unwrap());
    assert!(!said.err.contains("panicked"), "{}", said.err);
}
