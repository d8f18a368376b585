//! Laws of the compiler: whatever the document, it answers, quickly, always the same, and points into the document.

mod support;

use std::time::{Duration, Instant};

use eventflow_domain::{Json, error::Fault};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// No document takes longer; a debug build on a busy machine takes ten times what a release does.
const COMPILE_MAX: Duration = Duration::from_secs(20);

/// Words of both languages, so that what is generated gets past the first look.
const WORDS: [&str; 58] = [
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
    "fork",
    "branches",
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
        "use": {"errors": {"e": {"type": "https://e", "status": 400, "title": "T"}}, "timeouts": {"t": {"after": "PT1S"}}},
        "do": [
            {"a": {"set": {"x": "${ .a }", "y": [1, {"z": "${ .b + 1 }"}]}, "if": ".x != null", "then": "c"}},
            {"b": {"call": "http", "with": {"method": "get", "endpoint": "https://x/{id}", "headers": {"A": "b"}}, "timeout": "t"}},
            {"c": {"call": "agent:1.0.0@default", "with": {"capability": "x", "input": {"a": "${ .q }"}, "heartbeat": "PT1M",
                "retry": {"delay": "PT1S", "backoff": {"linear": {}}, "limit": {"attempt": {"count": 2}}}}}},
            {"d": {"do": [{"e": {"switch": [{"f": {"when": ".x", "then": "g"}}, {"h": {"then": "end"}}]}}, {"g": {"set": {"a": 1}}}]}},
            {"i": {"raise": {"error": "e"}, "metadata": {}, "export": {"as": "."}}},
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
