//! The variables that expressions may name beside the predefined ones: the errors that the `catch`es around them have
//! given a name.

use std::sync::Arc;

use eventflow_domain::expression::VARIABLES;

use crate::{
    fault::{Faults, quoted},
    property,
    site::Site,
};

/// The longest name of a variable, characters: that of a task.
const NAME_MAX: usize = 64;

/// What the standard and jq define, beside [`VARIABLES`].
const DEFINED: [&str; 4] = ["secrets", "authorization", "ENV", "__loc__"];

/// Names in scope, the innermost last. One may stand there twice: the inner one counts.
#[derive(Debug)]
pub(crate) struct Variables(Vec<Arc<str>>);

impl Variables {
    /// Outside of every `catch`.
    pub(crate) const NONE: Self = Self(Vec::new());

    /// As the compilers of expressions take them.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|name| &**name).collect()
    }

    /// Goes into the scope of one more.
    pub(crate) fn push(&mut self, name: Arc<str>) {
        self.0.push(name);
    }

    /// Leaves the scope of the innermost.
    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }
}

/// The name that a document gives a variable, without its dollar. One with a needless dollar is still what
/// expressions call it.
pub(crate) fn name<'a>(site: &Site<'a>, faults: &mut Faults) -> Option<&'a str> {
    let given = property::text(site, faults)?;
    let name = given.strip_prefix('$').unwrap_or(given);
    let is_name = name.len() <= NAME_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        let detail = format!(
            "must be the name of a variable, 1 to {NAME_MAX} of A-Z a-z 0-9 _ and no digit first, not {}",
            quoted(given)
        );
        faults.at(site, detail);
        return None;
    }
    if given != name {
        faults.at(
            site,
            format!("is written without its `$`: {}", quoted(name)),
        );
    }
    if VARIABLES.iter().chain(&DEFINED).any(|known| *known == name) {
        let detail = format!("`${name}` is defined already: choose another name");
        faults.at(site, detail);
        return None;
    }
    Some(name)
}
