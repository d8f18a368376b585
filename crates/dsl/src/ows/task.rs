//! One task: what all tasks have, and what it does.

use eventflow_domain::plan::{Kind, NodeId};

use super::Compiler;
use crate::{fault::Faults, property, site::Site, template};

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

impl Compiler {
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
        match kind {
            "do" => {
                let list = site.get("do")?;
                let tasks = self.task_list(&list, node);
                self.arena.node(node).kind = Kind::Sequence(tasks);
            }
            "set" => {
                let value = site.get("set")?;
                if value
                    .value
                    .as_object()
                    .is_some_and(serde_json::Map::is_empty)
                {
                    self.faults.at(&value, "must set at least one property");
                }
                if let Some(template) = template::transformation(&value, &mut self.faults) {
                    self.arena.node(node).kind = Kind::Set(template);
                }
            }
            "raise" => {
                if let Some(error) = self.raise(&site.get("raise")?) {
                    self.arena.node(node).kind = Kind::Raise(error);
                }
            }
            "call" => {
                if let Some(invoke) = self.call(site) {
                    self.arena.node(node).kind = Kind::Invoke(invoke);
                }
            }
            // Its cases name siblings.
            "switch" => {}
            other => self.refuse(site, other, node)?,
        }
        Some(node)
    }

    /// A kind that is not executed yet; the faults within what it holds are named all the same.
    fn refuse(&mut self, site: &Site<'_>, kind: &str, node: NodeId) -> Option<()> {
        let definition = site.get(kind)?;
        self.faults.not_yet(&definition, &format!("`{kind}`"));
        match kind {
            "try" => drop(self.task_list(&definition, node)),
            "fork" => {
                if let Some(branches) = definition.get("branches") {
                    self.task_list(&branches, node);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn base(&mut self, site: &Site<'_>, node: NodeId) {
        if let Some(condition) = site.get("if") {
            self.arena.node(node).condition = template::expression(&condition, &mut self.faults);
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
                "must say what the task does: one of call, do, set, switch, raise",
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
