//! What the tests of this crate share: documents from text, faults as lines, a plan as an outline.
#![allow(dead_code, unreachable_pub)] // Each test file uses its part.

use std::fmt::Write as _;

use eventflow_domain::{
    expression::{Expression, Template, TextPart},
    plan::{Catch, ErrorFilter, Invoke, Kind, Node, NodeId, Performer, Plan, Span, Then},
};

/// A document that must be one.
pub fn document(text: &str) -> eventflow_domain::Json {
    eventflow_dsl::parse(text).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

/// A plan that must be one.
pub fn plan(text: &str) -> Plan {
    eventflow_dsl::compile(&document(text)).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}"))
}

/// What is wrong, as `pointer: detail`.
pub fn faults(text: &str) -> Vec<String> {
    match eventflow_dsl::compile(&document(text)) {
        Ok(plan) => panic!("compiled:\n{}", outline(&plan)),
        Err(faults) => faults
            .into_iter()
            .map(|fault| format!("{}: {}", fault.pointer, fault.detail))
            .collect(),
    }
}

/// An OWS document with these tasks, indented as they are given.
pub fn tasks(tasks: &str) -> String {
    let header = "document: {dsl: 1.0.3, namespace: default, name: test, version: 1.0.0}\n";
    format!("{header}do:\n{}", tasks.trim_start_matches('\n'))
}

/// A DAG document with these steps, as JSON elements.
pub fn steps(steps: &str) -> String {
    format!(r#"{{"dag": "1.0", "name": "test", "version": "1.0.0", "steps": [{steps}]}}"#)
}

/// Every node on a line, its expressions below it.
pub fn outline(plan: &Plan) -> String {
    let mut text = format!("{} timeout {} ms\n", plan.workflow, plan.timeout.0);
    for (label, template) in [("input", &plan.input), ("output", &plan.output)] {
        write_template(&mut text, label, template.as_ref());
    }
    for (_, node) in plan.nodes() {
        write_node(&mut text, plan, node);
    }
    text
}

fn write_node(text: &mut String, plan: &Plan, node: &Node) {
    let parent = node.parent.map_or("-", |parent| &plan.node(parent).pointer);
    let _ = writeln!(
        text,
        "{} `{}` in {parent}: {}",
        node.pointer,
        node.name,
        kind(plan, &node.kind)
    );
    if let Some(condition) = &node.condition {
        let _ = writeln!(text, "    if {}", condition.source());
    }
    for (label, template) in [
        ("input", &node.input),
        ("output", &node.output),
        ("export", &node.export),
    ] {
        write_template(text, label, template.as_ref());
    }
    if let Some(timeout) = node.timeout {
        let _ = writeln!(text, "    timeout {} ms", timeout.0);
    }
    if node.then != Then::Continue {
        let _ = writeln!(text, "    then {}", then(plan, node.then));
    }
    write_kind(text, plan, &node.kind);
}

fn kind(plan: &Plan, kind: &Kind) -> String {
    match kind {
        Kind::Sequence(tasks) => format!("sequence of {}", names(plan, tasks)),
        Kind::Graph(graph) => {
            let nodes: Vec<NodeId> = graph.steps.iter().map(|step| step.node).collect();
            format!(
                "graph of {}, {} at once",
                names(plan, &nodes),
                graph.max_parallel
            )
        }
        Kind::Switch(_) => "switch".to_owned(),
        Kind::Set(_) => "set".to_owned(),
        Kind::Raise(_) => "raise".to_owned(),
        Kind::Fork(fork) => {
            let how = if fork.compete { "race" } else { "fork" };
            format!("{how} of {}", names(plan, &fork.branches))
        }
        Kind::Try(attempt) => format!("try of {}", names(plan, &attempt.tasks)),
        Kind::Wait(Span::Fixed(duration)) => format!("wait {} ms", duration.0),
        Kind::Wait(Span::Computed(expression)) => format!("wait ${{ {} }}", expression.source()),
        Kind::Invoke(Invoke {
            performer,
            retry,
            start_within,
        }) => {
            let who = match performer {
                Performer::Agent {
                    capability,
                    heartbeat,
                    ..
                } => {
                    format!(
                        "agent {capability}, heartbeat {:?}",
                        heartbeat.map(|span| span.0)
                    )
                }
                Performer::ServiceCall => "service call".to_owned(),
                Performer::Http(call) => {
                    format!(
                        "{} {:?}, redirect {}",
                        call.method, call.output, call.redirect
                    )
                }
            };
            format!("{who}, start within {} ms\n    {retry:?}", start_within.0)
        }
    }
}

fn write_kind(text: &mut String, plan: &Plan, kind: &Kind) {
    match kind {
        Kind::Sequence(_) | Kind::Fork(_) | Kind::Wait(_) => {}
        Kind::Try(attempt) => write_catch(text, plan, &attempt.catch),
        Kind::Graph(graph) => {
            for (index, step) in graph.steps.iter().enumerate() {
                let (needs, dependents) = (&step.needs, &step.dependents);
                let _ = writeln!(
                    text,
                    "    {index} {}: needs {needs:?}, needed by {dependents:?}, join {:?}",
                    step.id, step.join
                );
            }
            write_template(text, "output", graph.output.as_ref());
        }
        Kind::Switch(cases) => {
            for case in cases {
                let when = case.when.as_ref().map_or("otherwise", Expression::source);
                let _ = writeln!(
                    text,
                    "    {}: {when} -> {}",
                    case.name,
                    then(plan, case.then)
                );
            }
        }
        Kind::Set(value) => write_template(text, "set", Some(value)),
        Kind::Raise(error) => {
            let _ = writeln!(text, "    status {}", error.status);
            let parts = [
                ("type", Some(&error.kind)),
                ("title", error.title.as_ref()),
                ("detail", error.detail.as_ref()),
            ];
            for (label, template) in parts {
                write_template(text, label, template);
            }
        }
        Kind::Invoke(invoke) => match &invoke.performer {
            Performer::Agent { input, .. } => write_template(text, "with", input.as_ref()),
            Performer::ServiceCall => {}
            Performer::Http(call) => {
                write_template(text, "endpoint", Some(&call.endpoint));
                let parts = [
                    ("headers", &call.headers),
                    ("query", &call.query),
                    ("body", &call.body),
                ];
                for (label, template) in parts {
                    write_template(text, label, template.as_ref());
                }
            }
        },
    }
}

fn write_catch(text: &mut String, plan: &Plan, catch: &Catch) {
    let _ = writeln!(text, "    catch as ${}", catch.variable);
    if catch.errors != ErrorFilter::default() {
        let _ = writeln!(text, "    {:?}", catch.errors);
    }
    write_conditions(
        text,
        "catch",
        catch.when.as_ref(),
        catch.except_when.as_ref(),
    );
    if let Some(retry) = &catch.retry {
        let _ = writeln!(text, "    {:?}", retry.policy);
        write_conditions(
            text,
            "retry",
            retry.when.as_ref(),
            retry.except_when.as_ref(),
        );
        for (label, span) in [("each try", retry.attempt_timeout), ("retry", retry.within)] {
            if let Some(span) = span {
                let _ = writeln!(text, "    {label} within {} ms", span.0);
            }
        }
    }
    if !catch.tasks.is_empty() {
        let _ = writeln!(text, "    handled by {}", names(plan, &catch.tasks));
    }
}

fn write_conditions(
    text: &mut String,
    what: &str,
    when: Option<&Expression>,
    except_when: Option<&Expression>,
) {
    for (label, condition) in [("when", when), ("except when", except_when)] {
        if let Some(condition) = condition {
            let _ = writeln!(text, "    {what} {label} {}", condition.source());
        }
    }
}

fn write_template(text: &mut String, label: &str, template: Option<&Template>) {
    if let Some(template) = template {
        let _ = writeln!(text, "    {label} {}", shown(template));
    }
}

/// As in a document: expressions in `${}`, a text of several parts in backticks.
fn shown(template: &Template) -> String {
    match template {
        Template::Literal(json) => json.as_str().to_owned(),
        Template::Expression(expression) => format!("${{ {} }}", expression.source().trim()),
        Template::Array(items) => format!(
            "[{}]",
            items.iter().map(shown).collect::<Vec<_>>().join(", ")
        ),
        Template::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", shown(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Template::Text(parts) => {
            let parts = parts.iter().map(|part| match part {
                TextPart::Text(text) => text.to_string(),
                TextPart::Expression(expression) => format!("${{ {} }}", expression.source()),
            });
            format!("`{}`", parts.collect::<String>())
        }
    }
}

fn names(plan: &Plan, nodes: &[NodeId]) -> String {
    nodes
        .iter()
        .map(|node| &*plan.node(*node).name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn then(plan: &Plan, then: Then) -> String {
    match then {
        Then::Continue => "continue".to_owned(),
        Then::Exit => "exit".to_owned(),
        Then::End => "end".to_owned(),
        Then::Task(node) => plan.node(node).pointer.to_string(),
    }
}
