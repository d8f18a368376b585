//! Task lists, and where the flow goes in them: `then` and `switch` are compiled once the names of a list are known.

use std::collections::{HashMap, HashSet};

use eventflow_domain::plan::{Case, Kind, NodeId, Then};

use super::Compiler;
use crate::{
    fault::{did_you_mean, quoted},
    property,
    site::Site,
    template,
};

/// The longest name of a task, characters.
const TASK_NAME_MAX: usize = 64;

/// The tasks of one list, to which `then` may lead.
struct Siblings<'a> {
    /// One that could not become a node has none.
    by_name: HashMap<&'a str, Option<NodeId>>,
    /// They run side by side, so that the flow goes from none of them to another.
    are_branches: bool,
}

impl Compiler<'_> {
    /// Compiles tasks that run one after the other, as children of `parent`.
    pub(super) fn task_list(&mut self, list: &Site<'_>, parent: NodeId) -> Vec<NodeId> {
        self.list(list, parent, false)
    }

    /// Compiles tasks that run side by side, as children of `parent`.
    pub(super) fn branches(&mut self, list: &Site<'_>, parent: NodeId) -> Vec<NodeId> {
        self.list(list, parent, true)
    }

    fn list(&mut self, list: &Site<'_>, parent: NodeId, are_branches: bool) -> Vec<NodeId> {
        if !property::array(list, &mut self.faults) {
            return Vec::new();
        }
        let items: Vec<Site<'_>> = list.elements().collect();
        if items.is_empty() {
            self.faults.at(list, "must have at least one task");
        }
        let mut siblings = Siblings {
            by_name: HashMap::new(),
            are_branches,
        };
        let mut tasks = Vec::new();
        for item in &items {
            let Some((name, site)) = self.item(item) else {
                continue;
            };
            if self.overflow.is_some() {
                return Vec::new();
            }
            if siblings.by_name.contains_key(name) {
                self.faults.at(
                    &site,
                    format!(
                        "another task of this list is called {} already",
                        quoted(name)
                    ),
                );
            }
            let node = self.task(&site, name, parent);
            siblings.by_name.insert(name, node);
            tasks.extend(node.map(|node| (node, item)));
        }
        for (node, item) in &tasks {
            if let Some((_, site)) = item.properties().next() {
                self.directions(&site, *node, &siblings);
            }
        }
        tasks.into_iter().map(|(node, _)| node).collect()
    }

    /// The one named task of a list's item.
    fn item<'a>(&mut self, item: &'a Site<'a>) -> Option<(&'a str, Site<'a>)> {
        if !property::object(item, &mut self.faults) {
            return None;
        }
        let mut properties = item.properties();
        let (Some((name, site)), None) = (properties.next(), properties.next()) else {
            let detail = "must have one property, the task's name: indent what belongs to the task below its name";
            self.faults.at(item, detail);
            return None;
        };
        let characters = name.chars().count();
        if characters == 0 || characters > TASK_NAME_MAX || name.chars().any(char::is_control) {
            let detail = format!(
                "a task's name has 1 to {TASK_NAME_MAX} printable characters, not {}",
                quoted(name)
            );
            self.faults.at(item, detail);
            return None;
        }
        Some((name, site))
    }

    /// `then` and `switch` of a task.
    fn directions(&mut self, task: &Site<'_>, node: NodeId, siblings: &Siblings<'_>) {
        if let Some(site) = task.get("then") {
            let then = self.directive(&site, siblings);
            self.arena.node(node).then = then.unwrap_or_default();
        }
        if let Some(site) = task.get("switch") {
            let cases = self.switch(&site, siblings);
            self.arena.node(node).kind = Kind::Switch(cases);
        }
    }

    /// A flow directive or the name of a sibling.
    fn directive(&mut self, site: &Site<'_>, siblings: &Siblings<'_>) -> Option<Then> {
        match property::text(site, &mut self.faults)? {
            "continue" => Some(Then::Continue),
            "exit" => Some(Then::Exit),
            "end" => Some(Then::End),
            name => self.sibling(site, name, siblings).map(Then::Task),
        }
    }

    /// Another task of the same list.
    fn sibling(&mut self, site: &Site<'_>, name: &str, siblings: &Siblings<'_>) -> Option<NodeId> {
        const WORDS: [&str; 3] = ["continue", "exit", "end"];
        let known = siblings.by_name.get(name).copied();
        let detail = match known {
            Some(node) if !siblings.are_branches => return node,
            Some(_) => format!(
                "{} runs beside this branch, not after it: a branch may continue, exit or end",
                quoted(name)
            ),
            None => {
                let tasks = siblings.by_name.keys().copied();
                let words = tasks.filter(|_| !siblings.are_branches).chain(WORDS);
                let hint = did_you_mean(name, words);
                format!("there is no task {} in the same list{hint}", quoted(name))
            }
        };
        self.faults.at(site, detail);
        None
    }

    /// The cases in order, the one without a condition last: it is taken where no other holds.
    fn switch(&mut self, site: &Site<'_>, siblings: &Siblings<'_>) -> Vec<Case> {
        if !property::array(site, &mut self.faults) {
            return Vec::new();
        }
        let items: Vec<Site<'_>> = site.elements().collect();
        if items.is_empty() {
            self.faults.at(site, "must have at least one case");
        }
        let (mut cases, mut names) = (Vec::new(), HashSet::new());
        let mut default = None;
        for item in &items {
            let Some((name, definition)) = self.item(item) else {
                continue;
            };
            if !names.insert(name) {
                let detail = format!(
                    "another case of this switch is called {} already",
                    quoted(name)
                );
                self.faults.at(&definition, detail);
            }
            let Some(case) = self.case(name, &definition, siblings) else {
                continue;
            };
            if definition.get("when").is_some() {
                cases.push(case);
            } else if default.is_none() {
                default = Some(case);
            } else {
                self.faults.at(
                    &definition,
                    "only one case may have no `when`: it is the default",
                );
            }
        }
        cases.extend(default);
        cases
    }

    fn case(&mut self, name: &str, site: &Site<'_>, siblings: &Siblings<'_>) -> Option<Case> {
        if !property::object(site, &mut self.faults) {
            return None;
        }
        property::check(site, &["when", "then"], &[], &mut self.faults);
        let when = site
            .get("when")
            .map(|site| template::expression(&site, &self.variables, &mut self.faults));
        let then = property::required(site, "then", &mut self.faults)
            .and_then(|site| self.directive(&site, siblings))
            .unwrap_or_default();
        Some(Case {
            name: name.into(),
            when: when.flatten(),
            then,
        })
    }
}
