//! What a property must look like, asked of a place in the document: its type, its range, its known names.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::{
    fault::{Faults, did_you_mean, quoted},
    site::Site,
};

/// Whether this is an object; a fault where it is not.
pub(crate) fn object(site: &Site<'_>, faults: &mut Faults) -> bool {
    expect(site, site.value.is_object(), "an object", faults)
}

/// Whether this is an array; a fault where it is not.
pub(crate) fn array(site: &Site<'_>, faults: &mut Faults) -> bool {
    expect(site, site.value.is_array(), "an array", faults)
}

/// A text.
pub(crate) fn text<'a>(site: &Site<'a>, faults: &mut Faults) -> Option<&'a str> {
    expect(site, site.value.is_string(), "a string", faults);
    site.value.as_str()
}

/// `true` or `false`.
pub(crate) fn boolean(site: &Site<'_>, faults: &mut Faults) -> Option<bool> {
    expect(site, site.value.is_boolean(), "true or false", faults);
    site.value.as_bool()
}

/// An integer of this range.
pub(crate) fn integer(
    site: &Site<'_>,
    range: RangeInclusive<u64>,
    faults: &mut Faults,
) -> Option<u64> {
    let integer = site
        .value
        .as_u64()
        .filter(|integer| range.contains(integer));
    if integer.is_none() {
        let (least, most) = (range.start(), range.end());
        faults.at(
            site,
            format!(
                "must be an integer from {least} to {most}, not {}",
                shown(site.value)
            ),
        );
    }
    integer
}

/// One of these words.
pub(crate) fn one_of<'w>(
    site: &Site<'_>,
    words: &[&'w str],
    faults: &mut Faults,
) -> Option<&'w str> {
    let given = text(site, faults)?;
    let word = words.iter().find(|word| **word == given).copied();
    if word.is_none() {
        let hint = did_you_mean(given, words.iter().copied());
        faults.at(
            site,
            format!(
                "must be one of {}, not {}{hint}",
                words.join(", "),
                quoted(given)
            ),
        );
    }
    word
}

/// A property that must be there.
pub(crate) fn required<'a>(
    site: &'a Site<'a>,
    name: &str,
    faults: &mut Faults,
) -> Option<Site<'a>> {
    let property = site.get(name);
    if property.is_none() && site.value.is_object() {
        faults.at(site, format!("must have the property `{name}`"));
    }
    property
}

/// A fault for each property that is neither executed nor dealt with elsewhere: known ones are not executed yet, others
/// are misspelt.
pub(crate) fn check(site: &Site<'_>, executed: &[&str], not_yet: &[&str], faults: &mut Faults) {
    for (name, property) in site.properties() {
        if executed.contains(&name) {
            continue;
        }
        if not_yet.contains(&name) {
            faults.not_yet(&property, &format!("`{name}`"));
        } else {
            let hint = did_you_mean(name, executed.iter().chain(not_yet).copied());
            faults.at(
                &property,
                format!("there is no property {} here{hint}", quoted(name)),
            );
        }
    }
}

/// A value in a few words, for a fault.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(boolean) => format!("`{boolean}`"),
        Value::Number(number) => format!("`{number}`"),
        Value::String(text) => format!("the text {}", quoted(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn expect(site: &Site<'_>, holds: bool, what: &str, faults: &mut Faults) -> bool {
    if !holds {
        let hint = match (what, site.value) {
            ("a string", Value::Number(_) | Value::Bool(_)) => ": put it in quotes",
            _ => "",
        };
        faults.at(
            site,
            format!("must be {what}, not {}{hint}", shown(site.value)),
        );
    }
    holds
}
