//! What stands around the tasks: `document`, `schedule`, `use`, `input`, `output`, `timeout`.

use eventflow_domain::{
    Digest, DurationMs,
    limits::EXECUTION_TIMEOUT,
    plan::{Kind, NodeId, PlanParts},
};

use super::Compiler;
use crate::{
    bindings,
    duration::{self, Spelling},
    fault::{did_you_mean, quoted},
    identity, property, service_call,
    site::Site,
    template,
};

impl Compiler<'_> {
    /// Reads the whole document. The nodes are left in the arena.
    pub(super) fn whole(&mut self, digest: Digest) -> Option<PlanParts> {
        let root = &Site::root(self.document);
        let executed = [
            "document", "input", "use", "do", "timeout", "output", "schedule",
        ];
        property::check(root, &executed, &["evaluate"], &mut self.faults);
        let header = property::required(root, "document", &mut self.faults);
        let workflow = header.and_then(|site| {
            let workflow = self.header(&site);
            service_call::check_name(workflow.as_ref(), &digest, &site, &mut self.faults);
            workflow
        });
        if let Some(site) = root.get("schedule") {
            bindings::schedule(&site, &mut self.faults);
        }
        let uses = root.get("use");
        if let Some(site) = &uses {
            self.uses(site);
        }
        let input = root
            .get("input")
            .and_then(|site| self.transformation(&site, "from"));
        let output = root
            .get("output")
            .and_then(|site| self.transformation(&site, "as"));
        let timeout = root.get("timeout").and_then(|site| self.timeout(&site));
        self.root(root);
        if let Some(site) = &uses {
            self.unused_policies(site);
        }
        Some(PlanParts {
            workflow: workflow?,
            digest,
            timeout: timeout.unwrap_or(EXECUTION_TIMEOUT),
            input,
            output,
            root: NodeId(0),
            nodes: Vec::new(),
        })
    }

    /// The outermost sequence, which is no task of its own.
    fn root(&mut self, document: &Site<'_>) {
        let Some(list) = property::required(document, "do", &mut self.faults) else {
            return;
        };
        let Some(root) = self.arena.add("/do".to_owned(), "do", None) else {
            return;
        };
        let tasks = self.task_list(&list, root);
        self.arena.node(root).kind = Kind::Sequence(tasks);
        if let Some(pointer) = self.overflow.take() {
            let most = eventflow_domain::limits::TASKS_PER_EXECUTION_MAX;
            let detail =
                format!("a workflow has at most {most} tasks, {pointer} is one more: split it");
            self.faults.at(&list, detail);
        }
    }

    fn header(&mut self, site: &Site<'_>) -> Option<eventflow_domain::WorkflowId> {
        let faults = &mut self.faults;
        if !property::object(site, faults) {
            return None;
        }
        let executed = [
            "dsl",
            "namespace",
            "name",
            "version",
            "title",
            "summary",
            "tags",
            "metadata",
        ];
        property::check(site, &executed, &[], faults);
        if let Some(dsl) = property::required(site, "dsl", faults)
            && let Some(version) = property::text(&dsl, faults)
            && !(identity::semantic(version)
                && version.starts_with("1.0.")
                && !version.contains('-'))
        {
            faults.at(
                &dsl,
                format!(
                    "must be a version 1.0.x of the standard, as `1.0.3`, not {}",
                    quoted(version)
                ),
            );
        }
        for name in ["title", "summary"] {
            site.get(name).map(|site| property::text(&site, faults));
        }
        for name in ["tags", "metadata"] {
            site.get(name).map(|site| property::object(&site, faults));
        }
        if let Some(metadata) = site.get("metadata") {
            bindings::automations(&metadata, faults);
        }
        identity::standard(site, faults)
    }

    fn uses(&mut self, site: &Site<'_>) {
        if !property::object(site, &mut self.faults) {
            return;
        }
        let not_yet = [
            "authentications",
            "extensions",
            "functions",
            "secrets",
            "catalogs",
        ];
        let executed = ["errors", "retries", "timeouts"];
        property::check(site, &executed, &not_yet, &mut self.faults);
        if let Some(errors) = site
            .get("errors")
            .filter(|errors| property::object(errors, &mut self.faults))
        {
            for (name, definition) in errors.properties() {
                let error = self.error(&definition);
                self.uses.errors.insert(name.to_owned(), error);
            }
        }
        if let Some(retries) = site.get("retries") {
            property::object(&retries, &mut self.faults);
        }
        if let Some(timeouts) = site
            .get("timeouts")
            .filter(|timeouts| property::object(timeouts, &mut self.faults))
        {
            for (name, definition) in timeouts.properties() {
                let timeout = self.timeout_definition(&definition);
                self.uses.timeouts.insert(name.to_owned(), timeout);
            }
        }
    }

    /// `input`, `output` or `export`: an object of which the property `what` is executed.
    pub(super) fn transformation(
        &mut self,
        site: &Site<'_>,
        what: &str,
    ) -> Option<eventflow_domain::expression::Template> {
        if !property::object(site, &mut self.faults) {
            return None;
        }
        property::check(site, &[what], &["schema"], &mut self.faults);
        let expression = site.get(what)?;
        template::transformation(&expression, &self.variables, &mut self.faults)
    }

    /// `timeout`: a definition or the name of one.
    pub(super) fn timeout(&mut self, site: &Site<'_>) -> Option<DurationMs> {
        let Some(name) = site.value.as_str() else {
            return self.timeout_definition(site);
        };
        let known = self.uses.timeouts.get(name).copied();
        if known.is_none() {
            let hint = did_you_mean(name, self.uses.timeouts.keys().map(String::as_str));
            let detail = format!("there is no {} in `use.timeouts`{hint}", quoted(name));
            self.faults.at(site, detail);
        }
        known.flatten()
    }

    fn timeout_definition(&mut self, site: &Site<'_>) -> Option<DurationMs> {
        if !property::object(site, &mut self.faults) {
            return None;
        }
        property::check(site, &["after"], &[], &mut self.faults);
        let after = property::required(site, "after", &mut self.faults)?;
        duration::positive(&after, Spelling::Standard, &mut self.faults)
    }
}
