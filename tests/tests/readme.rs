//! The README's first minutes, word for word: its commands are run by bash against the real service.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use eventflow_tests::{Said, Service, process, workspace};
use serde_json::Value;

/// The commands of a chapter, block by block: what is indented by four spaces, with the blank lines inside of it.
fn blocks(chapter: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("there is a README");
    let begin = readme
        .find(&format!("\n## {chapter}\n"))
        .expect("the chapter is there")
        + 1;
    let text = &readme[begin..];
    let text = &text[..text[1..].find("\n## ").map_or(text.len(), |end| end + 1)];
    let mut blocks: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(command) if is_open => {
                let block = blocks.last_mut().expect("one is open");
                block.push_str(command);
                block.push('\n');
            }
            Some(command) => {
                blocks.push(format!("{command}\n"));
                is_open = true;
            }
            None if line.is_empty() && is_open => {
                blocks.last_mut().expect("one is open").push('\n');
            }
            None => is_open = false,
        }
    }
    blocks
}

/// Runs commands in a folder as a person would, against the service instead of the one on the usual port.
fn bash(directory: &Path, service: &Service, commands: &str) -> Said {
    let address = service.url.trim_start_matches("http://");
    let commands = commands
        .replace("127.0.0.1:8080", address)
        .replace("localhost:8080", address);
    assert!(!commands.contains("8080"), "{commands}");
    let script = format!("set -eu -o pipefail\n{commands}");
    let mut bash = Command::new("bash");
    process::run(bash.current_dir(directory).args(["-c", &script])).exits(0)
}

/// A folder where `cargo run --release` finds what it finds in the repository.
fn checkout() -> (tempfile::TempDir, Service) {
    let directory = tempfile::tempdir().expect("there is a temporary folder");
    let fixtures: PathBuf = directory.path().join("fixtures");
    std::fs::create_dir(&fixtures).expect("it is empty");
    std::os::unix::fs::symlink(
        workspace().join("fixtures/workflows"),
        fixtures.join("workflows"),
    )
    .expect("a link can be made");
    let service = Service::start(directory.path(), &[]);
    (directory, service)
}

#[test]
fn what_the_readme_says_is_what_happens() {
    let blocks = blocks("Run it");
    let [run, start, agent, view, failing, steered] = &blocks[..] else {
        panic!("the README has other commands now: {blocks:#?}")
    };
    assert_eq!(run.trim(), "cargo run --release");
    let (directory, service) = checkout();
    let run = |commands: &str| bash(directory.path(), &service, commands);

    let started = run(start).json();
    assert_eq!(started["executionId"], "order-1");
    assert_eq!(started["status"], "running");

    // `watch &`, and then the two commands that are said to be needed once more.
    let (watch, perform) = agent.split_once("\n\n").expect("first it watches");
    let watch = watch
        .strip_suffix('&')
        .expect("it watches in the background");
    let commands = format!("{watch} >events &\n{perform}\necho\n{perform}\necho\nwait\n");
    let performed = run(&commands);
    assert_eq!(performed.out, "{}\n{}\n", "a result was not accepted");
    let events = std::fs::read_to_string(directory.path().join("events")).expect("it is written");
    let kinds: Vec<&str> = (events.lines())
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(kinds.first(), Some(&"workflow_execution_requested"));
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == "task_completed")
            .count(),
        4
    );
    assert_eq!(kinds.last(), Some(&"workflow_execution_completed"));

    let ended = run(view).json();
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["output"]["status"], "confirmed", "{ended}");
    assert_eq!(ended["output"]["payment"]["receipt"], "r-1", "{ended}");

    let failed = run(failing).json();
    assert_eq!(failed["status"], "faulted", "{failed}");
    for member in ["type", "title", "detail", "instance"] {
        let said = failed["error"][member].as_str().unwrap_or_default();
        assert!(!said.is_empty(), "no {member} in {failed}");
    }

    // A line of output for each command.
    let steered: String = steered
        .lines()
        .map(|line| {
            if line.ends_with('\\') || line.is_empty() {
                format!("{line}\n")
            } else {
                format!("{line}; echo\n")
            }
        })
        .collect();
    let answers = run(&steered).json_lines();
    let [started, paused, explained, stopped] = &answers[..] else {
        panic!("{answers:#?}")
    };
    assert_eq!(started["status"], "running");
    assert_eq!(paused["status"], "suspended");
    assert_eq!(explained["waitsFor"][0]["cause"], "resume", "{explained}");
    assert_eq!(stopped["status"], "cancelled");
}

#[test]
fn the_workflows_that_ship_run_as_their_comments_say() {
    let (directory, service) = checkout();
    let comments = |name: &str| {
        let path = workspace().join("fixtures/workflows").join(name);
        let text = std::fs::read_to_string(path).expect("it ships");
        let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
        let command: Vec<&str> = lines
            .take_while(|line| !line.starts_with("eventflow"))
            .collect();
        command.join("\n")
    };
    let run = |name: &str| -> Value { bash(directory.path(), &service, &comments(name)).json() };
    let greeting = run("set-only.yaml");
    assert_eq!(
        greeting["output"],
        serde_json::json!({"greeting": "Hello, Ada!", "length": 11})
    );
    assert_eq!(run("conditional.yaml")["output"]["decision"], "review");
    assert_eq!(
        run("clear-failure.yaml")["error"]["instance"],
        "/do/1/refuse"
    );
    assert_eq!(run("order.yaml")["status"], "running");
}

#[test]
fn flags_and_commands_that_are_promised_are_there() {
    let help = process::run(eventflow_tests::service::program(workspace()).arg("--help")).exits(0);
    for flag in [
        "--listen",
        "--store",
        "--workflows",
        "--partitions",
        "--http-allow",
        "--config",
        "--log",
    ] {
        assert!(help.out.contains(flag), "no {flag} in {}", help.out);
    }
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("there is a README");
    let commands = eventflow_tests::process::run(
        eventflow_tests::service::eventflow(&["--help"]).env("COLUMNS", "200"),
    )
    .exits(0);
    let rows = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `eventflow "));
    let mut named = 0;
    for row in rows {
        let command = row.split([' ', '`']).next().unwrap_or_default();
        let listed = commands
            .out
            .lines()
            .any(|line| line.trim_start().starts_with(command));
        assert!(listed, "no {command} in {}", commands.out);
        named += 1;
    }
    assert!(named >= 5, "the README's table of commands is gone");
}
