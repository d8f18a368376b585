//! Paths, objects and strings.

use jaq_core::{
    load::{lex::StrPart, parse::Term},
    path::{Opt, Part, Path},
};

use super::{Admission, Node};
use crate::expression::bounds::{Bounded, Bounds, balanced, leaf, piped};

/// A text in the source up to this size costs nothing beside its tick. Bytes; jaq copies it whenever it comes by.
const SHORT_BYTES_MAX: usize = 64;

type Parts<'s> = Vec<StrPart<&'s str, Node<'s>>>;

impl<'s> Admission<'s, '_> {
    /// `a.b[c][]`, with runs of short keys left to jaq.
    pub(super) fn path(
        &mut self,
        of: Node<'s>,
        path: Path<Node<'s>>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        let mut parts = path.0.into_iter().peekable();
        let first_key = match parts.peek() {
            Some((Part::Index(Term::Str(None, key)), _)) => self.literal(key),
            _ => None,
        };
        let mut walk = match (of, first_key) {
            (Term::Id, Some(_)) if at_dot => {
                self.dot.note(first_key);
                leaf(Term::Id)
            }
            (Term::Var(name), Some(_)) => self.variable(name, first_key)?,
            (of, _) => self.term(of, at_dot, nesting)?,
        };
        while let Some((part, optional)) = parts.next() {
            let is_optional = matches!(optional, Opt::Optional);
            walk = match part {
                Part::Index(key) if self.short_key(&key).is_some() => {
                    let mut keys =
                        vec![(Part::Index(self.term(key, false, nesting)?.term), optional)];
                    while let Some((Part::Index(key), optional)) = parts.next_if(
                        |(part, _)| matches!(part, Part::Index(key) if self.short_key(key).is_some()),
                    ) {
                        keys.push((Part::Index(self.term(key, false, nesting)?.term), optional));
                    }
                    walk.wrap(|of| Term::Path(of, Path(keys)))
                }
                Part::Index(key) => {
                    let key = self.term(key, at_dot, nesting)?;
                    self.native(
                        if is_optional { "_index_opt" } else { "_index" },
                        [walk, key],
                    )
                }
                Part::Range(None, None) => {
                    let each = self.native(if is_optional { "_each_opt" } else { "_each" }, []);
                    piped(walk, each)
                }
                Part::Range(from, upto) => {
                    let from = self.term(from.unwrap_or_else(null), at_dot, nesting)?;
                    let upto = self.term(upto.unwrap_or_else(null), at_dot, nesting)?;
                    self.native(
                        if is_optional { "_slice_opt" } else { "_slice" },
                        [walk, from, upto],
                    )
                }
            };
        }
        Ok(walk)
    }

    /// `{a, "b": 1, (f): g}`, as the sum of its pairs.
    pub(super) fn object(
        &mut self,
        entries: Vec<(Node<'s>, Option<Node<'s>>)>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        let mut pairs = vec![];
        for (key, value) in entries {
            let (key, value) = match (key, value) {
                (Term::Var(name), None) => (text(&name[1..]), Term::Var(name)),
                (key, None) => {
                    let path = Path(vec![(Part::Index(key.clone()), Opt::Essential)]);
                    (key, Term::Path(Box::new(Term::Id), path))
                }
                (key, Some(value)) => (key, value),
            };
            let is_short = self.short_key(&key).is_some();
            let key = self.term(key, at_dot, nesting)?;
            let value = self.term(value, at_dot, nesting)?;
            pairs.push(if is_short {
                let bounds = Bounds::around([key.bounds, value.bounds]).with_levels(1);
                Bounded {
                    term: Term::Obj(vec![(key.term, Some(value.term))]),
                    bounds,
                }
            } else {
                self.native("_pair", [key, value])
            });
        }
        if pairs.is_empty() {
            return Ok(leaf(Term::Obj(vec![])).deeper(1));
        }
        Ok(balanced(pairs, &mut |one, two| {
            self.native("_add", [one, two])
        }))
    }

    /// `"a \(b) c"`, as the sum of its parts.
    pub(super) fn string(
        &mut self,
        format: Option<&'s str>,
        parts: Parts<'s>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        if let Some(literal) = self.literal(&parts) {
            let short = leaf(text(literal));
            return Ok(if literal.len() <= SHORT_BYTES_MAX {
                short
            } else {
                let touch = self.native("_touch", []);
                piped(short, touch)
            });
        }
        let format = format.unwrap_or("tostring");
        let mut sum = vec![];
        for part in parts {
            sum.push(match part {
                StrPart::Str(literal) => leaf(text(literal)),
                StrPart::Char(literal) => leaf(text(self.arena.alloc(literal.to_string()))),
                StrPart::Term(part) => {
                    let part = self.term(part, at_dot, nesting)?;
                    let format = self.call(format, vec![], false, nesting)?;
                    piped(part, format)
                }
            });
        }
        Ok(balanced(sum, &mut |one, two| {
            self.native("_add", [one, two])
        }))
    }

    /// The text of a string without interpolations.
    fn literal(&self, parts: &Parts<'s>) -> Option<&'s str> {
        if let [StrPart::Str(literal)] = parts.as_slice() {
            return Some(literal);
        }
        let mut literal = String::new();
        for part in parts {
            match part {
                StrPart::Str(part) => literal.push_str(part),
                StrPart::Char(part) => literal.push(*part),
                StrPart::Term(_) => return None,
            }
        }
        Some(self.arena.alloc(literal))
    }

    /// The text of an index that is a short key, which takes constant time.
    fn short_key(&self, index: &Node<'s>) -> Option<&'s str> {
        match index {
            Term::Str(None, parts) => self
                .literal(parts)
                .filter(|key| key.len() <= SHORT_BYTES_MAX),
            _ => None,
        }
    }
}

fn null<'s>() -> Node<'s> {
    Term::Call("null", vec![])
}

fn text(literal: &str) -> Node<'_> {
    Term::Str(None, vec![StrPart::Str(literal)])
}
