//! HTTP calls: expressions evaluated, and checked for what can be sent.

use super::scope::TaskScope;
use crate::{
    error::{ErrorKind, Problem},
    expression::{EvaluationError, Template},
    plan::{HttpCall, HttpTemplate},
    value::Json,
};

/// The call with all of its expressions evaluated, or what is wrong with what came out.
pub(crate) fn http_call(
    template: &HttpTemplate,
    scope: &TaskScope<'_>,
) -> Result<Result<HttpCall, Problem>, EvaluationError> {
    let endpoint = template.endpoint.evaluate(scope)?;
    let pairs =
        |part: &Option<Template>| part.as_ref().map(|part| part.evaluate(scope)).transpose();
    let (headers, query) = (pairs(&template.headers)?, pairs(&template.query)?);
    let body = template
        .body
        .as_ref()
        .map(|body| body.evaluate(scope))
        .transpose()?;
    Ok((|| {
        Ok(HttpCall {
            method: template.method.clone(),
            endpoint: endpoint.read().map_err(|_| {
                configuration(format!(
                    "`endpoint` must be the text of a URL, not {}",
                    endpoint.as_str()
                ))
            })?,
            headers: string_pairs("headers", headers)?,
            query: string_pairs("query", query)?,
            body,
            output: template.output,
            redirect: template.redirect,
            timeout: None,
        })
    })())
}

fn string_pairs(what: &str, value: Option<Json>) -> Result<Vec<(String, String)>, Problem> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let Ok(serde_json::Value::Object(fields)) = value.read() else {
        return Err(configuration(format!(
            "`{what}` must be an object of strings"
        )));
    };
    fields
        .into_iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => Ok((name, text)),
            serde_json::Value::Number(number) => Ok((name, number.to_string())),
            serde_json::Value::Bool(flag) => Ok((name, flag.to_string())),
            serde_json::Value::Null
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => {
                Err(configuration(format!("`{what}.{name}` must be a string")))
            }
        })
        .collect()
}

fn configuration(detail: String) -> Problem {
    Problem::new(
        ErrorKind::Configuration,
        "The HTTP call cannot be sent",
        detail,
    )
}
