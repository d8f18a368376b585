//! The definitions of `prelude.jq`, admitted like any expression, and which of them a program needs.

use std::{collections::BTreeSet, sync::LazyLock};

use jaq_core::load::{self, Arena, parse::Def};

use super::{admit::Admission, bounds::Bounds, natives};

/// A definition of the prelude, what it costs and what it calls.
pub(super) struct Definition {
    def: Def<&'static str>,
    bounds: Bounds,
    calls: BTreeSet<(&'static str, usize)>,
}

impl Definition {
    fn is(&self, name: &str, arguments: usize) -> bool {
        self.def.name == name && self.def.args.len() == arguments
    }
}

static PRELUDE: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    // It holds nothing but what the terms of the prelude point to, and those live as long as the process.
    let arena: &'static Arena = Box::leak(Box::default());
    let parsed = load::parse(include_str!("prelude.jq"), |parser| parser.defs());
    let mut prelude: Vec<Definition> = vec![];
    for mut def in parsed.expect("the prelude parses") {
        let mut admission = Admission::of_definition(arena, &prelude, &def.args);
        let admitted = admission.admit(std::mem::take(&mut def.body));
        let admitted =
            admitted.unwrap_or_else(|reason| panic!("`{}` of the prelude: {reason}", def.name));
        def.body = admitted.term;
        let calls = admission.calls;
        prelude.push(Definition {
            def,
            bounds: admitted.bounds,
            calls,
        });
    }
    prelude
});

/// All definitions, in an order in which each calls only those before it.
pub(super) fn prelude() -> &'static [Definition] {
    &PRELUDE
}

/// The bounds of a definition or native with this name and so many arguments, if there is one.
pub(super) fn bounds_of(
    definitions: &[Definition],
    name: &str,
    arguments: usize,
) -> Option<Bounds> {
    let defined = definitions
        .iter()
        .find(|definition| definition.is(name, arguments));
    defined
        .map(|definition| definition.bounds)
        .or_else(|| natives::levels_of(name, arguments).map(|levels| Bounds { depth: 1, levels }))
}

/// The definitions behind these calls, and behind the calls in them.
pub(super) fn needed<'s>(calls: &BTreeSet<(&'s str, usize)>) -> Vec<Def<&'s str>> {
    let mut calls: BTreeSet<(&str, usize)> = calls.clone();
    let mut needed = vec![];
    for definition in prelude().iter().rev() {
        if calls.contains(&(definition.def.name, definition.def.args.len())) {
            calls.extend(&definition.calls);
            needed.push(definition.def.clone());
        }
    }
    needed.reverse();
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelude_is_admitted() {
        assert!(prelude().len() > 60);
    }

    #[test]
    fn a_program_gets_what_it_calls_and_no_more() {
        let needed = needed(&BTreeSet::from([("with_entries", 1)]));
        let names: Vec<_> = needed.iter().map(|def| def.name).collect();
        assert_eq!(names, ["map", "to_entries", "from_entries", "with_entries"]);
    }
}
