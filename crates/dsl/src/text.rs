//! Documents from text: strict JSON and strict YAML, bounded in size, depth and aliases.

use eventflow_domain::{
    Json,
    error::{Fault, Place},
};
use serde::de::DeserializeSeed as _;
use serde_json::Value;
use serde_saphyr::{
    Error,
    budget::BudgetBreach,
    options::{AliasLimits, DuplicateKeyPolicy, MergeKeyPolicy},
};

use crate::{
    DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX,
    fault::quoted,
    json::{self, Allowance, Strict},
    place,
};

/// Nodes of a YAML document: a value takes at least two bytes of text, and nobody writes that many by hand.
pub const YAML_NODES_MAX: usize = 250_000;
/// Anchors and aliases of a YAML document.
pub const YAML_ALIASES_MAX: usize = 1_000;
/// Nodes that all aliases together may stand for, so that ten lines cannot become a billion values.
pub const YAML_REPLAYED_MAX: usize = 100_000;

/// What some editors begin a text with; it is no part of a document.
const BYTE_ORDER_MARK: char = '\u{feff}';
const TOO_MANY_ALIASES: &str = "has too many aliases: write some of them out";

/// Why a text is not a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {detail}", place.line, place.column)]
pub struct TextFault {
    /// What of it is at fault.
    pub kind: TextFaultKind,
    /// Where it was noticed; the start, where the text as a whole is meant.
    pub place: Place,
    /// What is wrong.
    pub detail: String,
}

/// What of a text is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFaultKind {
    /// It has more than [`DOCUMENT_BYTES_MAX`] bytes, and was not looked at.
    TooLarge,
    /// It does not have the grammar.
    Malformed,
    /// It has, as far as it was read, and holds what goes beyond a bound of documents.
    Unsound,
}

impl From<TextFault> for Fault {
    fn from(fault: TextFault) -> Self {
        Self {
            place: Some(fault.place),
            ..Self::at("", fault.detail)
        }
    }
}

/// Bytes as text.
pub fn utf8(bytes: &[u8]) -> Result<&str, TextFault> {
    std::str::from_utf8(bytes).map_err(|error| {
        let byte = error.valid_up_to();
        TextFault {
            kind: TextFaultKind::Malformed,
            place: place::of_byte(bytes, byte),
            detail: format!("byte {byte} is not UTF-8"),
        }
    })
}

/// Whether a text says by its beginning that it is JSON: `{` or `[`.
pub fn is_json(text: &str) -> bool {
    text.trim_start_matches(BYTE_ORDER_MARK)
        .trim_start()
        .starts_with(['{', '['])
}

/// Reads JSON where the text [says so](is_json), YAML otherwise.
pub fn parse(text: &str) -> Result<Json, TextFault> {
    if is_json(text) {
        parse_json(text)
    } else {
        parse_yaml(text)
    }
}

/// Reads strict JSON: at most [`DOCUMENT_BYTES_MAX`] and [`DOCUMENT_DEPTH_MAX`], no duplicate keys, no integers beyond
/// 2^53.
pub fn parse_json(text: &str) -> Result<Json, TextFault> {
    json::read(text.trim_start_matches(BYTE_ORDER_MARK)).map(|value| Json::of(&value))
}

/// Reads one YAML 1.2 document under the same bounds: `yes` and `no` are text, unknown tags and duplicate keys are
/// refused, anchors, aliases and merge keys (`<<`) are allowed within a budget.
pub fn parse_yaml(text: &str) -> Result<Json, TextFault> {
    check_size(text)?;
    let allowance = Allowance::default();
    let value: Value = serde_saphyr::with_deserializer_from_str_with_options(
        text,
        yaml_options(),
        |deserializer| Strict::new(&allowance).deserialize(deserializer),
    )
    .map_err(|error| from_yaml(&error, &allowance))?;
    let json = Json::of(&value);
    if json.as_str().len() > DOCUMENT_BYTES_MAX {
        return Err(TextFault {
            kind: TextFaultKind::Unsound,
            place: Place::START,
            detail: too_large(json.as_str()) + " as JSON",
        });
    }
    Ok(json)
}

pub(crate) fn check_size(text: &str) -> Result<(), TextFault> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(TextFault {
            kind: TextFaultKind::TooLarge,
            place: Place::START,
            detail: too_large(text),
        });
    }
    Ok(())
}

fn too_large(text: &str) -> String {
    format!(
        "a document has at most {DOCUMENT_BYTES_MAX} bytes, this has {}",
        text.len()
    )
}

fn yaml_options() -> serde_saphyr::Options {
    let aliases = {
        let mut limits = AliasLimits::default();
        limits.max_total_replayed_events = YAML_REPLAYED_MAX;
        limits.max_replay_stack_depth = DOCUMENT_DEPTH_MAX;
        limits
    };
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(DOCUMENT_BYTES_MAX),
            flow_nesting_limit: DOCUMENT_DEPTH_MAX,
            max_depth: DOCUMENT_DEPTH_MAX,
            max_documents: 1,
            max_nodes: YAML_NODES_MAX,
            max_events: 2 * YAML_NODES_MAX,
            max_aliases: YAML_ALIASES_MAX,
            max_anchors: YAML_ALIASES_MAX,
            max_recorded_anchor_events: YAML_REPLAYED_MAX,
            max_recorded_anchor_bytes: 4 * DOCUMENT_BYTES_MAX,
            max_total_scalar_bytes: 2 * DOCUMENT_BYTES_MAX,
            max_merge_keys: YAML_ALIASES_MAX,
        },
        emit_comments: false,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        alias_limits: aliases,
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn from_yaml(error: &serde_saphyr::Error, allowance: &Allowance) -> TextFault {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).max(1);
    let place = error.location().map_or(Place::START, |location| Place {
        line: number(location.line()),
        column: number(location.column()),
    });
    let (kind, detail) = match cause(error) {
        Error::Budget {
            breach: BudgetBreach::Documents { .. },
            ..
        }
        | Error::MultipleDocuments { .. } => (
            TextFaultKind::Malformed,
            "holds more than one document: send them one by one".to_owned(),
        ),
        Error::Budget { breach, .. } => (TextFaultKind::Unsound, over_budget(breach)),
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            (TextFaultKind::Unsound, TOO_MANY_ALIASES.to_owned())
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => (
            TextFaultKind::Malformed,
            format!("the key {} stands twice in one mapping", quoted(key)),
        ),
        other => in_words(&other.to_string(), place, allowance),
    };
    TextFault {
        kind,
        place,
        detail,
    }
}

/// What an error is about, below what is wrapped around it.
fn cause(error: &serde_saphyr::Error) -> &serde_saphyr::Error {
    match error.without_snippet() {
        Error::AliasError { error, .. } => cause(error),
        other => other,
    }
}

/// An error of the scanner or of [`Strict`] has nothing but words.
fn in_words(message: &str, place: Place, allowance: &Allowance) -> (TextFaultKind, String) {
    if message.starts_with("recursion limit exceeded") {
        return (TextFaultKind::Unsound, json::too_deep());
    }
    let place = format!(" at line {}, column {}", place.line, place.column);
    (allowance.kind(), message.replace(&place, ""))
}

fn over_budget(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => json::too_deep(),
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::MergeKeys { .. }
        | BudgetBreach::RecordedAnchorEvents { .. }
        | BudgetBreach::RecordedAnchorBytes { .. } => TOO_MANY_ALIASES.to_owned(),
        other => format!("is too large to be read ({other:?}): split it"),
    }
}
