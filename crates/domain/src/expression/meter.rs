//! The meter: what an evaluation may still spend, and what happens when that is nothing.
//!
//! jaq asks for its table of terms before each step, through [`HasLut`]: that is where a step is counted. When the
//! meter is empty the table it gets is another one, [`EXHAUSTED`], in which every term and every native stops the
//! evaluation. So nothing that jaq does goes on for longer than the loops that are already open.

use std::{cell::Cell, sync::LazyLock};

use jaq_core::{
    Compiler, DataT, Exn, Lut, Native,
    box_iter::box_once,
    data::HasLut,
    load::{
        Arena, File, Loader,
        parse::{BinaryOp, Def, Term},
    },
    native::Fun,
};
use jaq_json::Val;

use super::natives::natives;

/// What one evaluation may spend. A tick is a step of jaq (about 50 ns) or 16 bytes, or one item, that a native
/// touches. All of them together take some 30 ms: as long as one evaluation may hold a partition's writer.
pub const EVALUATION_TICKS_MAX: u64 = 500_000;
/// How many bytes of a string, or of JSON text, are a tick.
const BYTES_PER_TICK: usize = 16;
/// How many terms a program may have. A source of 4 KiB has at most some 4,000, the definitions it calls some hundreds.
const TERMS_MAX_LOG2: u32 = 13;
/// The code with which an evaluation stops: unlike an error, `?` does not catch it.
const OUT_OF_TICKS: i32 = 1;

/// What jaq runs on: values of jaq-json and a meter.
pub(super) struct Tier1;

impl DataT for Tier1 {
    type V<'a> = Val;
    type Data<'a> = Meter<'a>;
}

/// What an evaluation may still spend, beside the terms it runs.
#[derive(Clone)]
pub(super) struct Meter<'a> {
    lut: &'a Lut<Tier1>,
    left: &'a Cell<u64>,
}

impl<'a> HasLut<'a, Tier1> for Meter<'a> {
    fn lut(&self) -> &'a Lut<Tier1> {
        match self.left.get() {
            0 => &EXHAUSTED.lut,
            left => {
                self.left.set(left - 1);
                self.lut
            }
        }
    }
}

impl<'a> Meter<'a> {
    pub(super) fn new(lut: &'a Lut<Tier1>, left: &'a Cell<u64>) -> Self {
        Self { lut, left }
    }

    /// Pays, or stops the evaluation.
    pub(super) fn spend(&self, ticks: u64) -> Result<(), Exn<'a, Val>> {
        let left = self.left.get().checked_sub(ticks);
        self.left.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or_else(|| Exn::halt(OUT_OF_TICKS))
    }

    /// Pays for everything in a value, shared parts as often as they occur, and says how much that was.
    pub(super) fn weigh(&self, value: &Val) -> Result<u64, Exn<'a, Val>> {
        let own = width(value);
        self.spend(own)?;
        match value {
            Val::Arr(items) => items
                .iter()
                .try_fold(own, |sum, item| Ok(sum + self.weigh(item)?)),
            Val::Obj(entries) => entries.iter().try_fold(own, |sum, (key, item)| {
                Ok(sum + width(key) + self.weigh(item)?)
            }),
            Val::Null | Val::Bool(_) | Val::Num(_) | Val::TStr(_) | Val::BStr(_) => Ok(own),
        }
    }
}

/// The ticks for a value itself, without what it contains.
pub(super) fn width(value: &Val) -> u64 {
    match value {
        Val::Null | Val::Bool(_) | Val::Num(_) => 1,
        Val::TStr(text) | Val::BStr(text) => ticks_of_bytes(text.len()),
        Val::Arr(items) => 1 + items.len() as u64,
        Val::Obj(entries) => 1 + entries.len() as u64,
    }
}

pub(super) fn ticks_of_bytes(bytes: usize) -> u64 {
    1 + (bytes / BYTES_PER_TICK) as u64
}

/// A program of 2^13 terms, each of which stops the evaluation. It must have at least as many terms as any other
/// program, because jaq looks up the terms of that one in it; [`fits`] is asked for each.
static EXHAUSTED: LazyLock<jaq_core::Filter<Tier1>> = LazyLock::new(|| {
    let stops = || Native::new(|_| box_once(Err(Exn::halt(OUT_OF_TICKS))));
    let natives = natives().map(|_| ("stop", Box::default(), stops()));
    let main = Def {
        name: MAIN,
        args: vec![],
        body: stop_everywhere(TERMS_MAX_LOG2),
    };
    assemble([main], natives, []).expect("a program of calls to one native compiles")
});

/// `stop | stop | …`: a pipe runs its left side first, so each of these terms comes to a `stop`.
fn stop_everywhere(log2: u32) -> Term<&'static str> {
    match log2.checked_sub(1) {
        None => Term::Call("stop", vec![]),
        Some(half) => Term::BinOp(
            Box::new(stop_everywhere(half)),
            BinaryOp::Pipe(None),
            Box::new(stop_everywhere(half)),
        ),
    }
}

/// Whether [`EXHAUSTED`] covers this program. The entry of both is the last term, a call of [`MAIN`].
pub(super) fn fits(program: &jaq_core::Filter<Tier1>) -> bool {
    program.id <= EXHAUSTED.id
}

/// The definition that [`assemble`] runs.
pub(super) const MAIN: &str = "_main";

/// Compiles definitions, of which the last one is [`MAIN`], and natives to a program.
pub(super) fn assemble<'s>(
    definitions: impl IntoIterator<Item = Def<&'s str>>,
    natives: impl IntoIterator<Item = Fun<Tier1>>,
    variables: impl IntoIterator<Item = &'s str>,
) -> Result<jaq_core::Filter<Tier1>, String> {
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(
            &arena,
            File {
                code: MAIN,
                path: (),
            },
        )
        .map_err(|_| "jaq does not load it".to_string())?;
    Compiler::default()
        .with_funs(
            natives
                .into_iter()
                .map(|(name, arguments, run)| -> (&'s str, _, _) { (name, arguments, run) }),
        )
        .with_global_vars(variables)
        .compile(modules)
        .map_err(
            |errors| match errors.first().and_then(|(_, errors)| errors.first()) {
                Some((name, what)) => format!("jaq knows no {} `{name}`", what.as_str()),
                None => "jaq does not compile it".to_string(),
            },
        )
}
