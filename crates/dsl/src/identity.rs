//! The name of a workflow: namespace, name and version.

use std::sync::Arc;

use eventflow_domain::WorkflowId;

use crate::{
    fault::{Faults, quoted},
    property,
    site::Site,
};

/// The namespace of a document that names none.
pub(crate) const NAMESPACE_DEFAULT: &str = "default";

/// Reads `namespace`, `name` and `version` of an object; `namespace` may be left out where `optional`.
pub(crate) fn read(site: &Site<'_>, optional: bool, faults: &mut Faults) -> Option<WorkflowId> {
    let namespace = match site.get("namespace") {
        None if optional => Some(Arc::from(NAMESPACE_DEFAULT)),
        _ => part(site, "namespace", label, LABEL, faults),
    };
    let name = part(site, "name", label, LABEL, faults);
    let version = part(site, "version", semantic, "must be a semantic version, as `1.0.0`", faults);
    Some(WorkflowId { namespace: namespace?, name: name?, version: version? })
}

const LABEL: &str = "must be 1 to 63 of A-Z a-z 0-9 -, beginning and ending with a letter or digit";

fn part(
    site: &Site<'_>,
    name: &str,
    holds: fn(&str) -> bool,
    rule: &str,
    faults: &mut Faults,
) -> Option<Arc<str>> {
    let place = property::required(site, name, faults)?;
    let given = property::text(&place, faults)?;
    if !holds(given) {
        faults.at(&place, format!("{rule}, not {}", quoted(given)));
        return None;
    }
    Some(given.into())
}

/// The standard's pattern of namespaces and names.
fn label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Semantic Versioning 2.0.0, at most 64 bytes as every name.
pub(crate) fn semantic(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let number = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_digit())
            && (word == "0" || !word.starts_with('0'))
    };
    let identifier = |part: &str| word(part) && (!part.bytes().all(|byte| byte.is_ascii_digit()) || number(part));
    text.len() <= eventflow_domain::ids::NAME_BYTES_MAX
        && core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(identifier))
        && build.is_none_or(|build| build.split('.').all(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for version in ["0.0.1", "1.0.0", "1.0.0-alpha1", "1.2.3-a.1+build.05", "10.20.30"] {
            assert!(semantic(version), "{version}");
        }
        for version in ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "v1.0.0", "1.0.x"] {
            assert!(!semantic(version), "{version}");
        }
    }

    #[test]
    fn names_are_labels() {
        assert!(label("order") && label("a") && label("Order-2"));
        assert!(!label("") && !label("-a") && !label("a-") && !label("a_b") && !label(&"a".repeat(64)));
    }
}
