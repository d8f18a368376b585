//! Durations at their place in a document.

pub(crate) use eventflow_domain::duration::{DURATION_MAX, Spelling};
use eventflow_domain::{
    DurationMs,
    duration::{OBJECT, parse},
    plan::Span,
};

use crate::{fault::Faults, property, site::Site, template, variables::Variables};

/// A duration, or an expression that gives one.
pub(crate) fn span(site: &Site<'_>, variables: &Variables, faults: &mut Faults) -> Option<Span> {
    if site.value.as_str().is_some_and(template::is_expression) {
        return template::expression(site, variables, faults).map(Span::Computed);
    }
    read(site, Spelling::Standard, faults).map(Span::Fixed)
}

/// A duration that may be zero.
pub(crate) fn read(site: &Site<'_>, spelling: Spelling, faults: &mut Faults) -> Option<DurationMs> {
    let duration = match site.value {
        serde_json::Value::String(text) if template::is_expression(text) => Err(
            "a duration computed by an expression is not executed yet, but for `wait`: write it out"
                .to_owned(),
        ),
        serde_json::Value::String(text) => parse(text, spelling),
        serde_json::Value::Object(_) => return object(site, faults),
        _ => Err(
            "must be a duration: ISO 8601 text (`PT30S`) or an object (`{seconds: 30}`)".to_owned(),
        ),
    };
    duration.map_err(|detail| faults.at(site, detail)).ok()
}

/// A duration that is longer than nothing.
pub(crate) fn positive(
    site: &Site<'_>,
    spelling: Spelling,
    faults: &mut Faults,
) -> Option<DurationMs> {
    let duration = read(site, spelling, faults)?;
    if duration.0 == 0 {
        faults.at(site, "must be longer than nothing");
        return None;
    }
    Some(duration)
}

fn object(site: &Site<'_>, faults: &mut Faults) -> Option<DurationMs> {
    property::check(site, &OBJECT.map(|(name, _)| name), &[], faults);
    let mut total = Some(0_u64);
    let mut given = false;
    for (name, unit) in OBJECT {
        let Some(part) = site.get(name) else { continue };
        given = true;
        let count = property::integer(&part, 0..=DURATION_MAX.0, faults)?;
        total = total
            .zip(count.checked_mul(unit))
            .and_then(|(total, part)| total.checked_add(part));
    }
    if !given {
        faults.at(
            site,
            "must have at least one of days, hours, minutes, seconds, milliseconds",
        );
        return None;
    }
    let total = total
        .filter(|total| *total <= DURATION_MAX.0)
        .map(DurationMs);
    if total.is_none() {
        faults.at(site, "is longer than ten years");
    }
    total
}
