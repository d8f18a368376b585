//! Values from outside: checked once at the edge, so that inside they can be read whenever somebody looks into them.
//!
//! JSON that only passes through stays text ([`Json`]), and reading it as text proves only its grammar. Text such as
//! `1e400`, a lone surrogate or ten thousand brackets has the grammar and still cannot be read as a value.

use std::{borrow::Cow, fmt};

use eventflow_domain::Json;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Arrays and objects within each other, at most. Half of what the JSON parser reads (128), so that a value still reads
/// when a workflow puts it into another one.
pub const VALUE_DEPTH_MAX: usize = 64;

/// JSON that has the grammar but is no value that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsound(String);

/// The same value as compact text, proven to be readable: numbers in range, strings Unicode, at most
/// [`VALUE_DEPTH_MAX`] deep.
pub fn accept(json: Json) -> Result<Json, Unsound> {
    let text = json.as_str();
    let mut reader = serde_json::Deserializer::from_str(text);
    Sound { depth: 0 }
        .deserialize(&mut reader)
        .map_err(|error| Unsound(error.to_string()))?;
    match compact(text) {
        Cow::Borrowed(_) => Ok(json),
        Cow::Owned(text) => Json::parse(&text).map_err(|error| Unsound(error.to_string())),
    }
}

/// The text without line breaks, for formats of one value a line. In JSON these stand between tokens only, where a space
/// does as well.
pub fn one_line(json: &str) -> Cow<'_, str> {
    if json.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

/// The text without white space between tokens; borrowed where there was none.
fn compact(json: &str) -> Cow<'_, str> {
    if !outside_strings(json.as_bytes()).any(is_space) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len());
    let (mut within, mut escaped) = (false, false);
    for char in json.chars() {
        if within || !char.is_ascii() || !is_space(char as u8) {
            text.push(char);
        }
        (within, escaped) = match (within, char) {
            (true, '\\') => (true, !escaped),
            (true, '"') => (escaped, false),
            (within, '"') => (!within, false),
            (within, _) => (within, false),
        };
    }
    Cow::Owned(text)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The bytes that are not part of a string's content.
fn outside_strings(text: &[u8]) -> impl Iterator<Item = u8> {
    let (mut within, mut escaped) = (false, false);
    text.iter().copied().filter(move |byte| {
        if !within {
            within = *byte == b'"';
            return true;
        }
        match byte {
            b'\\' => escaped = !escaped,
            b'"' if !escaped => within = false,
            _ => escaped = false,
        }
        false
    })
}

/// Reads a value to its end and keeps nothing of it.
#[derive(Clone, Copy)]
struct Sound {
    depth: usize,
}

impl Sound {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > VALUE_DEPTH_MAX {
            return Err(E::custom(format_args!(
                "more than {VALUE_DEPTH_MAX} arrays and objects within each other"
            )));
        }
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while entries.next_key_seed(inner)?.is_some() {
            entries.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    #[test]
    fn a_value_passes_unchanged() {
        for text in [
            "null",
            "-1.5e3",
            r#"{"a":[1,true,"x \" [ y",{}],"é":"\ud83d\ude00"}"#,
            "18446744073709551616",
        ] {
            assert_eq!(accept(json(text)).unwrap().as_str(), text);
        }
    }

    #[test]
    fn white_space_between_tokens_goes_and_within_strings_stays() {
        let accepted = accept(json("{ \"a b\" :\r\n\t[ 1 , \"c \\\" d \\\\\" ] }")).unwrap();
        assert_eq!(accepted.as_str(), r#"{"a b":[1,"c \" d \\"]}"#);
    }

    #[test]
    fn what_cannot_be_read_as_a_value_is_refused() {
        let deep = "[".repeat(VALUE_DEPTH_MAX + 1) + &"]".repeat(VALUE_DEPTH_MAX + 1);
        for (text, reason) in [
            ("[1e400]", "number out of range"),
            (r#"{"a":"\ud800"}"#, "hex escape"),
            (r#"{"\udc00":1}"#, "surrogate"),
            (deep.as_str(), "more than 64"),
        ] {
            let refusal = accept(json(text)).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn the_deepest_value_allowed_can_be_read() {
        let deep = "[".repeat(VALUE_DEPTH_MAX) + &"]".repeat(VALUE_DEPTH_MAX);
        assert!(accept(json(&deep)).unwrap().to_value().is_array());
    }

    #[test]
    fn line_breaks_become_spaces() {
        assert_eq!(one_line("{\r\n\"a\\n\":1}"), "{  \"a\\n\":1}");
        assert!(matches!(one_line("{}"), Cow::Borrowed(_)));
    }
}
