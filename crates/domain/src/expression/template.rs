//! Templates: JSON in which some strings are expressions.

use std::sync::Arc;

use serde_json::Value;

use super::{EvaluationError, Expression, ExpressionFault, Scope, text};
use crate::{limits::BLOB_BYTES_MAX, value::Json};

/// JSON with expressions in it, compiled once (OWS DSL 1.0, "Runtime expressions", strict mode).
#[derive(Debug, Clone)]
pub enum Template {
    /// A part without expressions.
    Literal(Json),
    /// The value of an expression, with its own type.
    Expression(Expression),
    /// An array of which at least one item is no literal.
    Array(Vec<Template>),
    /// An object of which at least one value is no literal.
    Object(Vec<(Arc<str>, Template)>),
    /// One string of several parts (DAG documents).
    Text(Vec<TextPart>),
}

/// A part of a [`Template::Text`].
#[derive(Debug, Clone)]
pub enum TextPart {
    /// Text as it stands.
    Text(Arc<str>),
    /// The value of an expression: a string as it is, anything else as its JSON.
    Expression(Expression),
}

/// The faults of a document, each with its JSON Pointer below the given value.
pub type TemplateFaults = Vec<(String, ExpressionFault)>;

impl Template {
    /// In strict mode: a string that is `${ … }` as a whole is an expression, everything else is literal. Reports all
    /// faults at once.
    pub fn strict(value: &Value) -> Result<Self, TemplateFaults> {
        Self::strict_with(value, &[])
    }

    /// As [`strict`](Self::strict), with further variables that are in scope there.
    pub fn strict_with(value: &Value, variables: &[&str]) -> Result<Self, TemplateFaults> {
        let mut faults = vec![];
        let template = of_value(value, variables, &mut String::new(), &mut faults);
        if faults.is_empty() {
            Ok(template)
        } else {
            Err(faults)
        }
    }

    /// The value, with every expression replaced by its own.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        match self {
            Self::Literal(json) => Ok(json.clone()),
            Self::Expression(expression) => expression.evaluate(scope),
            Self::Array(_) | Self::Object(_) | Self::Text(_) => {
                let mut json = String::new();
                self.write(scope, 0, &mut json)?;
                Ok(Json::parse(&json).expect("a template writes JSON"))
            }
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }

    /// Whether it yields `.` unchanged.
    pub fn is_identity(&self) -> bool {
        matches!(self, Self::Expression(expression) if expression.is_identity())
    }

    /// Writes the value as JSON, so many levels deep in another value.
    fn write(
        &self,
        scope: &dyn Scope,
        depth: usize,
        json: &mut String,
    ) -> Result<(), EvaluationError> {
        match self {
            Self::Literal(literal) => json.push_str(literal.as_str()),
            Self::Expression(expression) => {
                let value = expression.evaluate(scope)?;
                let fits = text::check(value.as_str(), depth);
                fits.map_err(|excess| expression.error(excess.to_string()))?;
                json.push_str(value.as_str());
                bounded(expression, json)?;
            }
            Self::Array(items) => {
                json.push('[');
                for (position, item) in items.iter().enumerate() {
                    json.push_str(if position > 0 { "," } else { "" });
                    item.write(scope, depth + 1, json)?;
                }
                json.push(']');
            }
            Self::Object(entries) => {
                json.push('{');
                for (position, (key, value)) in entries.iter().enumerate() {
                    json.push_str(if position > 0 { "," } else { "" });
                    json.push_str(Json::of(&**key).as_str());
                    json.push(':');
                    value.write(scope, depth + 1, json)?;
                }
                json.push('}');
            }
            Self::Text(parts) => json.push_str(Json::of(&joined(parts, scope)?).as_str()),
        }
        Ok(())
    }

    /// All expressions in it, in the order of the document.
    pub fn expressions(&self) -> Vec<&Expression> {
        match self {
            Self::Literal(_) => vec![],
            Self::Expression(expression) => vec![expression],
            Self::Array(items) => items.iter().flat_map(Self::expressions).collect(),
            Self::Object(entries) => entries
                .iter()
                .flat_map(|(_, value)| value.expressions())
                .collect(),
            Self::Text(parts) => parts.iter().filter_map(TextPart::expression).collect(),
        }
    }
}

impl TextPart {
    fn expression(&self) -> Option<&Expression> {
        match self {
            Self::Text(_) => None,
            Self::Expression(expression) => Some(expression),
        }
    }
}

/// Passes what has been built, up to this expression, if it is not larger than any value may be.
fn bounded(expression: &Expression, built: &str) -> Result<(), EvaluationError> {
    if built.len() > BLOB_BYTES_MAX {
        return Err(expression.error(format!(
            "with it, the value is larger than {BLOB_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn joined(parts: &[TextPart], scope: &dyn Scope) -> Result<String, EvaluationError> {
    let mut text = String::new();
    for part in parts {
        match part {
            TextPart::Text(literal) => text.push_str(literal),
            TextPart::Expression(expression) => {
                let value = expression.evaluate(scope)?;
                match value.read::<String>() {
                    Ok(string) => text.push_str(&string),
                    Err(_) => text.push_str(value.as_str()),
                }
                bounded(expression, &text)?;
            }
        }
    }
    Ok(text)
}

fn of_value(
    value: &Value,
    variables: &[&str],
    pointer: &mut String,
    faults: &mut TemplateFaults,
) -> Template {
    match value {
        Value::String(text) => {
            if let Some(source) = source_of(text) {
                match Expression::compile_with(source, variables) {
                    Ok(expression) => return Template::Expression(expression),
                    Err(fault) => faults.push((pointer.clone(), fault)),
                }
            }
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(index, item)| {
                below(pointer, &index.to_string(), |pointer| {
                    of_value(item, variables, pointer, faults)
                })
            });
            let items: Vec<_> = items.collect();
            if !items.iter().all(Template::is_literal) {
                return Template::Array(items);
            }
        }
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                let template = below(pointer, key, |pointer| {
                    of_value(value, variables, pointer, faults)
                });
                (Arc::from(key.as_str()), template)
            });
            let entries: Vec<_> = entries.collect();
            if !entries.iter().all(|(_, value)| value.is_literal()) {
                return Template::Object(entries);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Template::Literal(Json::of(value))
}

/// The source in a string that is `${ … }` as a whole.
fn source_of(text: &str) -> Option<&str> {
    text.trim().strip_prefix("${")?.strip_suffix('}')
}

/// Runs something one step further down a JSON Pointer.
fn below<T>(pointer: &mut String, step: &str, run: impl FnOnce(&mut String) -> T) -> T {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
    let result = run(pointer);
    pointer.truncate(length);
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Order;

    impl Scope for Order {
        fn dot(&self) -> Json {
            Json::of(&json!({"id": "o-1", "items": [1, 2]}))
        }

        fn field(&self, name: &str) -> Option<Json> {
            self.dot().to_value().get(name).map(Json::of)
        }

        fn variable(&self, _: &str) -> Option<Json> {
            None
        }
    }

    fn evaluated(value: &Value) -> Value {
        Template::strict(value)
            .unwrap()
            .evaluate(&Order)
            .unwrap()
            .to_value()
    }

    #[test]
    fn a_string_that_is_an_expression_becomes_its_value() {
        assert_eq!(evaluated(&json!("${ .items }")), json!([1, 2]));
        assert_eq!(evaluated(&json!("  ${.id}  ")), json!("o-1"));
        assert_eq!(evaluated(&json!("order ${ .id }")), json!("order ${ .id }"));
        assert_eq!(evaluated(&json!(".id")), json!(".id"));
    }

    #[test]
    fn expressions_are_found_at_any_depth() {
        let document =
            json!({"a": ["${ .id }", 1], "b": {"c": {"d": "${ .items | length }"}}, "e": null});
        assert_eq!(
            evaluated(&document),
            json!({"a": ["o-1", 1], "b": {"c": {"d": 2}}, "e": null})
        );
        let template = Template::strict(&document).unwrap();
        let sources: Vec<_> = template
            .expressions()
            .iter()
            .map(|one| one.source().to_owned())
            .collect();
        assert_eq!(sources, [".id", ".items | length"]);
    }

    #[test]
    fn what_holds_no_expression_is_one_literal() {
        let Template::Object(entries) =
            Template::strict(&json!({"a": {"b": [1]}, "c": "${ . }"})).unwrap()
        else {
            panic!("an object with an expression is an object");
        };
        assert!(
            matches!(&entries[0].1, Template::Literal(json) if json.as_str() == r#"{"b":[1]}"#)
        );
        assert!(entries[1].1.is_identity());
    }

    #[test]
    fn all_faults_are_reported_with_their_pointers() {
        let document = json!({"a/b": ["${ .x", "${ now }"], "c": "${ ]}", "d": {"~": "${ $pet }"}, "e": "${ .ok }"});
        let faults = Template::strict(&document).unwrap_err();
        let pointers: Vec<_> = faults.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/a~1b/1", "/c", "/d/~0"]);
        let template = Template::strict_with(&json!(["${ $pet }"]), &["pet"]).unwrap();
        let error = template.evaluate(&Order).unwrap_err();
        assert!(error.detail.contains("`$pet` is not defined here"));
    }

    #[test]
    fn text_joins_strings_as_they_are_and_values_as_json() {
        let part = |source| TextPart::Expression(Expression::compile(source).unwrap());
        let text = Template::Text(vec![
            TextPart::Text("\"id\" ".into()),
            part(".id"),
            TextPart::Text(" of ".into()),
            part(".items"),
            part(".nope"),
        ]);
        assert_eq!(
            text.evaluate(&Order).unwrap().to_value(),
            json!("\"id\" o-1 of [1,2]null")
        );
    }

    #[test]
    fn a_template_does_not_nest_values_too_deep_to_be_read() {
        let deep = (0..60).fold(json!("${ [[[[[[[[[[.items]]]]]]]]]] }"), |inner, _| {
            json!([inner])
        });
        assert!(Template::strict(&deep).unwrap().evaluate(&Order).is_ok());
        let deeper = (0..40).fold(deep, |inner, _| json!([inner]));
        let error = Template::strict(&deeper)
            .unwrap()
            .evaluate(&Order)
            .unwrap_err();
        assert!(error.detail.contains("nests deeper than 100"), "{error}");
    }
}
