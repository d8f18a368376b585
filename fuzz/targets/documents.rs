//! Documents in both languages and both spellings: read and compiled, or refused with every fault at a place.
#![no_main]

use eventflow_domain::Json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = match eventflow_dsl::utf8(bytes) {
        Ok(text) => text,
        Err(fault) => return assert!(fault.place.line > 0 && fault.place.column > 0),
    };
    for read in [eventflow_dsl::parse_json, eventflow_dsl::parse_yaml] {
        match read(text) {
            Ok(document) => {
                let again = eventflow_dsl::parse_json(document.as_str())
                    .expect("what is YAML is JSON as well");
                assert_eq!(
                    document.as_str(),
                    again.as_str(),
                    "one document in two spellings"
                );
                compile(text, &document);
            }
            Err(fault) => {
                assert!(!fault.detail.is_empty(), "a fault without words");
                assert!(fault.place.line > 0 && fault.place.column > 0);
            }
        }
    }
});

fn compile(text: &str, document: &Json) {
    match eventflow_dsl::compile(document) {
        Ok(plan) => assert_eq!(plan.digest, eventflow_dsl::digest(document)),
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            let value = document.to_value();
            // Any of what YAML takes for the end of a line.
            let lines = 1 + text.matches(['\r', '\n']).count();
            for fault in eventflow_dsl::locate(text, faults) {
                let place = fault.place.expect("a text has places");
                assert!((1..=lines).contains(&place.line), "{place:?} of {text:?}");
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
