//! The arguments of an HTTP call, the same in both languages but for how they write computed values.

use eventflow_domain::expression::Template;
use eventflow_domain::plan::{HttpOutput, HttpTemplate, Performer};

use crate::{
    fault::Faults,
    property,
    site::Site,
    template::{Values, begins_as_url},
};

/// What may be requested. `CONNECT` and `TRACE` are not for workflows.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The properties of a call.
pub(crate) const PROPERTIES: [&str; 7] = [
    "method", "endpoint", "headers", "query", "body", "output", "redirect",
];

/// Reads a call from objects of which each has some of its properties.
pub(crate) fn call(
    objects: &[Site<'_>],
    whole: &Site<'_>,
    values: &mut dyn Values,
    faults: &mut Faults,
) -> Option<Performer> {
    let find = |name: &str| objects.iter().find_map(|object| object.get(name));
    for object in objects {
        property::check(object, &PROPERTIES, &[], faults);
    }
    for name in ["method", "endpoint"] {
        if find(name).is_none() {
            faults.at(whole, format!("must have the property `{name}`"));
        }
    }
    let method = find("method").and_then(|site| method(&site, faults));
    let endpoint = find("endpoint").and_then(|site| endpoint(&site, values, faults));
    let headers = find("headers").and_then(|site| texts(&site, values, faults));
    let query = find("query").and_then(|site| texts(&site, values, faults));
    let body = find("body").and_then(|site| values.value(&site, faults));
    let output = find("output").and_then(|site| output(&site, faults));
    let redirect = find("redirect").and_then(|site| property::boolean(&site, faults));
    Some(Performer::Http(HttpTemplate {
        method: method?.into(),
        endpoint: endpoint?,
        headers,
        query,
        body,
        output: output.unwrap_or_default(),
        redirect: redirect.unwrap_or(false),
    }))
}

fn method(site: &Site<'_>, faults: &mut Faults) -> Option<&'static str> {
    let given = property::text(site, faults)?;
    let method = METHODS
        .into_iter()
        .find(|method| method.eq_ignore_ascii_case(given));
    if method.is_none() {
        let given = property::shown(site.value);
        faults.at(
            site,
            format!(
                "must be one of {}, written out, not {given}",
                METHODS.join(", ")
            ),
        );
    }
    method
}

/// A URL, or `{uri}`.
fn endpoint(site: &Site<'_>, values: &mut dyn Values, faults: &mut Faults) -> Option<Template> {
    if !site.value.is_object() {
        return url(site, values, faults);
    }
    property::check(site, &["uri"], &["authentication"], faults);
    let uri = property::required(site, "uri", faults)?;
    url(&uri, values, faults)
}

fn url(site: &Site<'_>, values: &mut dyn Values, faults: &mut Faults) -> Option<Template> {
    property::text(site, faults)?;
    let template = values.url(site, faults)?;
    if !begins_as_url(&template) {
        faults.at(
            site,
            "must be a URL that begins with `http://` or `https://`",
        );
        return None;
    }
    Some(template)
}

/// An object of texts, or what yields one.
fn texts(site: &Site<'_>, values: &mut dyn Values, faults: &mut Faults) -> Option<Template> {
    if !site.value.is_string() && !property::object(site, faults) {
        return None;
    }
    for (_, value) in site.properties() {
        property::text(&value, faults);
    }
    let template = values.value(site, faults)?;
    if site.value.is_string() && !matches!(template, Template::Expression(_)) {
        faults.at(
            site,
            "must be an object of strings, or an expression that yields one",
        );
        return None;
    }
    Some(template)
}

fn output(site: &Site<'_>, faults: &mut Faults) -> Option<HttpOutput> {
    match property::one_of(site, &["content", "raw", "response"], faults)? {
        "raw" => Some(HttpOutput::Raw),
        "response" => Some(HttpOutput::Response),
        _ => Some(HttpOutput::Content),
    }
}
