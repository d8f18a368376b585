//! Expressions: jq, bounded by construction. (Signatures only until the real module replaces this file.)
#![allow(missing_docs, unused_variables)]
use crate::value::Json;
use std::sync::Arc;
pub trait Scope {
    fn dot(&self) -> Json;
    fn field(&self, name: &str) -> Option<Json>;
    fn variable(&self, name: &str) -> Option<Json>;
}
#[derive(Debug, Clone)]
pub struct Expression(Arc<str>);
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionFault(pub String);
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expression}: {detail}")]
pub struct EvaluationError {
    pub expression: String,
    pub detail: String,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    Dot,
    Variable(Arc<str>),
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Key(Arc<str>),
    Index(i64),
}
impl Expression {
    pub fn compile(source: &str) -> Result<Self, ExpressionFault> {
        Ok(Self(source.into()))
    }
    pub fn path(root: Root, segments: Vec<Segment>) -> Self {
        Self("".into())
    }
    pub fn source(&self) -> &str {
        &self.0
    }
    pub fn roots(&self) -> Option<&[Arc<str>]> {
        None
    }
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        Ok(Json::null())
    }
    pub fn evaluate_bool(&self, scope: &dyn Scope) -> Result<bool, EvaluationError> {
        Ok(true)
    }
}
#[derive(Debug, Clone)]
pub enum TextPart {
    Text(Arc<str>),
    Expression(Expression),
}
#[derive(Debug, Clone)]
pub enum Template {
    Literal(Json),
    Expression(Expression),
    Array(Vec<Template>),
    Object(Vec<(Arc<str>, Template)>),
    Text(Vec<TextPart>),
}
impl Template {
    pub fn strict(value: &serde_json::Value) -> Result<Self, Vec<(String, ExpressionFault)>> {
        Ok(Self::Literal(Json::of(value)))
    }
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Json, EvaluationError> {
        Ok(Json::null())
    }
}
