//! Expressions: refused when they are compiled, or ended within their bounds when they are evaluated.
#![no_main]

use std::time::{Duration, Instant};

use eventflow_domain::{
    Json,
    expression::{EVALUATION_BYTES_MAX, Expression, Scope, Template, field_of},
};
use libfuzzer_sys::fuzz_target;

/// An evaluation is bounded to some 30 ms of a good machine; this one may be busy.
const EVALUATION_MAX: Duration = Duration::from_secs(2);
const VALUES: [&str; 5] = [
    "null",
    r#"{"a":{"b":[1,[2,{"c":"x"}]]},"s":"text","n":1.5,"t":true,"z":null,"list":[3,1,2]}"#,
    "[0,1,2,3,4,5,6,7,8,9,[10,[11]],\"12\"]",
    r#""a text of some length, with ünïcode and 12 digits""#,
    "-9007199254740991",
];

struct Given(Json);

impl Scope for Given {
    fn dot(&self) -> Json {
        self.0.clone()
    }

    fn field(&self, name: &str) -> Option<Json> {
        field_of(&self.0, name)
    }

    fn variable(&self, _: &str) -> Option<Json> {
        Some(self.0.clone())
    }

    fn dot_is_object(&self) -> bool {
        self.0.as_str().starts_with('{')
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(expression) = Expression::compile(source) {
        for value in VALUES {
            let given = Given(Json::parse(value).expect("a literal is JSON"));
            in_time(|| {
                let _ = expression.evaluate_bool(&given);
                expression.evaluate(&given)
            });
        }
    }
    let text = serde_json::Value::from(source);
    if let Ok(template) = Template::strict(&text) {
        let given = Given(Json::parse(VALUES[1]).expect("a literal is JSON"));
        in_time(|| template.evaluate(&given));
    }
});

fn in_time<E>(evaluate: impl FnOnce() -> Result<Json, E>) {
    let began = Instant::now();
    if let Ok(value) = evaluate() {
        let size = value.as_str().len();
        assert!(size <= 2 * EVALUATION_BYTES_MAX, "{size} bytes came out");
        value.to_value();
    }
    let took = began.elapsed();
    assert!(took < EVALUATION_MAX, "it took {took:?}");
}
