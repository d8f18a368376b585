//! `raise`: an error written out, or one of `use.errors` by its name.

use eventflow_domain::{expression::Template, plan::RaiseTemplate};

use super::Compiler;
use crate::{
    fault::{did_you_mean, quoted},
    property,
    site::Site,
    template,
};

impl Compiler<'_> {
    /// `{error}`
    pub(super) fn raise(&mut self, site: &Site<'_>) -> Option<RaiseTemplate> {
        if !property::object(site, &mut self.faults) {
            return None;
        }
        property::check(site, &["error"], &[], &mut self.faults);
        let error = property::required(site, "error", &mut self.faults)?;
        let Some(name) = error.value.as_str() else {
            return self.error(&error);
        };
        let known = self.uses.errors.get(name);
        if known.is_none() {
            let hint = did_you_mean(name, self.uses.errors.keys().map(String::as_str));
            self.faults.at(
                &error,
                format!("there is no {} in `use.errors`{hint}", quoted(name)),
            );
        }
        known.and_then(Option::as_ref).map(copy)
    }

    /// An error as the standard has it (RFC 7807).
    pub(super) fn error(&mut self, site: &Site<'_>) -> Option<RaiseTemplate> {
        let (variables, faults) = (&self.variables, &mut self.faults);
        if !property::object(site, faults) {
            return None;
        }
        property::check(
            site,
            &["type", "status", "title", "detail", "instance"],
            &[],
            faults,
        );
        if let Some(instance) = site.get("instance") {
            faults.at(
                &instance,
                "is set to the reference of the task that raises the error: remove it",
            );
        }
        let kind = property::required(site, "type", faults).and_then(|site| {
            let template = template::strict_text(&site, variables, faults)?;
            if matches!(&template, Template::Literal(_)) && !site.value.as_str().is_some_and(is_uri)
            {
                faults.at(
                    &site,
                    "must be a URI, as `https://example.com/errors/out-of-stock`",
                );
            }
            Some(template)
        });
        let status = property::required(site, "status", faults)
            .and_then(|site| property::integer(&site, 100..=599, faults))
            .and_then(|status| u16::try_from(status).ok());
        let title = site
            .get("title")
            .map(|site| template::strict_text(&site, variables, faults));
        let detail = site
            .get("detail")
            .map(|site| template::strict_text(&site, variables, faults));
        Some(RaiseTemplate {
            kind: kind?,
            status: status?,
            title: title.flatten(),
            detail: detail.flatten(),
        })
    }
}

fn copy(error: &RaiseTemplate) -> RaiseTemplate {
    RaiseTemplate {
        kind: error.kind.clone(),
        title: error.title.clone(),
        status: error.status,
        detail: error.detail.clone(),
    }
}

/// The standard's pattern: a scheme and `://`.
fn is_uri(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}
