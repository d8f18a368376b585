//! Documents from text: strict JSON and strict YAML, bounded in size, depth and aliases.

use std::{cell::Cell, fmt};

use eventflow_domain::Json;
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
    json::{self, Strict},
};

/// Nodes of a YAML document: a value takes at least two bytes of text, and nobody writes that many by hand.
pub const YAML_NODES_MAX: usize = 250_000;
/// Anchors and aliases of a YAML document.
pub const YAML_ALIASES_MAX: usize = 1_000;
/// Nodes that all aliases together may stand for, so that ten lines cannot become a billion values.
pub const YAML_REPLAYED_MAX: usize = 100_000;

/// Why a text is not a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TextFault {
    /// From 1; 0 where the text as a whole is meant.
    pub line: usize,
    /// From 1; 0 where the text as a whole is meant.
    pub column: usize,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for TextFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        f.write_str(&self.detail)
    }
}

impl TextFault {
    /// A fault at a byte of the text.
    pub(crate) fn at(text: &str, byte: usize, detail: String) -> Self {
        let before = String::from_utf8_lossy(&text.as_bytes()[..byte]);
        let line = 1 + before.matches('\n').count();
        let last = before.rsplit('\n').next().unwrap_or_default();
        let column = 1 + last.chars().count();
        Self {
            line,
            column,
            detail,
        }
    }
}

/// Reads JSON where the text begins with `{` or `[`, YAML otherwise.
pub fn parse(text: &str) -> Result<Json, TextFault> {
    match text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .chars()
        .next()
    {
        Some('{' | '[') => parse_json(text),
        _ => parse_yaml(text),
    }
}

/// Reads strict JSON: at most [`DOCUMENT_BYTES_MAX`] and [`DOCUMENT_DEPTH_MAX`], no duplicate keys, no integers beyond
/// 2^53.
pub fn parse_json(text: &str) -> Result<Json, TextFault> {
    json::read(text.trim_start_matches('\u{feff}')).map(|value| Json::of(&value))
}

/// Reads one YAML 1.2 document under the same bounds: `yes` and `no` are text, unknown tags and duplicate keys are
/// refused, anchors, aliases and merge keys (`<<`) are allowed within a budget.
pub fn parse_yaml(text: &str) -> Result<Json, TextFault> {
    check_size(text)?;
    let bytes = Cell::new(DOCUMENT_BYTES_MAX);
    let value: Value = serde_saphyr::with_deserializer_from_str_with_options(
        text,
        yaml_options(),
        |deserializer| Strict::new(&bytes).deserialize(deserializer),
    )
    .map_err(|error| from_yaml(&error))?;
    let json = Json::of(&value);
    check_size(json.as_str())?;
    Ok(json)
}

pub(crate) fn check_size(text: &str) -> Result<(), TextFault> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(TextFault {
            line: 0,
            column: 0,
            detail: format!(
                "a document has at most {DOCUMENT_BYTES_MAX} bytes, this has {}",
                text.len()
            ),
        });
    }
    Ok(())
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

fn from_yaml(error: &serde_saphyr::Error) -> TextFault {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let (line, column) = error.location().map_or((0, 0), |location| {
        (number(location.line()), number(location.column()))
    });
    let error = error.without_snippet();
    let detail = match error {
        Error::Budget { breach, .. } => over_budget(breach),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {} stands twice in one mapping", quoted(key))
        }
        other => {
            let message = other.to_string();
            let place = format!(" at line {line}, column {column}");
            message
                .replace(&place, "")
                .replace("recursion limit exceeded", &json::too_deep())
        }
    };
    TextFault {
        line,
        column,
        detail,
    }
}

fn over_budget(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => json::too_deep(),
        BudgetBreach::Documents { .. } => {
            "holds more than one document: send them one by one".to_owned()
        }
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::MergeKeys { .. }
        | BudgetBreach::RecordedAnchorEvents { .. }
        | BudgetBreach::RecordedAnchorBytes { .. } => {
            "has too many aliases: write some of them out".to_owned()
        }
        other => format!("is too large to be read ({other:?}): split it"),
    }
}
