//! A strict reader of JSON values, shared by both spellings: no duplicate keys, no integers that would lose digits,
//! and bounds on size and depth that hold while it reads.

use std::{cell::Cell, fmt};

use eventflow_domain::error::Place;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{
    DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX,
    fault::quoted,
    place,
    text::{TextFault, TextFaultKind},
};

/// The largest integer that every reader of JSON keeps exactly (RFC 8785 section 3.2.2.3 writes numbers as doubles).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Reads JSON text: its size and depth are looked at before anything is parsed.
pub(crate) fn read(text: &str) -> Result<Value, TextFault> {
    crate::text::check_size(text)?;
    check_depth(text)?;
    let allowance = Allowance::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Strict::new(&allowance)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let message = error.to_string();
            let place = format!(" at line {line} column {column}");
            let detail = message.strip_suffix(&place).unwrap_or(&message).to_owned();
            TextFault {
                kind: allowance.kind(),
                place: Place {
                    line: line.max(1),
                    column: column.max(1),
                },
                detail,
            }
        })
}

/// Counts brackets outside of strings; whether they match is the parser's business.
fn check_depth(text: &str) -> Result<(), TextFault> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DOCUMENT_DEPTH_MAX {
            return Err(TextFault {
                kind: TextFaultKind::Unsound,
                place: place::of_byte(text.as_bytes(), at),
                detail: too_deep(),
            });
        }
    }
    Ok(())
}

/// What is said of a document beyond [`DOCUMENT_DEPTH_MAX`].
pub(crate) fn too_deep() -> String {
    format!("arrays and objects are nested more than {DOCUMENT_DEPTH_MAX} deep")
}

/// What a reader may still read, and whether it came to more.
pub(crate) struct Allowance {
    /// Bytes: an alias of YAML repeats what it stands for, so the text's size bounds nothing.
    bytes: Cell<usize>,
    is_exceeded: Cell<bool>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            bytes: Cell::new(DOCUMENT_BYTES_MAX),
            is_exceeded: Cell::new(false),
        }
    }
}

impl Allowance {
    /// An error of going beyond a bound: a deserializer's error keeps nothing but words.
    fn exceeded<E: Error>(&self, detail: String) -> E {
        self.is_exceeded.set(true);
        E::custom(detail)
    }

    /// What kind of fault ended the reading.
    pub(crate) fn kind(&self) -> TextFaultKind {
        if self.is_exceeded.get() {
            TextFaultKind::Unsound
        } else {
            TextFaultKind::Malformed
        }
    }
}

/// Reads one value of any self-describing format.
pub(crate) struct Strict<'a> {
    allowance: &'a Allowance,
    /// Arrays and objects around it.
    depth: usize,
}

impl<'a> Strict<'a> {
    /// A reader of what is allowed.
    pub(crate) fn new(allowance: &'a Allowance) -> Self {
        Self {
            allowance,
            depth: 0,
        }
    }

    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.allowance.bytes.get().checked_sub(bytes);
        let left = left.ok_or_else(|| {
            self.allowance.exceeded(format!(
                "holds more than {DOCUMENT_BYTES_MAX} bytes once its aliases are replaced"
            ))
        })?;
        self.allowance.bytes.set(left);
        Ok(())
    }

    fn within<E: Error>(&self) -> Result<Strict<'a>, E> {
        if self.depth >= DOCUMENT_DEPTH_MAX {
            return Err(self.allowance.exceeded(too_deep()));
        }
        Ok(Strict {
            allowance: self.allowance,
            depth: self.depth + 1,
        })
    }

    fn exact<E: Error>(&self, magnitude: u64, value: impl fmt::Display) -> Result<(), E> {
        if magnitude > INTEGER_MAX {
            return Err(self.allowance.exceeded(format!(
                "the integer {value} is beyond what JSON keeps exactly ({INTEGER_MAX}): write it as a string"
            )));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(4)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(1)?;
        self.exact(value.unsigned_abs(), value)?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(1)?;
        self.exact(value, value)?;
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(1)?;
        let number = serde_json::Number::from_f64(value);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom(format!("`{value}` is not a number of JSON")))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::from(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(4)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self.within()?)? {
            self.spend(1)?;
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.spend(key.len() + 1)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!(
                    "the key {} stands twice in one object",
                    quoted(&key)
                )));
            }
            let value = entries.next_value_seed(self.within()?)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn sixty_four_levels_are_read_and_one_more_is_not() {
        assert!(read(&nested(DOCUMENT_DEPTH_MAX)).is_ok());
        let fault = read(&nested(DOCUMENT_DEPTH_MAX + 1)).unwrap_err();
        let column = DOCUMENT_DEPTH_MAX + 1;
        assert_eq!(fault.place, Place { line: 1, column });
    }

    #[test]
    fn brackets_in_strings_are_no_depth() {
        let text = format!("[\"\\\"{}\"]", "[".repeat(200));
        assert!(read(&text).is_ok());
    }

    #[test]
    fn a_bomb_of_brackets_is_refused_before_it_is_parsed() {
        assert!(read(&"[".repeat(DOCUMENT_BYTES_MAX)).is_err());
        assert!(read("][[]").is_err());
    }

    #[test]
    fn a_key_stands_once() {
        let fault = read("{\"a\": 1,\n \"a\": 2}").unwrap_err();
        assert_eq!(fault.place.line, 2);
        assert!(fault.detail.contains("`a` stands twice"), "{fault}");
    }

    #[test]
    fn integers_that_would_lose_digits_are_refused() {
        assert!(read("9007199254740991").is_ok());
        assert!(read("9007199254740992").is_err());
        assert!(read("-9007199254740992").is_err());
        assert!(read("1e400").is_err());
    }

    #[test]
    fn nothing_may_follow() {
        assert!(read("{} {}").is_err());
    }
}
