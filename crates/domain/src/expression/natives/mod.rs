//! What an expression can call that is not jq: each native pays its meter before it touches or builds anything.
//!
//! The operators are here too, because [`admit`](super::admit) turns `a + b` into a call of `_add`: that way nothing
//! that copies or builds runs inside jaq without having been paid for. The work itself is left to jaq's own values and
//! natives wherever it is linear in what was paid.

use jaq_core::{
    Bind, Exn, Native, RunPtr,
    box_iter::box_once,
    native::{Fun, v},
};
use jaq_json::Val;

use super::meter::Tier1;

mod collections;
mod operators;
mod strings;

/// The largest string that is built, and the largest output. Bytes of JSON; what is larger is work for a task, not
/// for the decision about one.
pub const EVALUATION_BYTES_MAX: usize = 1024 * 1024;

type Cv<'a> = jaq_core::Cv<'a, Tier1>;
type ValXs<'a> = jaq_core::ValXs<'a, Val>;
type ValX<'a> = Result<Val, Exn<'a, Val>>;

/// A native: its name, its arguments, by how many levels its output may nest deeper than its input, and how it runs.
type Entry = (&'static str, Arguments, usize, RunPtr<Tier1>);

/// The arguments of a native: so many values, or one filter.
#[derive(Clone, Copy)]
enum Arguments {
    Values(usize),
    Filter,
}

impl Arguments {
    fn binds(self) -> Box<[Bind]> {
        match self {
            Self::Values(count) => v(count),
            Self::Filter => [Bind::Fun(())].into(),
        }
    }
}

use Arguments::{Filter, Values};

/// Our own natives.
const OWN: &[Entry] = &[
    ("_each", Values(0), 0, operators::each),
    ("_each_opt", Values(0), 0, operators::each_opt),
    ("_index", Values(2), 0, operators::index),
    ("_index_opt", Values(2), 0, operators::index_opt),
    ("_slice", Values(3), 0, operators::slice),
    ("_slice_opt", Values(3), 0, operators::slice_opt),
    ("_try", Filter, 0, operators::try_),
    ("_add", Values(2), 0, operators::add),
    ("_sub", Values(2), 0, operators::sub),
    ("_mul", Values(2), 0, operators::mul),
    ("_div", Values(2), 1, operators::div),
    ("_rem", Values(2), 0, operators::rem),
    ("_eq", Values(2), 0, operators::eq),
    ("_ne", Values(2), 0, operators::ne),
    ("_lt", Values(2), 0, operators::lt),
    ("_le", Values(2), 0, operators::le),
    ("_gt", Values(2), 0, operators::gt),
    ("_ge", Values(2), 0, operators::ge),
    ("_pair", Values(2), 1, operators::pair),
    ("null", Values(0), 0, |_| one(Ok(Val::Null))),
    ("true", Values(0), 0, |_| one(Ok(Val::Bool(true)))),
    ("false", Values(0), 0, |_| one(Ok(Val::Bool(false)))),
    ("empty", Values(0), 0, |_| Box::new(std::iter::empty())),
    ("error", Values(0), 0, operators::error),
    ("not", Values(0), 0, operators::not),
    ("type", Values(0), 0, operators::type_),
    ("length", Values(0), 0, operators::length),
    ("has", Values(1), 0, operators::has),
    ("_touch", Values(0), 0, operators::touch),
    ("_touch", Values(1), 0, operators::touch_both),
    ("_weigh", Values(1), 0, operators::weigh),
    ("_weigh_product", Values(1), 0, operators::weigh_product),
    ("_sum", Values(0), 0, collections::sum),
    ("_flatten", Values(1), 0, collections::flatten),
    ("_to_entries", Values(0), 1, collections::to_entries),
    ("_from_entries", Values(0), 0, collections::from_entries),
    ("_join", Values(1), 0, strings::join),
    ("_split", Values(1), 1, strings::split),
    ("tostring", Values(0), 0, strings::tostring),
    ("tojson", Values(0), 0, strings::tojson),
    ("fromjson", Values(0), 0, strings::fromjson),
    ("tonumber", Values(0), 0, strings::tonumber),
    ("_base64", Values(0), 0, strings::base64),
    ("_base64d", Values(0), 0, strings::base64d),
    ("_uri", Values(0), 0, strings::uri),
];

/// jaq's natives that are linear in what the definition around them paid: jaq's name, ours, the levels they add.
const OF_JAQ: &[(&str, &str, usize)] = &[
    ("first", "_first", 0),
    ("last", "_last", 0),
    ("keys_unsorted", "_keys", 1),
    ("contains", "_contains", 0),
    ("indices", "_indices", 1),
    ("reverse", "_reverse", 0),
    ("sort", "_sort", 0),
    ("sort_by", "_sort_by", 0),
    ("group_by", "_group_by", 1),
    ("min_by_or_empty", "_min_by", 0),
    ("max_by_or_empty", "_max_by", 0),
    ("startswith", "_startswith", 0),
    ("endswith", "_endswith", 0),
    ("ltrimstr", "_ltrimstr", 0),
    ("rtrimstr", "_rtrimstr", 0),
    ("trim", "_trim", 0),
    ("ltrim", "_ltrim", 0),
    ("rtrim", "_rtrim", 0),
    ("ascii_downcase", "_ascii_downcase", 0),
    ("ascii_upcase", "_ascii_upcase", 0),
    ("floor", "_floor", 0),
    ("ceil", "_ceil", 0),
    ("round", "_round", 0),
];

/// All natives, for jaq's compiler.
pub(super) fn natives() -> impl Iterator<Item = Fun<Tier1>> {
    let own = OWN
        .iter()
        .map(|(name, arguments, _, run)| (*name, arguments.binds(), Native::<Tier1>::new(*run)));
    let of_jaq = jaq_core::funs()
        .chain(jaq_std::base_funs())
        .chain(jaq_json::funs());
    own.chain(of_jaq.filter_map(|(name, arguments, native)| {
        let (_, ours, _) = OF_JAQ.iter().find(|(theirs, ..)| *theirs == name)?;
        Some((*ours, arguments, native))
    }))
}

/// By how many levels the output of a native may nest deeper than its input; nothing if there is no such native.
pub(super) fn levels_of(name: &str, arguments: usize) -> Option<usize> {
    let own = OWN.iter().find_map(|(known, takes, levels, _)| {
        (*known == name && takes.binds().len() == arguments).then_some(*levels)
    });
    let of_jaq = || {
        OF_JAQ
            .iter()
            .find(|(_, ours, _)| *ours == name)
            .map(|(.., levels)| *levels)
    };
    own.or_else(of_jaq)
}

/// One output.
fn one(result: ValX<'_>) -> ValXs<'_> {
    box_once(result)
}

/// The only argument.
fn argument(cv: &mut Cv<'_>) -> Val {
    cv.0.pop_var()
}

/// The two arguments, in the order they were written.
fn arguments(cv: &mut Cv<'_>) -> (Val, Val) {
    let right = cv.0.pop_var();
    (cv.0.pop_var(), right)
}

/// An error with a message, as `error("…")` raises it.
fn fault<'a, T>(message: impl std::fmt::Display) -> Result<T, Exn<'a, Val>> {
    Err(jaq_core::Error::str(message).into())
}

/// Passes a size of text that may be built.
fn fits<'a>(bytes: usize) -> Result<(), Exn<'a, Val>> {
    if bytes > EVALUATION_BYTES_MAX {
        return fault(format_args!(
            "a string of {bytes} bytes is larger than {EVALUATION_BYTES_MAX}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_borrowed_native_exists_in_jaq() {
        assert_eq!(natives().count(), OWN.len() + OF_JAQ.len());
    }
}
