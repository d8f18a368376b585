//! What tier 1 admits: a walk over jaq's tree that refuses what is not bounded and turns the rest into terms that pay.
//!
//! Whatever copies or builds a value in proportion to its size becomes a call of a native that pays the meter first:
//! `.[]` becomes `_each`, `a + b` becomes `_add(a; b)`, an object becomes the sum of its pairs. What is left to jaq
//! itself takes constant time per step, and each step is a tick. Along the way the walk finds out how deep evaluation
//! may recurse and how deep values may nest, which the stack must hold, and what of the scope is read.

use std::collections::{BTreeMap, BTreeSet};

use jaq_core::load::{Arena, parse::Term};

use super::{
    bounds::{Bounded, Bounds, LEVELS_MAX, TERM_DEPTH_MAX, leaf},
    definitions::{self, Definition},
    refused,
};

mod constructs;
mod operators;

/// The longest number in a source. Bytes; jaq parses it anew whenever it comes by.
const NUMBER_LITERAL_BYTES_MAX: usize = 40;
/// Calls that do not look at `.` themselves, though their arguments may.
const BLIND: [(&str, usize); 11] = [
    ("true", 0),
    ("false", 0),
    ("null", 0),
    ("empty", 0),
    ("error", 1),
    ("first", 1),
    ("last", 1),
    ("isempty", 1),
    ("add", 1),
    ("any", 2),
    ("all", 2),
];

type Node<'s> = Term<&'s str>;

/// What of `.` or of a variable is read: all of it, or only so many fields of an object.
#[derive(Debug)]
pub(super) enum Reads<'s> {
    All,
    Fields(BTreeSet<&'s str>),
}

impl<'s> Reads<'s> {
    const NOTHING: Self = Self::Fields(BTreeSet::new());

    /// Notes that a field is read or, without one, all of it.
    fn note(&mut self, field: Option<&'s str>) {
        match (self, field) {
            (Self::All, _) => {}
            (Self::Fields(fields), Some(field)) => {
                fields.insert(field);
            }
            (this @ Self::Fields(_), None) => *this = Self::All,
        }
    }
}

/// The walk, and what it found.
pub(super) struct Admission<'s, 'd> {
    arena: &'s Arena,
    definitions: &'d [Definition],
    /// The variables of the scope.
    globals: &'s [&'s str],
    /// What is bound where the walk is: variables with their dollar, a definition's filter arguments without.
    locals: Vec<&'s str>,
    /// A definition of ours: it may call the natives with a leading underscore.
    is_ours: bool,
    pub(super) dot: Reads<'s>,
    pub(super) variables: BTreeMap<&'s str, Reads<'s>>,
    /// Names and numbers of arguments of what is called.
    pub(super) calls: BTreeSet<(&'s str, usize)>,
}

impl<'s, 'd> Admission<'s, 'd> {
    /// For an expression over these variables.
    pub(super) fn of_expression(arena: &'s Arena, globals: &'s [&'s str]) -> Self {
        Self::new(arena, definitions::prelude(), globals)
    }

    /// For the body of one of our own definitions, behind these.
    pub(super) fn of_definition(
        arena: &'s Arena,
        definitions: &'d [Definition],
        arguments: &[&'s str],
    ) -> Self {
        Self {
            locals: arguments.to_vec(),
            is_ours: true,
            ..Self::new(arena, definitions, &[])
        }
    }

    fn new(arena: &'s Arena, definitions: &'d [Definition], globals: &'s [&'s str]) -> Self {
        Self {
            arena,
            definitions,
            globals,
            locals: vec![],
            is_ours: false,
            dot: Reads::NOTHING,
            variables: BTreeMap::new(),
            calls: BTreeSet::new(),
        }
    }

    /// Admits a whole source.
    pub(super) fn admit(&mut self, term: Node<'s>) -> Result<Bounded<'s>, String> {
        let admitted = self.term(term, true, 0)?;
        if admitted.bounds.levels > LEVELS_MAX {
            return Err(format!(
                "it nests its output more than {LEVELS_MAX} levels deeper than its input"
            ));
        }
        Ok(admitted)
    }

    /// Admits a term. `at_dot` says whether its `.` is still the scope's.
    fn term(
        &mut self,
        term: Node<'s>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        if nesting > TERM_DEPTH_MAX {
            return Err(too_deep());
        }
        let inner = nesting + 1;
        let admitted = match term {
            Term::Id => {
                self.read_dot(at_dot);
                leaf(Term::Id)
            }
            Term::Num(digits) if digits.len() > NUMBER_LITERAL_BYTES_MAX => {
                return Err(format!(
                    "the number `{digits}` is longer than {NUMBER_LITERAL_BYTES_MAX} digits"
                ));
            }
            Term::Num(digits) => leaf(Term::Num(digits)),
            Term::Str(format, parts) => self.string(format, parts, at_dot, inner)?,
            Term::Arr(None) => leaf(Term::Arr(None)).deeper(1),
            Term::Arr(Some(items)) => {
                let items = self.term(*items, at_dot, inner)?;
                items.wrap(|items| Term::Arr(Some(items))).deeper(1)
            }
            Term::Obj(entries) => self.object(entries, at_dot, inner)?,
            Term::Neg(of) => self.term(*of, at_dot, inner)?.wrap(Term::Neg),
            Term::BinOp(left, operator, right) => {
                self.operation(*left, operator, *right, at_dot, inner)?
            }
            Term::TryCatch(body, None) => {
                let body = self.term(*body, at_dot, inner)?;
                self.native("_try", [body])
            }
            Term::IfThenElse(branches, otherwise) => {
                self.choice(branches, otherwise, at_dot, inner)?
            }
            Term::Call(name, arguments) => self.call(name, arguments, at_dot, inner)?,
            Term::Var(name) => self.variable(name, None)?,
            Term::Path(of, path) => self.path(*of, path, at_dot, inner)?,
            Term::TryCatch(_, Some(_)) => return Err(refused::CATCH.into()),
            Term::Recurse => return Err(refused::RECURSION.into()),
            Term::Label(..) | Term::Break(_) => return Err(refused::LABEL.into()),
            Term::Fold(..) | Term::Def(..) => return Err(refused::LOOPS.into()),
        };
        if admitted.bounds.depth > TERM_DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(admitted)
    }

    fn call(
        &mut self,
        name: &'s str,
        arguments: Vec<Node<'s>>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        if arguments.is_empty() && self.locals.contains(&name) {
            return Ok(leaf(Term::Call(name, vec![])));
        }
        let hidden = name.starts_with('_') && !self.is_ours;
        let Some(bounds) =
            definitions::bounds_of(self.definitions, name, arguments.len()).filter(|_| !hidden)
        else {
            let known_with = (0..4).find(|count| {
                !hidden && definitions::bounds_of(self.definitions, name, *count).is_some()
            });
            return Err(refused::call(name, arguments.len(), known_with));
        };
        let is_blind = BLIND.contains(&(name, arguments.len()));
        self.read_dot(at_dot && !is_blind);
        let arguments = arguments
            .into_iter()
            .map(|argument| self.term(argument, at_dot && is_blind, nesting));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        Ok(self.applied(name, bounds, arguments))
    }

    /// A call of one of our natives.
    fn native<const N: usize>(
        &mut self,
        name: &'static str,
        arguments: [Bounded<'s>; N],
    ) -> Bounded<'s> {
        let bounds = definitions::bounds_of(self.definitions, name, N).unwrap_or_default();
        let widest = arguments
            .iter()
            .map(|argument| argument.bounds.levels)
            .max();
        let mut call = self.applied(name, bounds, arguments.into());
        // An operator yields a value made of one of its operands; a filter's arguments work one inside the other.
        call.bounds.levels = bounds.levels + widest.unwrap_or(0);
        call
    }

    fn applied(&mut self, name: &'s str, of: Bounds, arguments: Vec<Bounded<'s>>) -> Bounded<'s> {
        self.calls.insert((name, arguments.len()));
        let deepest = arguments.iter().map(|argument| argument.bounds.depth).max();
        let bounds = Bounds {
            depth: 1 + of.depth + deepest.unwrap_or(0),
            levels: of.levels
                + arguments
                    .iter()
                    .map(|argument| argument.bounds.levels)
                    .sum::<usize>(),
        };
        let arguments = arguments
            .into_iter()
            .map(|argument| argument.term)
            .collect();
        Bounded {
            term: Term::Call(name, arguments),
            bounds,
        }
    }

    /// A variable of which this field is read or, without one, all of it.
    fn variable(&mut self, name: &'s str, field: Option<&'s str>) -> Result<Bounded<'s>, String> {
        if !self.locals.contains(&name) {
            let global = self.globals.iter().find(|global| **global == &name[1..]);
            let global = global.ok_or_else(|| refused::variable(name, self.globals))?;
            let reads = self.variables.entry(global).or_insert(Reads::NOTHING);
            reads.note(field);
        }
        Ok(leaf(Term::Var(name)))
    }

    /// Notes that all of `.` is read, where it is the scope's.
    fn read_dot(&mut self, at_dot: bool) {
        if at_dot {
            self.dot.note(None);
        }
    }
}

fn too_deep() -> String {
    format!("its terms nest deeper than {TERM_DEPTH_MAX}: split it over several tasks")
}

/// A number that is parsed in constant time.
fn is_number(term: &Node<'_>) -> bool {
    match term {
        Term::Num(digits) => digits.len() <= NUMBER_LITERAL_BYTES_MAX,
        Term::Neg(of) => {
            matches!(&**of, Term::Num(digits) if digits.len() <= NUMBER_LITERAL_BYTES_MAX)
        }
        _ => false,
    }
}
