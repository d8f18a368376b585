//! `try`: what is tried, which errors are caught, and what happens then.

use std::sync::Arc;

use eventflow_domain::{
    expression::Expression,
    plan::{Catch, ErrorFilter, NodeId, Retrying, Try},
};

use super::Compiler;
use crate::{
    fault::{Faults, did_you_mean, quoted},
    property, retry,
    site::Site,
    template, variables,
};

/// The variable that holds the error, where `as` gives it no other name.
const ERROR: &str = "error";

impl Compiler<'_> {
    /// `try` and `catch` of a task.
    pub(super) fn attempt(
        &mut self,
        tasks: &Site<'_>,
        task: &Site<'_>,
        node: NodeId,
    ) -> Option<Try> {
        let tasks = self.task_list(tasks, node);
        let catch = property::required(task, "catch", &mut self.faults)?;
        let catch = self.catch(&catch, node)?;
        Some(Try { tasks, catch })
    }

    fn catch(&mut self, site: &Site<'_>, node: NodeId) -> Option<Catch> {
        if !property::object(site, &mut self.faults) {
            return None;
        }
        let executed = ["errors", "as", "when", "exceptWhen", "retry", "do"];
        property::check(site, &executed, &["then"], &mut self.faults);
        let errors = site.get("errors");
        let errors = errors.and_then(|site| filter(&site, &mut self.faults));
        let variable = site.get("as");
        let variable = variable.and_then(|site| variables::name(&site, &mut self.faults));
        let variable: Arc<str> = variable.unwrap_or(ERROR).into();
        Some(self.naming(&variable, |compiler| {
            Catch {
                errors: errors.unwrap_or_default(),
                variable: variable.clone(),
                when: compiler.condition(site, "when"),
                except_when: compiler.condition(site, "exceptWhen"),
                retry: site
                    .get("retry")
                    .and_then(|site| compiler.policy(&site, Self::retrying)),
                tasks: site
                    .get("do")
                    .map_or_else(Vec::new, |list| compiler.task_list(&list, node)),
            }
        }))
    }

    /// Compiles what may name this variable too.
    fn naming<T>(&mut self, variable: &Arc<str>, compile: impl FnOnce(&mut Self) -> T) -> T {
        self.variables.push(variable.clone());
        let compiled = compile(self);
        self.variables.pop();
        compiled
    }

    fn condition(&mut self, site: &Site<'_>, name: &str) -> Option<Expression> {
        let condition = site.get(name)?;
        template::expression(&condition, &self.variables, &mut self.faults)
    }

    fn retrying(&mut self, policy: &Site<'_>) -> Option<Retrying> {
        retry::of_catch(policy, &self.variables, &mut self.faults)
    }

    /// Reads a retry policy, or the one of this name. That one is read as if it stood here: only here it is known what
    /// its error is called.
    pub(super) fn policy<T>(
        &mut self,
        site: &Site<'_>,
        read: impl FnOnce(&mut Self, &Site<'_>) -> Option<T>,
    ) -> Option<T> {
        let Some(name) = site.value.as_str() else {
            return read(self, site);
        };
        let root = Site::root(self.document);
        let uses = root.get("use");
        let policies = uses.as_ref().and_then(|uses| uses.get("retries"));
        let Some(policy) = policies.as_ref().and_then(|policies| policies.get(name)) else {
            let known = policies.iter().flat_map(Site::properties);
            let hint = did_you_mean(name, known.map(|(name, _)| name));
            let detail = format!("there is no {} in `use.retries`{hint}", quoted(name));
            self.faults.at(site, detail);
            return None;
        };
        self.uses.retries.insert(name.to_owned());
        read(self, &policy)
    }

    /// Finds the faults of the policies that no task has named.
    pub(super) fn unused_policies(&mut self, uses: &Site<'_>) {
        let policies = uses.get("retries");
        for (name, policy) in policies.iter().flat_map(Site::properties) {
            if !self.uses.retries.contains(name) {
                self.naming(&ERROR.into(), |compiler| compiler.retrying(&policy));
            }
        }
    }
}

/// `errors`: the properties that an error must have.
fn filter(site: &Site<'_>, faults: &mut Faults) -> Option<ErrorFilter> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &["with"], &[], faults);
    let with = site.get("with")?;
    if !property::object(&with, faults) {
        return None;
    }
    let executed = ["type", "status", "instance", "title", "details"];
    property::check(&with, &executed, &[], faults);
    if with.properties().next().is_none() {
        let detail = format!("must have at least one of {}", executed.join(", "));
        faults.at(&with, detail);
    }
    let status = with
        .get("status")
        .and_then(|site| property::integer(&site, 100..=599, faults))
        .and_then(|status| u16::try_from(status).ok());
    let mut fixed = |name| fixed_text(&with.get(name)?, faults);
    Some(ErrorFilter {
        kind: fixed("type"),
        status,
        instance: fixed("instance"),
        title: fixed("title"),
        detail: fixed("details"),
    })
}

/// The standard's filter is static: what is computed belongs into `when`.
fn fixed_text(site: &Site<'_>, faults: &mut Faults) -> Option<String> {
    let text = property::text(site, faults)?;
    if template::is_expression(text) {
        faults.at(
            site,
            "is compared as it stands, an expression is not executed here: put the condition into `catch.when`",
        );
    }
    Some(text.to_owned())
}
