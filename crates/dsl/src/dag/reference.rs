//! References: `${step.key}` in any text, `step.key` alone where there is such a step (requirement F2).
//!
//! A text that is one reference becomes the value itself, a reference in a longer text becomes text.

use eventflow_domain::{
    Json,
    expression::{Expression, Root, Segment, Template, TextPart},
};
use serde_json::Value;

use super::{INPUT, Ids, Needs, shared};
use crate::{
    fault::{Faults, did_you_mean, quoted},
    property,
    site::Site,
    template::Values,
};

/// Compiles values and keeps which steps they refer to.
pub(super) struct References<'a> {
    ids: &'a Ids,
    /// The steps that were referred to.
    pub(super) needs: Needs,
}

/// `step.key[0]["another key"]`
#[derive(Debug, PartialEq, Eq)]
struct Reference<'t> {
    id: &'t str,
    way: Vec<Segment>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    Reference(Reference<'t>),
}

impl<'a> References<'a> {
    pub(super) fn new(ids: &'a Ids) -> Self {
        Self {
            ids,
            needs: Needs::new(),
        }
    }

    /// A step by its id; a fault where there is none.
    pub(super) fn step(&mut self, id: &str, site: &Site<'_>, faults: &mut Faults) {
        if let Some(index) = self.ids.get(id) {
            self.needs.insert(*index);
        } else {
            let hint = did_you_mean(id, self.ids.keys().map(String::as_str));
            faults.at(site, format!("there is no step {}{hint}", quoted(id)));
        }
    }

    /// A step, or the execution's input.
    pub(super) fn root(&mut self, id: &str, site: &Site<'_>, faults: &mut Faults) {
        if id != INPUT {
            self.step(id, site, faults);
        }
    }

    fn text(&mut self, text: &str, site: &Site<'_>, faults: &mut Faults) -> Option<Template> {
        if let Some(reference) = bare(text).filter(|reference| self.ids.contains_key(reference.id))
        {
            return Some(Template::Expression(self.read(reference, site, faults)));
        }
        let parts = parts(text).map_err(|detail| faults.at(site, detail)).ok()?;
        let mut compiled = Vec::with_capacity(parts.len());
        for part in parts {
            compiled.push(match part {
                Part::Text(text) => TextPart::Text(shared(text)),
                Part::Reference(reference) => {
                    TextPart::Expression(self.read(reference, site, faults))
                }
            });
        }
        Some(match &mut compiled[..] {
            [] | [TextPart::Text(_)] => Template::Literal(Json::of(text)),
            [TextPart::Expression(reference)] => Template::Expression(reference.clone()),
            _ => Template::Text(compiled),
        })
    }

    fn read(
        &mut self,
        reference: Reference<'_>,
        site: &Site<'_>,
        faults: &mut Faults,
    ) -> Expression {
        self.root(reference.id, site, faults);
        let mut way = reference.way;
        way.insert(0, Segment::Key(shared(reference.id)));
        Expression::path(Root::Dot, way)
    }
}

impl Values for References<'_> {
    fn value(&mut self, site: &Site<'_>, faults: &mut Faults) -> Option<Template> {
        match site.value {
            Value::String(text) => self.text(text, site, faults),
            Value::Array(_) => {
                let elements: Vec<_> = site
                    .elements()
                    .map(|element| self.value(&element, faults))
                    .collect();
                let elements = elements.into_iter().collect::<Option<Vec<_>>>()?;
                Some(folded(site.value, elements.iter(), || {
                    Template::Array(elements.clone())
                }))
            }
            Value::Object(_) => {
                let properties: Vec<_> = site
                    .properties()
                    .map(|(name, value)| (name, self.value(&value, faults)))
                    .collect();
                let properties = properties
                    .into_iter()
                    .map(|(name, value)| value.map(|value| (shared(name), value)))
                    .collect::<Option<Vec<_>>>()?;
                let values = properties.iter().map(|(_, value)| value);
                Some(folded(site.value, values, || {
                    Template::Object(properties.clone())
                }))
            }
            literal => Some(Template::Literal(Json::of(literal))),
        }
    }

    fn url(&mut self, site: &Site<'_>, faults: &mut Faults) -> Option<Template> {
        let text = property::text(site, faults)?;
        let template = self.text(text, site, faults)?;
        let literal_braces = match &template {
            Template::Literal(_) => text.contains(['{', '}']),
            Template::Text(parts) => parts
                .iter()
                .any(|part| matches!(part, TextPart::Text(text) if text.contains(['{', '}']))),
            Template::Expression(_) | Template::Array(_) | Template::Object(_) => false,
        };
        if literal_braces {
            faults.at(site, "`{` and `}` are for references in a step's URL: write `${step.key}` or `${input.key}`");
            return None;
        }
        Some(template)
    }
}

/// A literal where nothing in it is computed.
fn folded<'t>(
    value: &Value,
    mut parts: impl Iterator<Item = &'t Template>,
    computed: impl FnOnce() -> Template,
) -> Template {
    if parts.all(|part| matches!(part, Template::Literal(_))) {
        Template::Literal(Json::of(value))
    } else {
        computed()
    }
}

/// The whole text as a reference without `${}`: at least one key, and nothing else in it.
fn bare(text: &str) -> Option<Reference<'_>> {
    let (reference, rest) = reference(text)?;
    (rest.is_empty() && !reference.way.is_empty()).then_some(reference)
}

/// A text cut at its references. Nothing but a reference may stand in `${}`.
fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let (found, tail) = reference(after.trim_start())
            .and_then(|(found, tail)| Some((found, tail.trim_start().strip_prefix('}')?)))
            .ok_or_else(|| not_a_reference(after))?;
        parts.push(Part::Reference(found));
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

fn not_a_reference(after: &str) -> String {
    let Some((inside, _)) = after.split_once('}') else {
        return "has a `${` that is not closed".to_owned();
    };
    let dot = if inside.trim_start().starts_with('.') {
        ", without a dot before it"
    } else {
        ""
    };
    format!(
        "{} is not a reference: write `${{step.key}}` or `${{input.key}}`{dot}; expressions stand in `when` only",
        quoted(&format!("${{{inside}}}"))
    )
}

/// A reference at the beginning of a text, and what follows it.
fn reference(text: &str) -> Option<(Reference<'_>, &str)> {
    let (id, mut rest) = word(text)?;
    let mut way = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            let (key, after) = word(after)?;
            way.push(Segment::Key(shared(key)));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (segment, after) = index(after)?;
            way.push(segment);
            rest = after;
        } else {
            return Some((Reference { id, way }, rest));
        }
    }
}

fn word(text: &str) -> Option<(&str, &str)> {
    let inner =
        |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    let end = text
        .find(|character| !inner(character))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `0]`, `-1]` or `"key"]`
fn index(text: &str) -> Option<(Segment, &str)> {
    if !text.starts_with('"') {
        let (number, rest) = text.split_once(']')?;
        return Some((Segment::Index(number.parse().ok()?), rest));
    }
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let key = strings.next()?.ok()?;
    let rest = text.get(strings.byte_offset()..)?;
    Some((Segment::Key(shared(&key)), rest.strip_prefix(']')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str) -> Segment {
        Segment::Key(shared(key))
    }

    fn one(id: &str, way: Vec<Segment>) -> Part<'_> {
        Part::Reference(Reference { id, way })
    }

    #[test]
    fn a_text_is_cut_at_its_references() {
        assert_eq!(parts("plain"), Ok(vec![Part::Text("plain")]));
        assert_eq!(parts(""), Ok(vec![]));
        assert_eq!(parts("${b}"), Ok(vec![one("b", vec![])]));
        assert_eq!(
            parts("${ b.total }"),
            Ok(vec![one("b", vec![key("total")])])
        );
        assert_eq!(
            parts("a ${b.x}${c[0][\"y}]\"]}."),
            Ok(vec![
                Part::Text("a "),
                one("b", vec![key("x")]),
                one("c", vec![Segment::Index(0), key("y}]")]),
                Part::Text("."),
            ])
        );
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "${",
            "${}",
            "${b",
            "${b.}",
            "${b.x + 1}",
            "${.b}",
            "${b[x]}",
            "${b[\"x]}",
            "${é}",
        ] {
            assert!(parts(text).is_err(), "{text}");
        }
        assert!(
            parts("${ .b.total }")
                .unwrap_err()
                .contains("without a dot")
        );
    }

    #[test]
    fn a_bare_reference_is_a_whole_text_with_a_key() {
        assert_eq!(
            bare("b.total"),
            Some(Reference {
                id: "b",
                way: vec![key("total")]
            })
        );
        for text in ["b", "b.total ", "b.", "b total", ".b", "https://b.total"] {
            assert_eq!(bare(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_cut_or_refused(text in "[ab.\\[\\]\"${}0-9 -]{0,20}|\\PC{0,12}") {
            let _: Result<_, _> = parts(&text);
            let _: Option<_> = bare(&text);
        }
    }
}
