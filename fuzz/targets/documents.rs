//! Documents in both languages and both spellings: read and compiled, or refused with every fault at a place.
#![no_main]

use eventflow_adapter_http_api::{Format, parse_document};
use eventflow_domain::Json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for format in [Format::Json, Format::Yaml] {
        if let Ok(document) = parse_document(bytes, format) {
            compile(&document);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(document) = eventflow_dsl::parse_json(text) {
        compile(&document);
    }
    if let Ok(document) = eventflow_dsl::parse_yaml(text) {
        let again =
            eventflow_dsl::parse_json(document.as_str()).expect("what is YAML is JSON as well");
        assert_eq!(
            document.as_str(),
            again.as_str(),
            "one document in two spellings"
        );
        compile(&document);
    }
});

fn compile(document: &Json) {
    match eventflow_dsl::compile(document) {
        Ok(plan) => assert_eq!(plan.digest, eventflow_dsl::digest(document)),
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            let value = document.to_value();
            for fault in faults {
                let nearest = fault
                    .pointer
                    .rsplit_once('/')
                    .map_or("", |(parent, _)| parent);
                let is_there = value
                    .pointer(&fault.pointer)
                    .or_else(|| value.pointer(nearest));
                assert!(
                    is_there.is_some(),
                    "{} is no place in {document:?}",
                    fault.pointer
                );
                assert!(!fault.detail.is_empty(), "a fault without words");
            }
        }
    }
}
