//! Expressions and values with expressions in them, compiled at their place in the document.

use eventflow_domain::expression::{Expression, Template, TextPart};
use serde_json::Value;

use crate::{fault::Faults, property, site::Site, variables::Variables};

/// The properties whose strings are expressions even without `${…}`.
const BARE: [&str; 6] = ["if", "when", "exceptWhen", "condition", "from", "as"];

/// How a language writes values that are computed: jq in OWS, references in DAG documents.
pub(crate) trait Values {
    /// Any value.
    fn value(&mut self, site: &Site<'_>, faults: &mut Faults) -> Option<Template>;
    /// A text that becomes a URL.
    fn url(&mut self, site: &Site<'_>, faults: &mut Faults) -> Option<Template>;
}

/// An upper bound of the expressions in a document.
pub(crate) fn count(value: &Value) -> usize {
    match value {
        Value::String(text) => text.matches("${").count(),
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(properties) => properties
            .iter()
            .map(|(name, value)| {
                count(value).max(usize::from(
                    value.is_string() && BARE.contains(&name.as_str()),
                ))
            })
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// Whether a text is meant as an expression wherever it stands.
pub(crate) fn is_expression(text: &str) -> bool {
    text.trim_start().starts_with("${")
}

/// A jq expression, bare or in `${…}`.
pub(crate) fn expression(
    site: &Site<'_>,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Expression> {
    let text = property::text(site, faults)?;
    Expression::compile_with(bare(text), &variables.names())
        .map_err(|fault| faults.at(site, fault.to_string()))
        .ok()
}

/// `input.from`, `output.as`, `export.as`, `set`: a string is an expression, an object holds some.
pub(crate) fn transformation(
    site: &Site<'_>,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Template> {
    match site.value {
        Value::String(_) => expression(site, variables, faults).map(Template::Expression),
        Value::Object(_) => strict(site, variables, faults),
        other => {
            faults.at(
                site,
                format!(
                    "must be an expression or an object, not {}",
                    property::shown(other)
                ),
            );
            None
        }
    }
}

/// Any value in which the strings `${…}` are expressions.
pub(crate) fn strict(
    site: &Site<'_>,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Template> {
    Template::strict_with(site.value, &variables.names())
        .map_err(|list| {
            for (pointer, fault) in list {
                faults.below(site, &pointer, fault.to_string());
            }
        })
        .ok()
}

/// A string, or an expression in `${…}` that yields one.
pub(crate) fn strict_text(
    site: &Site<'_>,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Template> {
    property::text(site, faults)?;
    strict(site, variables, faults)
}

/// Whether a URL may come of this: what it is known to begin with is `http://` or `https://`.
pub(crate) fn begins_as_url(template: &Template) -> bool {
    let begins = |text: &str, whole: bool| {
        ["http://", "https://"].iter().any(|scheme| {
            let longer = usize::from(whole);
            text.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                && text.len() >= scheme.len() + longer
        })
    };
    match template {
        Template::Literal(json) => json.read::<String>().is_ok_and(|text| begins(&text, true)),
        Template::Text(parts) => match parts.first() {
            Some(TextPart::Text(text)) => begins(text, false),
            Some(TextPart::Expression(_)) | None => true,
        },
        Template::Expression(_) => true,
        Template::Array(_) | Template::Object(_) => false,
    }
}

/// Takes `${` and `}` off.
fn bare(text: &str) -> &str {
    let trimmed = text.trim();
    trimmed
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .map_or(trimmed, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_taken_off() {
        assert_eq!(bare(" ${ .a } "), ".a");
        assert_eq!(bare(".a"), ".a");
        assert_eq!(bare("{a: 1}"), "{a: 1}");
    }

    #[test]
    fn expressions_are_counted() {
        let document = serde_json::json!({"a": "${ .x }", "if": ".y", "when": "${.z}", "text": ["a ${.b} ${.c}", 1]});
        assert_eq!(count(&document), 5);
    }

    #[test]
    fn a_url_begins_with_its_scheme() {
        let literal =
            |text: &str| begins_as_url(&Template::Literal(eventflow_domain::Json::of(text)));
        assert!(literal("https://a") && literal("HTTP://a/b"));
        assert!(
            !literal("https://")
                && !literal("ftp://a")
                && !literal("/a")
                && !literal("")
                && !literal("é")
        );
    }
}
