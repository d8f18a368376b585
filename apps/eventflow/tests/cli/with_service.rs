//! Commands that talk to a service, against the real HTTP API over the engine in memory.

use std::process::{Child, Stdio};

use crate::support::{Service, eventflow, file, path};
use serde_json::{Value, json};

const GREET: &str = "\
document: {dsl: 1.0.3, namespace: shop, name: greet, version: 1.0.0}
do:
  - greet:
      set: {greeting: '${ \"Hello, \" + .name }'}
";
const CHARGE: &str = "\
document: {dsl: 1.0.3, namespace: default, name: charge, version: 1.0.0}
do:
  - charge:
      call: agent:1.0.0@default
      with: {capability: charge, input: '${ . }'}
";

fn apply(service: &Service, text: &str) {
    let document = file(text);
    service
        .run(&["workflow", "apply", path(&document)])
        .exits(0);
}

/// A process that ends with the test.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn agent(service: &Service, script: &str) -> Background {
    let command = [
        "agent",
        "exec",
        "-C",
        "charge",
        "--concurrency",
        "4",
        "--",
        "sh",
        "-c",
        script,
    ];
    let child = eventflow(&command)
        .env("EVENTFLOW_SERVER", &service.url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Background(child)
}

#[test]
fn a_workflow_is_applied_listed_and_shown() {
    let service = Service::start();
    let document = file(GREET);
    let said = service
        .run(&["workflow", "apply", path(&document)])
        .exits(0);
    assert_eq!(said.out, "registered shop/greet:1.0.0\n");
    let said = service
        .run(&["workflow", "apply", path(&document)])
        .exits(0);
    assert_eq!(said.out, "unchanged shop/greet:1.0.0\n");
    let said = service.run(&["workflow", "list"]).exits(0);
    let row: Vec<_> = said
        .out
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(row[..3], ["shop", "greet", "1.0.0"]);
    let said = service
        .run(&[
            "workflow",
            "list",
            "--namespace",
            "none",
            "--output",
            "json",
        ])
        .exits(0);
    assert_eq!(said.json(), json!({ "workflows": [] }));
    let said = service.run(&["workflow", "show", "shop/greet"]).exits(0);
    assert_eq!(said.json()["document"]["name"], "greet");

    let changed = file(&GREET.replace("Hello", "Bye"));
    let said = service.run(&["workflow", "apply", path(&changed)]).exits(2);
    assert!(said.err.contains("(409)"), "{}", said.err);
    let invalid = file(&GREET.replace("set:", "sett:"));
    let said = service.run(&["workflow", "apply", path(&invalid)]).exits(1);
    let place = format!("{}:4:7: /do/0/greet/sett ", path(&invalid));
    assert!(said.out.starts_with(&place), "{}", said.out);
    let unreadable = file("document: {dsl: 1.0.3}\ndo: [\n  }\n");
    let said = service
        .run(&["workflow", "apply", path(&unreadable)])
        .exits(1);
    let place = format!("{}:2:5: / ", path(&unreadable));
    assert!(said.out.starts_with(&place), "{}", said.out);
}

#[test]
fn an_execution_is_started_watched_shown_and_listed() {
    let service = Service::start();
    apply(&service, GREET);
    let start = [
        "start",
        "shop/greet:1.0.0",
        "--input",
        r#"{"name": "Ada"}"#,
        "--id",
        "order-17",
    ];
    let labelled = [&start[..], &["--label", "team:a"]].concat();
    assert_eq!(service.run(&labelled).exits(0).out, "order-17\n");
    let said = service.run(&["watch", "order-17"]).exits(0);
    assert_eq!(said.json(), json!({ "greeting": "Hello, Ada" }));
    assert!(said.err.contains("order-17 completed"), "{}", said.err);

    let events = service
        .run(&["watch", "order-17", "--output", "json"])
        .exits(0)
        .out;
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last["type"], "workflow_execution_completed");

    let said = service.run(&["show", "order-17"]).exits(0);
    assert!(
        said.out
            .starts_with("order-17  completed  shop/greet:1.0.0"),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("team:a") && said.out.contains("Hello, Ada"),
        "{}",
        said.out
    );
    let view = service
        .run(&["show", "order-17", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(view["status"], "completed");

    let said = service
        .run(&["list", "--status", "completed", "--label", "team:a"])
        .exits(0);
    assert!(
        said.out.lines().nth(1).unwrap().starts_with("order-17"),
        "{}",
        said.out
    );
    let none = service
        .run(&["list", "--status", "faulted", "--output", "json"])
        .exits(0);
    assert_eq!(none.json()["executions"], json!([]));

    let said = service
        .run(&["history", "order-17", "--verify", "--output", "json"])
        .exits(0);
    let sequences: Vec<_> = said
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["sequence"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert!(sequences.len() >= 3, "{}", said.out);
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());

    let said = service.run(&["show", "nobody"]).exits(2);
    assert!(said.err.contains("(404)"), "{}", said.err);
}

#[test]
fn start_waits_for_the_output_where_wanted() {
    let service = Service::start();
    apply(&service, GREET);
    let start = [
        "start",
        "shop/greet",
        "--wait",
        "--input",
        r#"{"name": "Bob"}"#,
    ];
    let said = service.run(&start).exits(0);
    assert_eq!(said.json(), json!({ "greeting": "Hello, Bob" }));
    let view = service
        .run(&[&start[..], &["--output", "json"]].concat())
        .exits(0)
        .json();
    assert_eq!(view["output"]["greeting"], "Hello, Bob");
}

#[test]
fn any_program_is_an_agent() {
    let service = Service::start();
    apply(&service, CHARGE);
    let start = ["start", "charge", "--wait", "--input", r#"{"total": 5}"#];
    {
        let _agent = agent(
            &service,
            r#"read -r input; echo "{\"got\": $input, \"try\": $EVENTFLOW_ATTEMPT}""#,
        );
        let said = service.run(&start).exits(0);
        assert_eq!(said.json(), json!({ "got": {"total": 5}, "try": 1 }));
    }
    {
        let _agent = agent(&service, "echo no such card >&2; exit 3");
        let said = service.run(&start).exits(1);
        assert!(
            said.err.contains("exited with 3: no such card"),
            "{}",
            said.err
        );
    }
    {
        let _agent = agent(
            &service,
            r#"test "$EVENTFLOW_ATTEMPT" -ge 2 && echo done || exit 75"#,
        );
        let said = service.run(&start).exits(0);
        assert_eq!(said.json(), json!("done"));
        assert!(said.err.contains("attempt 2"), "{}", said.err);
    }
}

#[test]
fn a_benchmark_measures_and_checks() {
    let service = Service::start();
    for workload in ["sequence", "local", "http", "fanout", "latency"] {
        for results in ["single", "batched"] {
            let said = service.run(&[
                "bench",
                "--workload",
                workload,
                "--executions",
                "3",
                "--steps",
                "4",
                "--concurrency",
                "2",
                "--results",
                results,
                "--json",
            ]);
            let report = said.exits(0).json();
            assert_eq!(report["wrong"], 0, "{report}");
            for key in [
                "stepsPerSecond",
                "executionsPerSecond",
                "p50Ms",
                "p95Ms",
                "p99Ms",
                "maxMs",
            ] {
                assert!(report[key].as_f64() > Some(0.0), "{key} of {report}");
            }
            let requests = report["requests"].as_u64().unwrap();
            assert!(requests >= 3, "{report}");
            let routed = workload != "local";
            assert_eq!(report["routingP50Ms"].is_number(), routed, "{report}");
            assert!(
                report["rssMiB"].is_null(),
                "of a service that it did not start: {report}"
            );
        }
    }
}

#[test]
fn a_benchmark_with_a_wrong_output_fails() {
    let service = Service::start();
    // The workflow of this name is another one already, and counts up by two.
    apply(
        &service,
        "document: {dsl: 1.0.3, namespace: bench, name: local-1, version: 2.0.0}\n\
         do:\n  - step0: {set: {id: '${ .id }', n: '${ .n + 2 }', trail: 0}}\n",
    );
    let said = service
        .run(&[
            "bench",
            "--workload",
            "local",
            "--executions",
            "2",
            "--steps",
            "1",
        ])
        .exits(1);
    assert!(
        said.out.contains("2 outputs are wrong or missing"),
        "{}",
        said.out
    );
    assert!(said.err.contains("n: 2"), "{}", said.err);
}

#[test]
fn an_execution_is_paused_explained_resumed_and_stopped() {
    let service = Service::start();
    apply(&service, CHARGE);
    service.run(&["start", "charge", "--id", "c-1"]).exits(0);
    let said = service.run(&["explain", "c-1"]).exits(0);
    assert!(
        said.out
            .starts_with("c-1  running  `charge` waits for an agent that serves `charge`\n"),
        "{}",
        said.out
    );
    assert!(
        said.out
            .contains("if none takes it in time, attempt 2 of 4 follows"),
        "{}",
        said.out
    );
    let said = service.run(&["pause", "c-1", "--reason", "lunch"]).exits(0);
    assert_eq!(said.out, "c-1  suspended\n");
    let said = service
        .run(&["explain", "c-1", "--output", "json"])
        .exits(0);
    assert_eq!(said.json()["status"], "suspended");
    let history = service.run(&["history", "c-1"]).exits(0);
    assert!(
        history.out.contains("lunch"),
        "the reason is kept: {}",
        history.out
    );
    assert_eq!(
        service.run(&["resume", "c-1"]).exits(0).out,
        "c-1  running\n"
    );

    // One that is refused does not keep the others from it.
    let said = service.run(&["stop", "nobody", "c-1"]).exits(1);
    assert_eq!(said.out, "c-1  cancelled\n");
    assert!(
        said.err.contains("there is no execution nobody"),
        "{}",
        said.err
    );
    let said = service.run(&["resume", "c-1"]).exits(2);
    assert!(said.err.contains("cancelled already"), "{}", said.err);
    let said = service.run(&["explain", "c-1"]).exits(0);
    assert_eq!(said.out, "c-1  cancelled  it was stopped\n");
}
