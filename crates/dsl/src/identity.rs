//! The name of a workflow: namespace, name and version.

use std::sync::Arc;

use eventflow_domain::{WorkflowId, ids::NAME_BYTES_MAX};

use crate::{
    fault::{Faults, quoted},
    property,
    site::Site,
};

/// The namespace of a document that names none.
pub(crate) const NAMESPACE_DEFAULT: &str = "default";

/// What a text must look like.
struct Rule {
    holds: fn(&str) -> bool,
    says: &'static str,
}

/// The standard's namespaces and names.
const LABEL: Rule = Rule {
    holds: label,
    says: "must be 1 to 63 of A-Z a-z 0-9 -, beginning and ending with a letter or digit",
};
/// Ours (DESIGN section 10).
const NAME: Rule = Rule {
    holds: is_name,
    says: "must be 1 to 64 of A-Z a-z 0-9 _ -",
};
/// Versions of both.
const VERSION: Rule = Rule {
    holds: semantic,
    says: "must be a semantic version, as `1.0.0`",
};

/// Reads `namespace`, `name` and `version` of an OWS document's `document`.
pub(crate) fn standard(site: &Site<'_>, faults: &mut Faults) -> Option<WorkflowId> {
    let namespace = part(site, "namespace", &LABEL, faults);
    let name = part(site, "name", &LABEL, faults);
    let version = part(site, "version", &VERSION, faults);
    Some(WorkflowId {
        namespace: namespace?,
        name: name?,
        version: version?,
    })
}

/// Reads them of a DAG document, where the namespace may be left out.
pub(crate) fn ours(site: &Site<'_>, faults: &mut Faults) -> Option<WorkflowId> {
    let namespace = match site.get("namespace") {
        None => Some(Arc::from(NAMESPACE_DEFAULT)),
        Some(_) => part(site, "namespace", &NAME, faults),
    };
    let name = part(site, "name", &NAME, faults);
    let version = part(site, "version", &VERSION, faults);
    Some(WorkflowId {
        namespace: namespace?,
        name: name?,
        version: version?,
    })
}

fn part(site: &Site<'_>, name: &str, rule: &Rule, faults: &mut Faults) -> Option<Arc<str>> {
    let place = property::required(site, name, faults)?;
    let given = property::text(&place, faults)?;
    if !(rule.holds)(given) {
        faults.at(&place, format!("{}, not {}", rule.says, quoted(given)));
        return None;
    }
    Some(given.into())
}

/// `[A-Za-z0-9_-]{1,64}`
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(inner)
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
    let (rest, build) = text
        .split_once('+')
        .map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest
        .split_once('-')
        .map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let number = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_digit())
            && (word == "0" || !word.starts_with('0'))
    };
    let identifier = |part: &str| {
        word(part) && (!part.bytes().all(|byte| byte.is_ascii_digit()) || number(part))
    };
    text.len() <= NAME_BYTES_MAX
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
        for version in [
            "0.0.1",
            "1.0.0",
            "1.0.0-alpha1",
            "1.2.3-a.1+build.05",
            "10.20.30",
        ] {
            assert!(semantic(version), "{version}");
        }
        for version in [
            "", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "v1.0.0", "1.0.x",
        ] {
            assert!(!semantic(version), "{version}");
        }
    }

    #[test]
    fn names_are_labels() {
        assert!(label("order") && label("a") && label("Order-2"));
        assert!(
            !label("") && !label("-a") && !label("a-") && !label("a_b") && !label(&"a".repeat(64))
        );
    }
}
