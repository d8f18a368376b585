//! What was set aside: a message that could not be understood, or was refused for good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Problem;

/// On `<prefix>.rejected.<tenant>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Why, in words.
    pub reason: String,
    /// Why, as whoever asks would be answered.
    pub problem: Problem,
    /// The message as it came.
    pub original: Original,
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// Where it was published.
    pub subject: String,
    /// By name; the last value of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What it said: JSON as it is, another text as a text. Left out where it is neither, or too large to be sent on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// How many bytes it had.
    pub body_bytes: usize,
}

impl Original {
    /// A message, whatever it says.
    pub fn new(subject: &str, headers: BTreeMap<String, String>, body: &[u8]) -> Self {
        let text = || std::str::from_utf8(body).ok().map(Value::from);
        Self {
            subject: subject.to_owned(),
            headers,
            body: serde_json::from_slice(body).ok().or_else(text),
            body_bytes: body.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_is_shown_as_far_as_it_can_be() {
        let body = |bytes: &[u8]| Original::new("s", BTreeMap::new(), bytes).body;
        assert_eq!(body(br#"{"a":1}"#), Some(json!({"a": 1})));
        assert_eq!(body(b"{ no JSON"), Some(json!("{ no JSON")));
        assert_eq!(body(b"\xff"), None);
    }
}
