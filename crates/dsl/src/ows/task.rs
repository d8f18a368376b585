//! One task: what all tasks have, and what it does.

use eventflow_domain::{
    expression::Template,
    plan::{Fork, Kind, NodeId},
};

use super::Compiler;
use crate::{duration, fault::Faults, property, site::Site, template};

/// What every task may have.
const BASE: [&str; 7] = [
    "if", "input", "output", "export", "timeout", "then", "metadata",
];

/// What a task may do, and the properties that come with it.
const KINDS: [(&str, &[&str]); 12] = [
    ("for", &["while", "do"]),
    ("try", &["catch"]),
    ("listen", &["foreach"]),
    ("call", &["with"]),
    ("do", &[]),
    ("set", &[]),
    ("switch", &[]),
    ("raise", &[]),
    ("fork", &[]),
    ("wait", &[]),
    ("emit", &[]),
    ("run", &[]),
];

impl Compiler<'_> {
    /// Compiles a task to a node; `then` and `switch` follow when its siblings are known.
    pub(super) fn task(&mut self, site: &Site<'_>, name: &str, parent: NodeId) -> Option<NodeId> {
        if !property::object(site, &mut self.faults) {
            return None;
        }
        let Some(node) = self.arena.add(site.pointer(), name, Some(parent)) else {
            self.overflow = Some(site.pointer());
            return None;
        };
        self.base(site, node);
        let kind = kind_of(site, &mut self.faults)?;
        let definition = site.get(kind)?;
        if let Some(kind) = self.kind(kind, &definition, site, node) {
            self.arena.node(node).kind = kind;
        }
        Some(node)
    }

    /// What the task does; none where that is faulty.
    fn kind(
        &mut self,
        kind: &str,
        definition: &Site<'_>,
        task: &Site<'_>,
        node: NodeId,
    ) -> Option<Kind> {
        match kind {
            "do" => Some(Kind::Sequence(self.task_list(definition, node))),
            "set" => self.set(definition).map(Kind::Set),
            "raise" => self.raise(definition).map(Kind::Raise),
            "call" => self.call(task).map(Kind::Invoke),
            "fork" => self.fork(definition, node).map(Kind::Fork),
            "try" => self.attempt(definition, task, node).map(Kind::Try),
            "wait" => duration::span(definition, &self.variables, &mut self.faults).map(Kind::Wait),
            // Its cases name siblings: see `directions`.
            "switch" => None,
            other => {
                self.faults.not_yet(definition, &format!("`{other}`"));
                None
            }
        }
    }

    fn set(&mut self, value: &Site<'_>) -> Option<Template> {
        let properties = value.value.as_object();
        if properties.is_some_and(serde_json::Map::is_empty) {
            self.faults.at(value, "must set at least one property");
        }
        template::transformation(value, &self.variables, &mut self.faults)
    }

    fn fork(&mut self, site: &Site<'_>, node: NodeId) -> Option<Fork> {
        if !property::object(site, &mut self.faults) {
            return None;
        }
        property::check(site, &["branches", "compete"], &[], &mut self.faults);
        let compete = site.get("compete");
        let compete = compete.and_then(|site| property::boolean(&site, &mut self.faults));
        let branches = property::required(site, "branches", &mut self.faults)?;
        Some(Fork {
            branches: self.branches(&branches, node),
            compete: compete.unwrap_or(false),
        })
    }

    fn base(&mut self, site: &Site<'_>, node: NodeId) {
        if let Some(condition) = site.get("if") {
            let condition = template::expression(&condition, &self.variables, &mut self.faults);
            self.arena.node(node).condition = condition;
        }
        if let Some(input) = site.get("input") {
            self.arena.node(node).input = self.transformation(&input, "from");
        }
        if let Some(output) = site.get("output") {
            self.arena.node(node).output = self.transformation(&output, "as");
        }
        if let Some(export) = site.get("export") {
            self.arena.node(node).export = self.transformation(&export, "as");
        }
        if let Some(timeout) = site.get("timeout") {
            self.arena.node(node).timeout = self.timeout(&timeout);
        }
        if let Some(metadata) = site.get("metadata") {
            property::object(&metadata, &mut self.faults);
        }
    }
}

/// The one thing that a task does.
fn kind_of(site: &Site<'_>, faults: &mut Faults) -> Option<&'static str> {
    let mut kinds: Vec<(&str, &[&str])> = KINDS
        .into_iter()
        .filter(|(kind, _)| site.get(kind).is_some())
        .collect();
    if kinds.iter().any(|(kind, _)| *kind == "for") {
        // The `do` of a loop is its body.
        kinds.retain(|(kind, _)| *kind != "do");
    }
    let mut known: Vec<&str> = BASE.to_vec();
    if kinds.is_empty() {
        // The misspelt word may be the kind, or belong to it.
        known.extend(
            KINDS
                .iter()
                .flat_map(|(kind, rest)| std::iter::once(kind).chain(*rest)),
        );
    } else {
        known.extend(
            kinds
                .iter()
                .flat_map(|(kind, rest)| std::iter::once(kind).chain(*rest)),
        );
    }
    property::check(site, &known, &[], faults);
    match kinds[..] {
        [(kind, _)] => Some(kind),
        [] => {
            faults.at(
                site,
                "must say what the task does: one of call, do, fork, raise, set, switch, try, wait",
            );
            None
        }
        [..] => {
            let names: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
            faults.at(
                site,
                format!(
                    "must do one thing, not {}: make them tasks of their own",
                    names.join(" and ")
                ),
            );
            None
        }
    }
}
