//! `docs/asyncapi.yaml` says what is true: each schema fits its examples, the bodies in `fixtures/wire`, and what this
//! crate writes; and what it says is read.

use std::{collections::BTreeSet, fs, path::PathBuf};

use eventflow_domain::{
    ExecutionId, Json, Problem, Sequence, Tenant, Timestamp, WorkflowId, error::ErrorKind,
    service_call,
};
use eventflow_ports::{LifecycleEvent, inbound::Refusal};
use eventflow_wire::{
    envelope::{Envelope, Message},
    v1::{
        self,
        batch::{Batch, begin},
        calls::{self, CallEvent},
        controls::Control,
        events::CloudEvent,
        executions::StartBody,
        flow::{self, Status},
        rejected::{Original, Rejected},
        tasks::ResultItem,
        triggers,
    },
};
use serde_json::{Map, Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document() -> Value {
    let text = fs::read_to_string(root().join("docs/asyncapi.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// The document, with a way to check a value against one of its schemas.
struct Schemas(Value);

impl Schemas {
    fn faults(&self, name: &str, value: &Value) -> Vec<String> {
        let schema = json!({
            "$ref": format!("#/components/schemas/{name}"),
            "components": self.0["components"],
        });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let faults = validator.iter_errors(value);
        faults
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect()
    }

    fn check(&self, name: &str, value: &Value) {
        let faults = self.faults(name, value);
        assert!(faults.is_empty(), "{name}: {value}: {faults:?}");
    }

    fn messages(&self) -> &Map<String, Value> {
        self.0["components"]["messages"].as_object().unwrap()
    }
}

/// The name behind a reference to a schema.
fn named(reference: &Value) -> &str {
    let reference = reference["$ref"].as_str().unwrap();
    reference.strip_prefix("#/components/schemas/").unwrap()
}

fn fixture(name: &str) -> Value {
    let path = root().join(format!("fixtures/wire/{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    assert_eq!(document["asyncapi"], "3.0.0");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "only {} references", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn every_channel_is_operated_and_every_message_is_sent() {
    let document = document();
    let used: BTreeSet<String> = document["operations"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|operation| [&operation["channel"], &operation["reply"]["channel"]])
        .filter_map(|channel| Some(channel["$ref"].as_str()?.to_owned()))
        .collect();
    let channels = document["channels"].as_object().unwrap();
    let all = channels.keys().map(|name| format!("#/channels/{name}"));
    assert_eq!(used, all.collect());
    let sent: BTreeSet<&str> = channels
        .values()
        .flat_map(|channel| channel["messages"].as_object().unwrap().values())
        .filter_map(|message| message["$ref"].as_str()?.rsplit('/').next())
        .collect();
    let messages = document["components"]["messages"].as_object().unwrap();
    assert_eq!(sent, messages.keys().map(String::as_str).collect());
}

#[test]
fn every_schema_fits_its_examples() {
    let schemas = Schemas(document());
    for (name, schema) in schemas.0["components"]["schemas"].as_object().unwrap() {
        let examples = schema["examples"].as_array();
        let examples = examples.unwrap_or_else(|| panic!("{name} has no examples"));
        assert!(!examples.is_empty(), "{name} has no examples");
        for example in examples {
            schemas.check(name, example);
        }
        // Something fits nothing but `anything` and an answer that may have none.
        let absurd = json!([["no", "such", "thing"]]);
        assert_eq!(
            schemas.faults(name, &absurd).is_empty(),
            name == "anything",
            "{name}"
        );
    }
}

#[test]
fn every_message_fits_its_fixtures() {
    let schemas = Schemas(document());
    let mut checked = 0;
    for (name, message) in schemas.messages() {
        for file in message["x-fixtures"].as_array().into_iter().flatten() {
            let body = fixture(file.as_str().unwrap());
            schemas.check(named(&message["payload"]), &body);
            checked += 1;
        }
        assert!(message["payload"]["$ref"].is_string(), "{name}");
    }
    assert!(checked >= 20, "only {checked} fixtures");
}

#[test]
fn what_is_said_of_what_comes_in_is_read() {
    let document = Schemas(document());
    let examples = |name: &str| {
        let examples = document.0["components"]["schemas"][name]["examples"].as_array();
        examples.unwrap().iter().map(Json::of)
    };
    let tenant = Tenant::default_tenant();
    let message = |data| Message {
        envelope: Envelope::default(),
        data,
    };
    for body in examples("start") {
        let body: StartBody = serde_json::from_str(body.as_str()).unwrap();
        v1::shape::start(&tenant, body, v1::shape::StartContext::default()).unwrap();
    }
    for body in examples("controlCommand") {
        Control::read(body.as_str().as_bytes()).unwrap();
    }
    for body in examples("flowCommand") {
        flow::command(&tenant, &message(body)).unwrap();
    }
    for body in examples("platformEvent") {
        triggers::event(message(body), None).unwrap();
    }
    for body in examples("call") {
        calls::call(&tenant, &message(body)).unwrap();
    }
    let items = examples("result").map(|body| serde_json::from_str(body.as_str()).unwrap());
    let batch = Batch::of(items.collect::<Vec<ResultItem>>());
    assert_eq!((batch.begins.len(), batch.results.len()), (1, 3));
}

fn lifecycle(kind: &'static str, data: &Value) -> LifecycleEvent {
    LifecycleEvent {
        id: "0195501a-2a40-7000-8000-000000000007".into(),
        kind,
        tenant: Tenant::default_tenant(),
        execution: ExecutionId::parse("order-17").unwrap(),
        workflow: WorkflowId {
            namespace: service_call::NAMESPACE.into(),
            name: service_call::NAME.into(),
            version: "1.0.0".into(),
        },
        sequence: Sequence(7),
        time: Timestamp(1_772_357_400_000),
        correlation: Some("c".into()),
        causation: Some("m".into()),
        traceparent: None,
        data: Json::of(data),
    }
}

#[test]
fn what_is_told_of_executions_fits() {
    let schemas = Schemas(document());
    let error = Problem::new(ErrorKind::Timeout, "Too late", "no answer");
    for (kind, data) in [
        ("workflow_execution_started", json!({"serviceCallId": "c"})),
        (
            "task_completed",
            json!({"task": "/do/0/a", "name": "a", "attempt": 1, "agent": "w", "output": [1], "durationMs": 3}),
        ),
        (
            "task_failed",
            json!({"task": "/do/0/a", "name": "a", "error": error}),
        ),
        (
            "workflow_execution_failed",
            json!({"serviceCallId": "c", "error": error, "durationMs": 5}),
        ),
        (
            "workflow_execution_completed",
            json!({"serviceCallId": "c",
            "output": {"status": 200, "headers": {}, "bodySnippet": "", "latencyMs": 1}}),
        ),
    ] {
        let event = lifecycle(kind, &data);
        let status = Status::of(&event).unwrap();
        schemas.check("status", &serde_json::to_value(status).unwrap());
        if let Some(call) = CallEvent::of(&event) {
            let schema = call.kind().replace("Execution", "call");
            schemas.check(&schema, &serde_json::to_value(call).unwrap());
        }
        let event = CloudEvent::from(event);
        schemas.check("lifecycle", &event.data.to_value());
        let envelope = event.envelope();
        let headers: Map<String, Value> = (envelope.headers())
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        schemas.check("envelopeOut", &Value::Object(headers));
    }
}

#[test]
fn answers_fit() {
    let schemas = Schemas(document());
    for begun in [Ok(Timestamp(0)), Err(Refusal::Contradiction("held".into()))] {
        let answer = begin(begun).unwrap();
        schemas.check("begun", &serde_json::to_value(answer).unwrap());
    }
    let items = [
        json!({"token": "a", "begin": {"agent": "w"}}),
        json!({"token": "b"}),
    ];
    let items = items.map(|item| serde_json::from_value(item).unwrap());
    let answers = Batch::of(items.into())
        .places
        .answers(vec![Ok(Timestamp(0))], Vec::new());
    schemas.check("batch", &json!({"results": answers}));
    for refusal in [Refusal::malformed("no"), Refusal::unavailable("no")] {
        let rejected = Rejected {
            reason: refusal.to_string(),
            problem: refusal.into(),
            original: Original::new(
                "execution.commands",
                [("a".into(), "b".into())].into(),
                b"{",
            ),
        };
        schemas.check("problem", &serde_json::to_value(&rejected.problem).unwrap());
        schemas.check("rejected", &serde_json::to_value(&rejected).unwrap());
    }
}
