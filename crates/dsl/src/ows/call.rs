//! `call`: HTTP, and the functions of our own catalog.

use std::sync::Arc;

use eventflow_domain::{
    expression::{Expression, Template, TextPart},
    limits::START_WITHIN,
    plan::{Invoke, Performer},
    retry::RetryPolicy,
};

use super::Compiler;
use crate::{
    agent,
    fault::{Faults, did_you_mean, quoted},
    http, property, retry, service_call,
    site::Site,
    template::{self, Values},
    variables::Variables,
};

/// The function that hands a task to an agent.
const AGENT: &str = "agent:1.0.0@default";

/// Of the standard and of ours (INTERFACES section 4).
const NOT_YET: [&str; 9] = [
    "asyncapi",
    "grpc",
    "openapi",
    "a2a",
    "mcp",
    "plugin:1.0.0@default",
    "dag:1.0.0@default",
    "map:1.0.0@default",
    "expand:1.0.0@default",
];

impl Compiler<'_> {
    /// Reads `call` and `with` of a task.
    pub(super) fn call(&mut self, task: &Site<'_>) -> Option<Invoke> {
        let (variables, faults) = (&self.variables, &mut self.faults);
        let function = task.get("call")?;
        match property::text(&function, faults)? {
            "http" => {
                let with = arguments(task, faults)?;
                let performer = http::call(&[with], &with, &mut Jq(variables), faults)?;
                // One request per attempt; only `try` and a task's own `retry` repeat it (INTERFACES section 7).
                Some(Invoke {
                    performer,
                    retry: RetryPolicy::NEVER,
                    start_within: START_WITHIN,
                })
            }
            AGENT => {
                let with = arguments(task, faults)?;
                self.agent_call(&with)
            }
            service_call::FUNCTION if self.is_own => Some(service_call::invoke()),
            name if NOT_YET.contains(&name) => {
                faults.not_yet(&function, &format!("calling {}", quoted(name)));
                None
            }
            name => {
                let hint = match did_you_mean(name, ["http", AGENT].into_iter().chain(NOT_YET)) {
                    hint if hint.is_empty() && name.starts_with("agent") => {
                        format!("; did you mean `{AGENT}`?")
                    }
                    hint => hint,
                };
                faults.at(
                    &function,
                    format!(
                        "there is no function {}: call `http` or `{AGENT}`{hint}",
                        quoted(name)
                    ),
                );
                None
            }
        }
    }

    /// `{capability, input, startWithin, heartbeat, retry}`
    fn agent_call(&mut self, with: &Site<'_>) -> Option<Invoke> {
        let (variables, faults) = (&self.variables, &mut self.faults);
        let executed = ["capability", "input", "startWithin", "heartbeat", "retry"];
        property::check(with, &executed, &[], faults);
        let capability = property::required(with, "capability", faults)
            .and_then(|site| agent::capability(&site, faults));
        let input = with
            .get("input")
            .and_then(|site| template::strict(&site, variables, faults));
        let start_within = agent::start_within(with.get("startWithin"), faults);
        let heartbeat = agent::heartbeat(with.get("heartbeat"), faults);
        let retry = with.get("retry").and_then(|site| {
            self.policy(&site, |compiler, policy| {
                retry::of_task(policy, &mut compiler.faults)
            })
        });
        let performer = Performer::Agent {
            capability: capability?,
            input,
            heartbeat,
        };
        Some(Invoke {
            performer,
            retry: retry.unwrap_or(RetryPolicy::DEFAULT),
            start_within,
        })
    }
}

fn arguments<'a>(task: &'a Site<'a>, faults: &mut Faults) -> Option<Site<'a>> {
    property::required(task, "with", faults).filter(|with| property::object(with, faults))
}

/// Values in the standard's way: strings `${…}` are jq, over these variables too.
struct Jq<'v>(&'v Variables);

impl Values for Jq<'_> {
    fn value(&mut self, site: &Site<'_>, faults: &mut Faults) -> Option<Template> {
        template::strict(site, self.0, faults)
    }

    /// An expression, or a URI template whose variables are properties of the task's input.
    fn url(&mut self, site: &Site<'_>, faults: &mut Faults) -> Option<Template> {
        let text = property::text(site, faults)?;
        if template::is_expression(text) || !text.contains(['{', '}']) {
            return template::strict_text(site, self.0, faults);
        }
        if text.contains("${") {
            faults.at(site, "an expression is the whole text: write `${ \"https://…/\" + .id }`, or `{id}` in the text");
            return None;
        }
        uri_template(text)
            .map_err(|detail| faults.at(site, detail))
            .ok()
    }
}

/// RFC 6570, level 1: `{name}` is the input's property of that name, percent-encoded; nothing where there is none.
fn uri_template(text: &str) -> Result<Template, String> {
    if text.starts_with('{') {
        return Err(
            "must begin with `http://` or `https://`: for a whole URL write `${ .url }`".to_owned(),
        );
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after
            .split_once('}')
            .ok_or("has a `{` that is not closed")?;
        let simple = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        };
        if !simple(name) {
            return Err(format!(
                "only simple variables, as `{{orderId}}`, are executed in a URI template, not `{{{}}}`",
                quoted(name).trim_matches('`')
            ));
        }
        if before.contains('}') {
            return Err("has a `}` that nothing opened".to_owned());
        }
        if !before.is_empty() {
            parts.push(TextPart::Text(Arc::from(before)));
        }
        let encoded = format!("if .{name} == null then \"\" else .{name} | tostring | @uri end");
        let expression = Expression::compile(&encoded).map_err(|fault| fault.to_string())?;
        parts.push(TextPart::Expression(expression));
        rest = tail;
    }
    if rest.contains('}') {
        return Err("has a `}` that nothing opened".to_owned());
    }
    if !rest.is_empty() {
        parts.push(TextPart::Text(Arc::from(rest)));
    }
    Ok(Template::Text(parts))
}
