//! Laws of the compiler: whatever the document, it answers, quickly, always the same, and points into the document.

mod support;

use std::time::{Duration, Instant};

use eventflow_domain::{Json, error::Fault};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// No document takes longer; a debug build on a busy machine takes ten times what a release does.
const COMPILE_MAX: Duration = Duration::from_secs(20);

/// Words of both languages, so that what is generated gets past the first look.
const WORDS: [&str; 70] = [
    "document",
    "dsl",
    "1.0.3",
    "namespace",
    "name",
    "version",
    "1.0.0",
    "do",
    "call",
    "http",
    "agent:1.0.0@default",
    "with",
    "capability",
    "input",
    "from",
    "output",
    "as",
    "export",
    "set",
    "switch",
    "when",
    "then",
    "continue",
    "end",
    "raise",
    "error",
    "type",
    "status",
    "title",
    "if",
    "timeout",
    "after",
    "PT1S",
    "retry",
    "limit",
    "attempt",
    "count",
    "use",
    "errors",
    "timeouts",
    "for",
    "try",
    "catch",
    "exceptWhen",
    "with",
    "details",
    "retries",
    "delay",
    "duration",
    "fork",
    "branches",
    "compete",
    "wait",
    "seconds",
    "$error",
    "${ $error.status }",
    "dag",
    "1.0",
    "steps",
    "id",
    "a",
    "b",
    "uses",
    "agent",
    "dependsOn",
    "inputs",
    "${a.x}",
    "${ .a }",
    "a.b",
    "method",
];

fn any_value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        4 => proptest::sample::select(&WORDS[..]).prop_map(str::to_owned),
        1 => "[a-z${}.\\[\\]|+ ~/]{0,8}",
        1 => "\\PC{0,6}",
    ];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => any::<i32>().prop_map(Value::from),
        1 => any::<f64>().prop_filter_map("finite", |number| serde_json::Number::from_f64(number).map(Value::Number)),
        4 => word.clone().prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Two documents that use everything that is executed.
fn valid() -> [Value; 2] {
    let ows = json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "all", "version": "1.0.0", "tags": {}},
        "input": {"from": "${ . }"},
        "output": {"as": {"x": "${ .y }"}},
        "timeout": {"after": {"hours": 1}},
        "use": {"errors": {"e": {"type": "https://e", "status": 400, "title": "T"}}, "timeouts": {"t": {"after": "PT1S"}},
            "retries": {"r": {"delay": "PT1S", "when": ".status == 503", "limit": {"duration": "PT1H"}}}},
        "do": [
            {"a": {"set": {"x": "${ .a }", "y": [1, {"z": "${ .b + 1 }"}]}, "if": ".x != null", "then": "c"}},
            {"b": {"call": "http", "with": {"method": "get", "endpoint": "https://x/{id}", "headers": {"A": "b"}}, "timeout": "t"}},
            {"c": {"call": "agent:1.0.0@default", "with": {"capability": "x", "input": {"a": "${ .q }"}, "heartbeat": "PT1M",
                "retry": {"delay": "PT1S", "backoff": {"linear": {}}, "limit": {"attempt": {"count": 2}}}}}},
            {"d": {"do": [{"e": {"switch": [{"f": {"when": ".x", "then": "g"}}, {"h": {"then": "end"}}]}}, {"g": {"set": {"a": 1}}}]}},
            {"i": {"raise": {"error": "e"}, "metadata": {}, "export": {"as": "."}}},
            {"j": {"fork": {"compete": true, "branches": [{"k": {"wait": "PT1S", "then": "end"}}, {"l": {"wait": "${ .x }"}}]}}},
            {"m": {
                "try": [{"n": {"set": {"a": 1}, "then": "o"}}, {"o": {"wait": {"seconds": 1}}}],
                "catch": {"errors": {"with": {"type": "https://e", "status": 503, "details": "d"}}, "as": "problem",
                    "when": "$problem.title", "exceptWhen": ".detail", "retry": "r",
                    "do": [{"p": {"set": {"a": "${ $problem }"}}}]},
            }},
            {"q": {"try": [{"r": {"set": {"a": 1}}}], "catch": {"retry": {"backoff": {"exponential": {}},
                "exceptWhen": "${ $error }", "limit": {"attempt": {"count": 2, "duration": "PT1S"}}}}}},
        ],
    });
    let dag = json!({
        "dag": "1.0", "name": "all", "version": "1.0.0", "maxParallel": 3, "timeout": "1h",
        "steps": [
            {"id": "a", "uses": "set", "with": {"x": 1}},
            {"id": "b", "uses": "agent", "with": {"capability": "x"}, "inputs": {"a": "${a.x}"}, "retry": {"limit": 1}},
            {"stepId": "c", "pluginId": "y", "inputs": {"b": "b.q"}, "config": {"timeoutMs": 5}},
            {"id": "d", "uses": "http", "with": {"method": "get", "endpoint": "http://${input.host}/x"}, "dependsOn": ["c"],
                "when": ".a.x > 1", "join": "any"},
        ],
        "output": {"all": "${d}"},
    });
    [ows, dag]
}

/// Puts a value, or takes one away, at the place that the numbers lead to.
fn mutate(target: &mut Value, way: &[usize], change: Option<&Value>, name: &str) {
    match (target, way) {
        (Value::Array(items), [first, rest @ ..]) if !items.is_empty() && !rest.is_empty() => {
            let index = first % items.len();
            mutate(&mut items[index], rest, change, name);
        }
        (Value::Object(entries), [first, rest @ ..]) if !entries.is_empty() => {
            let key = entries
                .keys()
                .nth(first % entries.len())
                .expect("it is in range")
                .clone();
            match (rest, change) {
                ([], None) => drop(entries.remove(&key)),
                ([], Some(value)) => drop(entries.insert(name.to_owned(), value.clone())),
                _ => mutate(
                    entries.get_mut(&key).expect("it is there"),
                    rest,
                    change,
                    name,
                ),
            }
        }
        (target, _) => {
            if let Some(value) = change {
                *target = value.clone();
            }
        }
    }
}

/// Each fault points at something, or at something that its parent lacks.
fn points_into(document: &Value, faults: &[Fault]) -> Result<(), TestCaseError> {
    prop_assert!(!faults.is_empty(), "refused without a reason");
    for fault in faults {
        let parent = fault
            .pointer
            .rsplit_once('/')
            .map_or("", |(parent, _)| parent);
        let there = document
            .pointer(&fault.pointer)
            .or_else(|| document.pointer(parent));
        prop_assert!(
            there.is_some(),
            "{} points nowhere: {}",
            fault.pointer,
            fault.detail
        );
        prop_assert!(!fault.detail.is_empty());
    }
    Ok(())
}

fn obeys_the_laws(document: &Value) -> Result<(), TestCaseError> {
    let json = Json::of(document);
    let begin = Instant::now();
    let first = eventflow_dsl::compile(&json);
    prop_assert!(begin.elapsed() < COMPILE_MAX);
    let second = eventflow_dsl::compile(&json);
    match (first, second) {
        (Ok(first), Ok(second)) => {
            prop_assert_eq!(support::outline(&first), support::outline(&second));
            for (id, node) in first.nodes() {
                prop_assert_eq!(first.find(&node.pointer), Some(id));
                let there = document.pointer(&node.pointer);
                prop_assert!(there.is_some(), "the node {} is nowhere", node.pointer);
            }
        }
        (Err(first), Err(second)) => {
            points_into(document, &first)?;
            prop_assert_eq!(first, second);
        }
        (first, second) => prop_assert!(false, "once {:?}, once {:?}", first.err(), second.err()),
    }
    Ok(())
}

/// A task of any kind that needs nobody, with tasks in it; `e` names the error of the innermost handler around it.
fn any_task() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"set": {"x": "${ .x }"}})),
        Just(json!({"wait": {"milliseconds": 1}})),
        Just(json!({"wait": "${ .x }", "if": ".x"})),
        Just(json!({"switch": [{"c": {"then": "exit"}}]})),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let list = || proptest::collection::vec(inner.clone(), 1..4).prop_map(named);
        prop_oneof![
            list().prop_map(|tasks| json!({"do": tasks})),
            (list(), any::<bool>()).prop_map(
                |(tasks, compete)| json!({"fork": {"branches": tasks, "compete": compete}})
            ),
            list().prop_map(|tasks| json!({"try": tasks, "catch": {"retry": {"when": "$error"}}})),
            (list(), list()).prop_map(|(tasks, mut handler)| {
                handler.push(json!({"said": {"set": "$e.title"}}));
                json!({"try": tasks, "catch": {"as": "e", "when": "$e.status", "do": handler}})
            }),
        ]
    })
}

fn named(tasks: Vec<Value>) -> Vec<Value> {
    let names = (0..).map(|at| format!("t{at}"));
    names
        .zip(tasks)
        .map(|(name, task)| Value::Object(Map::from_iter([(name, task)])))
        .collect()
}

/// The pointers of the tasks below a task, in document order, each with that of the task it stands in.
fn pointers(task: &Value, at: &str, found: &mut Vec<(String, String)>) {
    for list in ["/do", "/fork/branches", "/try", "/catch/do"] {
        let items = task.pointer(list).and_then(Value::as_array);
        for (index, item) in items.into_iter().flatten().enumerate() {
            for (name, inner) in item.as_object().into_iter().flatten() {
                let pointer = format!("{at}{list}/{index}/{name}");
                found.push((pointer.clone(), at.to_owned()));
                pointers(inner, &pointer, found);
            }
        }
    }
}

#[test]
fn the_valid_documents_are_valid() {
    for document in valid() {
        support::plan(&document.to_string());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_compiled_or_refused(document in any_value()) {
        obeys_the_laws(&document)?;
    }

    #[test]
    fn every_task_of_any_nesting_has_its_node_below_its_container(
        tasks in proptest::collection::vec(any_task(), 1..4),
    ) {
        let document = json!({
            "document": {"dsl": "1.0.3", "namespace": "default", "name": "nested", "version": "1.0.0"},
            "do": named(tasks),
        });
        let plan = support::plan(&document.to_string());
        let mut expected = Vec::new();
        pointers(&document, "", &mut expected);
        // The outermost list is the plan's root.
        let expected: Vec<(String, String)> = expected
            .into_iter()
            .map(|(pointer, parent)| (pointer, if parent.is_empty() { "/do".to_owned() } else { parent }))
            .collect();
        let nodes = plan.nodes().skip(1).map(|(_, node)| {
            let parent = plan.node(node.parent.expect("only the root has none"));
            (node.pointer.to_string(), parent.pointer.to_string())
        });
        prop_assert_eq!(nodes.collect::<Vec<_>>(), expected);
        obeys_the_laws(&document)?;
    }

    #[test]
    fn a_mutated_document_is_compiled_or_refused(
        which in 0_usize..2,
        changes in proptest::collection::vec(
            (
                proptest::collection::vec(0_usize..8, 1..7),
                proptest::option::of(any_value()),
                proptest::sample::select(&WORDS[..]),
            ),
            1..4,
        ),
    ) {
        let [ows, dag] = valid();
        let mut document = if which == 0 { ows } else { dag };
        for (way, change, name) in &changes {
            mutate(&mut document, way, change.as_ref(), name);
        }
        obeys_the_laws(&document)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-c:\\-\\[\\]{}\"'&*!|>#%\n ,?0-9.]{0,80}|\\PC{0,40}") {
        let read = [eventflow_dsl::parse, eventflow_dsl::parse_json, eventflow_dsl::parse_yaml].map(|read| read(&text));
        for json in read.into_iter().flatten() {
            let again = eventflow_dsl::parse_json(json.as_str()).expect("what was read is a document");
            prop_assert_eq!(eventflow_dsl::digest(&json), eventflow_dsl::digest(&again));
        }
    }

    #[test]
    fn json_survives_its_yaml_spelling(document in any_value()) {
        // JSON is a subset of YAML 1.2.
        let json = Json::of(&document);
        let in_yaml = eventflow_dsl::parse_yaml(json.as_str()).map(|read| eventflow_dsl::digest(&read));
        let in_json = eventflow_dsl::parse_json(json.as_str()).map(|read| eventflow_dsl::digest(&read));
        prop_assert_eq!(in_yaml.ok(), in_json.ok());
    }
}
