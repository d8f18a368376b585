//! Values: JSON as text that was parsed once, kept inline or by reference to a blob.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{ids::Digest, limits::INLINE_VALUE_BYTES_MAX};

/// Well-formed JSON as compact text, cheap to clone.
///
/// Most values only pass through (an agent's output is the next one's input), so they stay text and are parsed where
/// an expression looks into them.
#[derive(Clone)]
pub struct Json(Arc<str>);

impl Json {
    /// `null`.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Anything that serialises.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self(
            serde_json::to_string(value)
                .expect("a JSON value serialises")
                .into(),
        )
    }

    /// Text that must be JSON.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Ok(Self(raw.get().into()))
    }

    /// The compact text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are clones of one value; says nothing where they are not.
    pub fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The parsed value.
    pub fn to_value(&self) -> serde_json::Value {
        self.read().expect("a Json holds JSON")
    }

    /// Reads it as a type of its own.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl PartialEq for Json {
    /// The same text, or the same value in another spelling. What is JSON and still no value (`1e400`, a thousand
    /// brackets) has only its text.
    fn eq(&self, other: &Self) -> bool {
        let value = |json: &Self| json.read::<serde_json::Value>().ok();
        self.0 == other.0 || value(self).is_some_and(|own| value(other) == Some(own))
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        Self(Box::<str>::from(raw).into())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from)
    }
}

/// A value as an event holds it: inline, or above [`INLINE_VALUE_BYTES_MAX`] a reference to a blob (requirement W5).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Value {
    /// The value itself.
    #[serde(rename = "v")]
    Inline(Json),
    /// A blob by the digest of its text, which is also its key.
    #[serde(rename = "r")]
    Ref {
        /// SHA-256 of the JSON text.
        digest: Digest,
        /// Bytes of the JSON text.
        size: u64,
        /// The text while it is in memory: stored before the append that mentions it, loaded again after a recovery.
        #[serde(skip)]
        content: Option<Json>,
    },
}

impl Value {
    /// `null`.
    pub fn null() -> Self {
        Self::Inline(Json::null())
    }

    /// Inline or by reference, as its size demands.
    pub fn new(json: Json) -> Self {
        if json.as_str().len() <= INLINE_VALUE_BYTES_MAX {
            return Self::Inline(json);
        }
        let bytes = json.as_str().as_bytes();
        Self::Ref {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            content: Some(json),
        }
    }

    /// The JSON, where it is in memory.
    pub fn json(&self) -> Option<&Json> {
        match self {
            Self::Inline(json) => Some(json),
            Self::Ref { content, .. } => content.as_ref(),
        }
    }

    /// Puts the text of this digest back in memory.
    pub(crate) fn load(&mut self, wanted: &Digest, text: &Json) {
        if let Self::Ref {
            digest, content, ..
        } = self
            && digest == wanted
        {
            *content = Some(text.clone());
        }
    }

    /// The digest of a reference whose content must be loaded before anything reads it.
    pub fn missing(&self) -> Option<Digest> {
        match self {
            Self::Ref {
                digest,
                content: None,
                ..
            } => Some(*digest),
            Self::Ref { .. } | Self::Inline(_) => None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(one), Self::Inline(two)) => one == two,
            (Self::Ref { digest: one, .. }, Self::Ref { digest: two, .. }) => one == two,
            (Self::Inline(_), Self::Ref { .. }) | (Self::Ref { .. }, Self::Inline(_)) => false,
        }
    }
}

impl Eq for Value {}
