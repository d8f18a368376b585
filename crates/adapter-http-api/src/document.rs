//! Documents as people write them, JSON or YAML, made into JSON within limits. What they mean is not known here.

use std::fmt;

use eventflow_domain::Json;
use eventflow_wire::v1::{VALUE_DEPTH_MAX, accept, depth_is_within};

/// The largest document, bytes (DESIGN section 10).
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// What a document may grow to when its aliases are written out, bytes of scalars.
const EXPANDED_BYTES_MAX: usize = 4 * DOCUMENT_BYTES_MAX;
/// Scalars, lists and maps of a document, aliases written out: a generous number for a megabyte.
const NODES_MAX: usize = 250_000;
/// Those that come of aliases, so that ten lines cannot become a megabyte.
const REPLAYED_MAX: usize = 100_000;
/// Uses of an anchor: people write a handful.
const ALIASES_MAX: usize = 1_000;

/// What a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// YAML 1.2 with strict booleans, one document.
    Yaml,
}

impl Format {
    /// The format of a media type, without parameters and in lower case.
    pub fn of_media(media: &str) -> Option<Self> {
        match media {
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => {
                Some(Self::Yaml)
            }
            _ if media.starts_with("application/") && media.ends_with("+yaml") => Some(Self::Yaml),
            _ if crate::body::is_json(media) => Some(Self::Json),
            _ => None,
        }
    }

    /// The format of a file by its extension.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is larger than [`DOCUMENT_BYTES_MAX`].
    #[error("a document may have at most {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge,
    /// It cannot be read.
    #[error("the document is not {format}: {detail}{}", place(*.at))]
    Malformed {
        /// What it was to be.
        format: Format,
        /// What is wrong.
        detail: String,
        /// Line and column from 1, where they are known.
        at: Option<(u64, u64)>,
    },
    /// It can be read, but holds what a document may not.
    #[error("{0}")]
    Unsound(String),
}

fn place(at: Option<(u64, u64)>) -> String {
    at.map_or(String::new(), |(line, column)| {
        format!(" at line {line} column {column}")
    })
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Yaml => "YAML",
        })
    }
}

/// Reads a document into compact JSON: at most [`DOCUMENT_BYTES_MAX`], 64 deep, aliases within a budget.
pub fn parse(bytes: &[u8], format: Format) -> Result<Json, DocumentError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError::Malformed {
        format,
        detail: format!("byte {} is not UTF-8", error.valid_up_to()),
        at: None,
    })?;
    let json = match format {
        Format::Json => json(text)?,
        Format::Yaml => yaml(text)?,
    };
    accept(json).map_err(|error| DocumentError::Unsound(error.to_string()))
}

fn json(text: &str) -> Result<Json, DocumentError> {
    if !depth_is_within(text.as_bytes(), VALUE_DEPTH_MAX) {
        return Err(DocumentError::Unsound(too_deep()));
    }
    Json::parse(text).map_err(|error| {
        let detail = error.to_string();
        let detail = detail.split(" at line ").next().unwrap_or_default();
        DocumentError::Malformed {
            format: Format::Json,
            detail: detail.into(),
            at: Some((error.line() as u64, error.column() as u64)),
        }
    })
}

fn too_deep() -> String {
    format!("a document may have at most {VALUE_DEPTH_MAX} arrays and objects within each other")
}

fn yaml(text: &str) -> Result<Json, DocumentError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::Reject,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPLAYED_MAX,
        },
        budget: serde_saphyr::budget! {
            max_depth: VALUE_DEPTH_MAX,
            flow_nesting_limit: VALUE_DEPTH_MAX,
            max_documents: 1,
            max_nodes: NODES_MAX,
            max_aliases: ALIASES_MAX,
            max_total_scalar_bytes: EXPANDED_BYTES_MAX,
        },
    };
    serde_saphyr::from_str_with_options::<serde_json::Value>(text, options)
        .map(|value| Json::of(&value))
        .map_err(|error| from_yaml(&error))
}

/// What goes beyond a bound could be read and is refused nevertheless; everything else is not YAML. Many of these come
/// wrapped into others, as words only.
fn from_yaml(error: &serde_saphyr::Error) -> DocumentError {
    let at = error
        .location()
        .map(|location| (location.line(), location.column()));
    let words = error.without_snippet().to_string();
    let is_any = |beginnings: &[&str]| beginnings.iter().any(|begin| words.starts_with(begin));
    let beyond = if is_any(&["recursion limit", "budget breached: Depth"]) {
        too_deep()
    } else if is_any(&["alias replay", "alias expansion", "budget breached: "]) {
        format!(
            "a document may have at most {NODES_MAX} values and {EXPANDED_BYTES_MAX} bytes of text with all of its aliases written out, and at most {ALIASES_MAX} aliases"
        )
    } else {
        let end = words
            .find(" at line ")
            .or_else(|| words.find(" (defined at"));
        return DocumentError::Malformed {
            format: Format::Yaml,
            detail: words[..end.unwrap_or(words.len())].to_owned(),
            at,
        };
    };
    DocumentError::Unsound(beyond + &place(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Result<String, DocumentError> {
        parse(text.as_bytes(), Format::Yaml).map(|json| json.as_str().to_owned())
    }

    #[test]
    fn yaml_becomes_json_in_the_same_order() {
        let text = "document:\n  dsl: '1.0.3'\n  name: hello\ndo:\n- greet:\n    set: {a: 1, on: yes, t: true, x: '${ .y }'}\n";
        assert_eq!(
            yaml(text).unwrap(),
            r#"{"document":{"dsl":"1.0.3","name":"hello"},"do":[{"greet":{"set":{"a":1,"on":"yes","t":true,"x":"${ .y }"}}}]}"#
        );
    }

    #[test]
    fn what_is_no_yaml_names_its_line() {
        let refusal = yaml("a: 1\nb: [1, 2\nc: }\n").unwrap_err();
        let DocumentError::Malformed {
            at: Some((line, _)),
            ..
        } = refusal
        else {
            panic!("{refusal}");
        };
        assert!((2..=3).contains(&line), "{refusal}");
    }

    #[test]
    fn a_key_that_stands_twice_and_a_second_document_are_refused() {
        for text in ["a: 1\na: 2\n", "a: 1\n---\nb: 2\n", "a: .inf\n", "a: *b\n"] {
            assert!(yaml(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_names_its_line_once() {
        let refusal = parse(b"{\n \"a\": ]\n}", Format::Json).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the document is not JSON: expected value at line 2 column 7"
        );
    }

    #[test]
    fn depth_is_bounded_in_both_formats() {
        for depth in [65, 10_000, 400_000] {
            let brackets = "[".repeat(depth) + &"]".repeat(depth);
            assert!(parse(brackets.as_bytes(), Format::Json).is_err(), "{depth}");
            assert!(yaml(&brackets).is_err(), "{depth}");
        }
        let block = |depth: usize| {
            (0..depth).fold(String::new(), |text, level| {
                text + &" ".repeat(level) + "a:\n"
            })
        };
        assert!(yaml(&block(65)).is_err());
        assert!(yaml(&block(64)).is_ok());
        assert!(yaml(&"- ".repeat(500_000)).is_err());
        assert!(yaml(&"? ".repeat(500_000)).is_err());
    }

    #[test]
    fn aliases_stay_within_a_budget() {
        let bomb = (1..9).fold(
            String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n"),
            |text, level| {
                let uses = vec![format!("*a{}", level - 1); 9].join(",");
                text + &format!("a{level}: &a{level} [{uses}]\n")
            },
        );
        assert!(yaml(&bomb).is_err());
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(20));
        assert!(yaml(&long).is_err());
        assert_eq!(yaml("a: &a [1]\nb: *a\n").unwrap(), r#"{"a":[1],"b":[1]}"#);
    }

    #[test]
    fn a_document_has_a_size() {
        let large = vec![b' '; DOCUMENT_BYTES_MAX + 1];
        assert_eq!(parse(&large, Format::Yaml), Err(DocumentError::TooLarge));
        assert!(parse(&[0xff, 0xfe, b'a'], Format::Yaml).is_err());
    }

    #[test]
    fn formats_are_known_by_media_type_and_extension() {
        assert_eq!(Format::of_media("application/yaml"), Some(Format::Yaml));
        assert_eq!(Format::of_media("application/json"), Some(Format::Json));
        assert_eq!(Format::of_media("text/plain"), None);
        assert_eq!(Format::of_extension("YML"), Some(Format::Yaml));
        assert_eq!(Format::of_extension("toml"), None);
    }
}
