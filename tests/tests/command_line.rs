//! The command line against the real service, as a program uses it: piped, with exit codes.

use eventflow_tests::{Background, Said, Service, process, service::eventflow, workspace};
use serde_json::{Value, json};

const INVALID: &str = "\
document: {dsl: 1.0.3, namespace: default, name: wrong, version: 1.0.0}
do:
  - a:
      frobnicate: 1
  - b:
      set: {x: '${ .a | nonsense }'}
";
const FIXTURES: [&str; 10] = [
    "clear-failure.yaml",
    "conditional.yaml",
    "fastest-quote.yaml",
    "n-shape.json",
    "order.yaml",
    "parallel-checks.yaml",
    "payment-with-compensation.yaml",
    "reminder.yaml",
    "retrying.yaml",
    "set-only.yaml",
];

fn fixture(name: &str) -> String {
    let path = workspace().join("fixtures/workflows").join(name);
    path.to_str()
        .expect("the workspace's path is text")
        .to_owned()
}

fn alone(arguments: &[&str]) -> Said {
    process::run(&mut eventflow(arguments))
}

#[track_caller]
fn contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
}

#[test]
fn every_shipped_workflow_is_valid() {
    let files = FIXTURES.map(fixture);
    let arguments: Vec<&str> = std::iter::once("validate")
        .chain(files.iter().map(String::as_str))
        .collect();
    let said = alone(&arguments).exits(0);
    assert_eq!(said.out.lines().count(), FIXTURES.len(), "{}", said.out);
    contains(&said.out, &["default/order:1.0.0", "default/n-shape:1.0.0"]);
    let shipped = std::fs::read_dir(workspace().join("fixtures/workflows")).unwrap();
    assert_eq!(
        shipped.count(),
        FIXTURES.len(),
        "a new one ships: name it here"
    );
}

#[test]
fn every_fault_of_a_document_is_shown_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.yaml");
    std::fs::write(&file, INVALID).unwrap();
    let file = file.to_str().unwrap();
    let said = alone(&["validate", file]).exits(1);
    contains(
        &said.out,
        &[
            "wrong.yaml:4:7: /do/0/a/frobnicate",
            "wrong.yaml:6:13: /do/1/b/set/x",
            "`nonsense`",
            "3 faults",
        ],
    );
    let said = alone(&["validate", &fixture("order.yaml"), file, "--output", "json"]).exits(1);
    let [order, wrong] = &said.json_lines()[..] else {
        panic!("one line a file: {said:?}")
    };
    assert_eq!(order["valid"], true);
    let pointers: Vec<&Value> = wrong["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["pointer"])
        .collect();
    assert_eq!(pointers, ["/do/0/a/frobnicate", "/do/0/a", "/do/1/b/set/x"]);
    alone(&["validate", "nowhere.yaml"]).exits(2);
}

#[test]
fn a_document_runs_without_a_service() {
    let file = fixture("set-only.yaml");
    let said = alone(&["run", &file, "--input", r#"{"name": "Ada"}"#]).exits(0);
    assert_eq!(
        said.json(),
        json!({"greeting": "Hello, Ada!", "length": 11})
    );
    contains(&said.err, &["greet", "measure", "completed"]);
    let view = alone(&["run", &file, "--output", "json"]).exits(0).json();
    assert_eq!(view["output"]["greeting"], "Hello, world!");

    let said = alone(&[
        "run",
        &fixture("clear-failure.yaml"),
        "--input",
        r#"{"sku": "anvil"}"#,
    ])
    .exits(1);
    assert_eq!(said.out, "");
    contains(&said.err, &["Out of stock", "1 of anvil", "/do/1/refuse"]);
}

#[test]
fn workflows_are_applied_listed_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &[]);
    let (order, greeting) = (fixture("order.yaml"), fixture("set-only.yaml"));
    let apply = ["workflow", "apply", &order, &greeting];
    let said = service.eventflow(&apply).exits(0);
    assert_eq!(
        said.out,
        "registered default/order:1.0.0\nregistered default/greeting:1.0.0\n"
    );
    let said = service.eventflow(&apply).exits(0);
    assert_eq!(
        said.out,
        "unchanged default/order:1.0.0\nunchanged default/greeting:1.0.0\n"
    );

    let said = service.eventflow(&["workflow", "list"]).exits(0);
    let names: Vec<&str> = (said.out.lines().skip(1))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(names, ["greeting", "order"]);
    let list = service
        .eventflow(&["workflow", "list", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(list["workflows"].as_array().unwrap().len(), 2);
    let document = service
        .eventflow(&["workflow", "show", "order"])
        .exits(0)
        .json();
    assert_eq!(document["do"][3]["confirm"]["set"]["status"], "confirmed");

    let changed = directory.path().join("changed.yaml");
    let text = std::fs::read_to_string(&greeting).unwrap();
    std::fs::write(&changed, text.replace("Hello", "Bye")).unwrap();
    let said = service
        .eventflow(&["workflow", "apply", changed.to_str().unwrap()])
        .exits(2);
    contains(&said.err, &["409", "changed.yaml"]);
    std::fs::write(&changed, INVALID).unwrap();
    let said = service
        .eventflow(&["workflow", "apply", changed.to_str().unwrap()])
        .exits(1);
    contains(&said.out, &["/do/0/a/frobnicate", "/do/1/b/set/x"]);
}

#[test]
fn an_execution_is_started_watched_and_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::with_fixtures(directory.path());
    let run = |arguments: &[&str]| service.eventflow(arguments);
    let _agent = Background::start(&mut service.eventflow_command(&[
        "agent",
        "exec",
        "-C",
        "charge",
        "-C",
        "ship",
        "--",
        "sh",
        "-c",
        "echo done",
    ]));
    let input =
        json!({"orderId": "o-1", "amount": 42, "inventoryUrl": format!("{}/healthz", service.url)});
    let input = input.to_string();
    let start = [
        "start", "order", "--id", "order-1", "--label", "team:a", "--input", &input,
    ];
    assert_eq!(run(&start).exits(0).out, "order-1\n");

    // Piped: a line for each change on stderr, the output alone on stdout.
    let said = run(&["watch", "order-1"]).exits(0);
    assert_eq!(said.json()["payment"], "done");
    contains(&said.err, &["order-1", "completed"]);
    assert!(
        !said.err.contains('\u{1b}'),
        "colours in a pipe: {}",
        said.err
    );
    let events = run(&["watch", "order-1", "--output", "json"])
        .exits(0)
        .json_lines();
    assert_eq!(events[0]["type"], "workflow_execution_requested");
    assert_eq!(
        events.last().unwrap()["type"],
        "workflow_execution_completed"
    );

    // Started again it is the same one, which is over.
    let said = run(&[&start[..], &["--wait"]].concat()).exits(0);
    assert_eq!(said.json()["status"], "confirmed");

    let said = run(&["show", "order-1"]).exits(0);
    assert!(
        said.out
            .starts_with("order-1  completed  default/order:1.0.0"),
        "{}",
        said.out
    );
    contains(
        &said.out,
        &["4 of 4 tasks completed", "checkInventory", "team:a"],
    );
    let view = run(&["show", "order-1", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(view["output"]["shipment"], "done");

    let said = run(&["history", "order-1", "--verify"]).exits(0);
    contains(&said.err, &["verified: 13 events"]);
    contains(
        &said.out,
        &["execution_requested", "task_started", "execution_completed"],
    );
    let history = run(&["history", "order-1", "--output", "json"])
        .exits(0)
        .json_lines();
    let sequences: Vec<_> = history
        .iter()
        .map(|event| event["sequence"].as_u64())
        .collect();
    assert_eq!(sequences, (1..=13).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_failure_is_an_exit_code_and_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::with_fixtures(directory.path());
    let run = |arguments: &[&str]| service.eventflow(arguments);
    let said = run(&["start", "clear-failure", "--id", "f-1", "--wait"]).exits(1);
    assert_eq!(said.out, "");
    contains(
        &said.err,
        &["Out of stock", "order less or later", "/do/1/refuse"],
    );
    run(&["watch", "f-1"]).exits(1);
    run(&["start", "greeting", "--id", "g-1", "--wait"]).exits(0);

    let said = run(&["list"]).exits(0);
    let first: Vec<&str> = (said.out.lines().skip(1))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(first, ["g-1", "f-1"], "not the newest first: {}", said.out);
    let list = run(&["list", "--status", "faulted", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(list["executions"].as_array().unwrap().len(), 1);
    assert_eq!(list["executions"][0]["error"]["title"], "Out of stock");

    let said = run(&["show", "nobody"]).exits(2);
    contains(&said.err, &["404", "nobody"]);
    let problem = run(&["start", "nothing", "--output", "json"]).exits(2).err;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(problem["problem"]["status"], 404);

    drop(service);
    let said = alone(&["list", "--server", "http://127.0.0.1:1"]).exits(2);
    contains(&said.err, &["127.0.0.1:1"]);
}
