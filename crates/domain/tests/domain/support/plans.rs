//! Plans from documents, as users write them.

use eventflow_domain::{Json, plan::Plan};

/// An OWS document of this task list, in YAML, with these other top-level properties.
pub(crate) fn document(tasks: &str, rest: &str) -> Plan {
    let list: String = tasks.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "document: {{dsl: 1.0.3, namespace: test, name: sequence, version: 1.0.0}}\n{rest}\ndo:\n{list}"
    );
    plan(&text)
}

/// An OWS document of this task list, in YAML.
pub(crate) fn sequence(tasks: &str) -> Plan {
    document(tasks, "")
}

/// A DAG document of these steps, in YAML, with these other top-level properties.
pub(crate) fn graph(steps: &str, rest: &str) -> Plan {
    let list: String = steps.lines().map(|line| format!("  {line}\n")).collect();
    plan(&format!(
        "dag: '1.0'\nnamespace: test\nname: graph\nversion: 1.0.0\n{rest}\nsteps:\n{list}"
    ))
}

/// A DAG document of these steps, in YAML.
pub(crate) fn dag(steps: &str) -> Plan {
    graph(steps, "")
}

/// The plan of a whole document, YAML or JSON.
pub(crate) fn plan(text: &str) -> Plan {
    let document = eventflow_dsl::parse(text).unwrap_or_else(|fault| panic!("{fault}:\n{text}"));
    plan_of(&document)
}

/// The plan of a parsed document.
pub(crate) fn plan_of(document: &Json) -> Plan {
    eventflow_dsl::compile(document)
        .unwrap_or_else(|faults| panic!("{faults:#?}:\n{}", document.as_str()))
}

/// A task for agents, as an item of a YAML list; `rest` are its further properties in flow style, as `then: end`.
pub(crate) fn agent(name: &str, rest: &str) -> String {
    agent_with(name, "", rest)
}

/// The same with further arguments of the call.
pub(crate) fn agent_with(name: &str, with: &str, rest: &str) -> String {
    let with = comma(&format!("capability: {name}"), with);
    let rest = comma(
        &format!("call: 'agent:1.0.0@default', with: {{{with}}}"),
        rest,
    );
    format!("- {name}: {{{rest}}}\n")
}

/// A step for agents, as an item of a YAML list.
pub(crate) fn step(id: &str, rest: &str) -> String {
    let rest = comma(
        &format!("id: {id}, uses: agent, with: {{capability: {id}}}"),
        rest,
    );
    format!("- {{{rest}}}\n")
}

fn comma(one: &str, more: &str) -> String {
    if more.is_empty() {
        one.to_owned()
    } else {
        format!("{one}, {more}")
    }
}

/// A retry policy in the standard's way: so many retries, a constant second between them.
pub(crate) fn retries(count: u32) -> String {
    format!(
        "retry: {{delay: PT1S, backoff: {{constant: {{}}}}, limit: {{attempt: {{count: {count}}}}}}}"
    )
}

/// Two tasks for agents, one after the other: charge, then ship.
pub(crate) fn order() -> Plan {
    sequence(&[agent_with("charge", &retries(1), ""), agent("ship", "")].concat())
}
