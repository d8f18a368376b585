//! Plain reads such as `.order.items[0]`: straight on the JSON text, without jq and without a tree.
//!
//! Most expressions of a workflow are one of these. The text is scanned once per segment and only the value that was
//! asked for is copied out of it.

use std::{fmt::Write as _, sync::Arc};

use serde::de::{
    DeserializeSeed, Deserializer as _, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::Scope;
use crate::value::Json;

/// Where a plain read starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `.`
    Dot,
    /// `$name`, without the dollar.
    Variable(Arc<str>),
}

/// One step of a plain read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A key of an object.
    Key(Arc<str>),
    /// An index of an array, from its end if negative.
    Index(i64),
}

/// A plain read.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) root: Root,
    pub(super) segments: Vec<Segment>,
}

impl Path {
    /// The read in jq's notation.
    pub(super) fn source(&self) -> String {
        let mut source = match &self.root {
            Root::Dot => String::from("."),
            Root::Variable(name) => format!("${name}"),
        };
        for (position, segment) in self.segments.iter().enumerate() {
            let first_of_dot = position == 0 && self.root == Root::Dot;
            match segment {
                Segment::Key(key) if is_identifier(key) => {
                    source.push_str(if first_of_dot { "" } else { "." });
                    source.push_str(key);
                }
                Segment::Key(key) => {
                    let _ = write!(source, "[{}]", Json::of(&**key).as_str());
                }
                Segment::Index(index) => {
                    let _ = write!(source, "[{index}]");
                }
            }
        }
        source
    }

    /// The top-level fields of `.` that are read; none if all of it is.
    pub(super) fn roots(&self) -> Option<Vec<Arc<str>>> {
        match (&self.root, self.segments.first()) {
            (Root::Dot, Some(Segment::Key(key))) => Some(vec![key.clone()]),
            (Root::Dot, Some(Segment::Index(_)) | None) => None,
            (Root::Variable(_), _) => Some(vec![]),
        }
    }

    /// The value, null where it is missing, an error where jq has one.
    pub(super) fn read(&self, scope: &dyn Scope) -> Result<Json, String> {
        let (start, segments) = match (&self.root, self.segments.split_first()) {
            (Root::Dot, Some((Segment::Key(key), rest))) if scope.dot_is_object() => {
                (scope.field(key).unwrap_or_else(Json::null), rest)
            }
            (Root::Dot, _) => (scope.dot(), self.segments.as_slice()),
            (Root::Variable(name), _) => {
                let value = scope.variable(name).ok_or_else(|| undefined(name))?;
                (value, self.segments.as_slice())
            }
        };
        let Some((first, rest)) = segments.split_first() else {
            return Ok(start);
        };
        let mut found = child(start.as_str(), first)?;
        for segment in rest {
            found = match found {
                Some(raw) => child(raw.get(), segment)?,
                None => break,
            };
        }
        Ok(found.map_or_else(Json::null, |raw| Json::from(raw.to_owned())))
    }
}

/// A field of an object, nothing where it is missing.
pub(super) fn field(object: &str, key: &str) -> Result<Option<Json>, String> {
    let found = child(object, &Segment::Key(key.into()))?;
    Ok(found.map(|raw| Json::from(raw.to_owned())))
}

/// What is said about a variable that a scope does not have.
pub(super) fn undefined(name: &str) -> String {
    format!("`${name}` is not defined here")
}

fn is_identifier(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && key
            .chars()
            .all(|other| other.is_ascii_alphanumeric() || other == '_')
}

/// The text of a value's child, nothing where it is missing.
fn child<'a>(json: &'a str, segment: &Segment) -> Result<Option<&'a RawValue>, String> {
    let kind = json.trim_start().as_bytes().first();
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = match (kind, segment) {
        (Some(b'n'), _) => Ok(None),
        (Some(b'{'), Segment::Key(key)) => reader.deserialize_map(Field(key)),
        (Some(b'['), Segment::Index(index)) => match usize::try_from(*index) {
            Ok(index) => reader.deserialize_seq(Item(index)),
            Err(_) => from_end(json, index.unsigned_abs()),
        },
        (kind, Segment::Key(key)) => {
            return Err(format!(
                "cannot read the field `{key}` of {}",
                name_of(kind)
            ));
        }
        (kind, Segment::Index(index)) => {
            return Err(format!("cannot read the item {index} of {}", name_of(kind)));
        }
    };
    found.map_err(|error| error.to_string())
}

fn name_of(first_byte: Option<&u8>) -> &'static str {
    match first_byte {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

fn from_end(json: &str, back: u64) -> Result<Option<&RawValue>, serde_json::Error> {
    let items: Vec<&RawValue> = serde_json::from_str(json)?;
    let position = usize::try_from(back)
        .ok()
        .and_then(|back| items.len().checked_sub(back));
    Ok(position.map(|position| items[position]))
}

/// Finds the last entry with this key: the one that a JSON reader keeps.
struct Field<'k>(&'k str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = entries.next_key_seed(IsKey(self.0))? {
            if is_it {
                found = Some(entries.next_value()?);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Compares a key without copying it.
struct IsKey<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// Finds the item at this index.
struct Item(usize);

impl<'de> Visitor<'de> for Item {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = items.next_element()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}
