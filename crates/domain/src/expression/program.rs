//! A compiled expression that is more than a plain read: jaq's program, and how it runs under a meter.

use std::{cell::Cell, sync::Arc};

use jaq_core::{
    Ctx, Exn, Vars,
    load::{
        Arena, Lexer, Parser,
        lex::StrPart,
        parse::{Def, Term},
    },
    path::{Opt, Part},
};
use jaq_json::{Map, Val};

use super::{
    Scope,
    admit::{Admission, Reads},
    definitions,
    meter::{self, EVALUATION_TICKS_MAX, MAIN, Meter, Tier1},
    natives::{self, EVALUATION_BYTES_MAX},
    path::{self, Path, Root, Segment, undefined},
    scan,
    text::{self, Printed},
};
use crate::value::Json;

/// How much of an error's text is kept. Bytes; it may quote the value it is about.
const ERROR_BYTES_MAX: usize = 512;

/// What a source compiles to.
pub(super) enum Compiled {
    Path(Path),
    Program(Box<Program>),
}

/// jaq's program with what it reads of a scope.
pub(super) struct Program {
    filter: jaq_core::Filter<Tier1>,
    /// The variables and the fields of each.
    variables: Vec<(Arc<str>, Fields)>,
    /// The fields of `.`.
    pub(super) roots: Fields,
}

/// The top-level fields that are read, none if all of the value may be.
type Fields = Option<Vec<Arc<str>>>;

/// Compiles a source over these variables, or says why it is refused.
pub(super) fn compile(source: &str, globals: &[&str]) -> Result<Compiled, String> {
    scan::check(source)?;
    let term = parse(source)?;
    let arena = Arena::default();
    let mut admission = Admission::of_expression(&arena, globals);
    let path = plain(&term);
    let admitted = admission.admit(term)?;
    if let Some(path) = path {
        return Ok(Compiled::Path(path));
    }
    let Admission {
        calls,
        variables,
        dot,
        ..
    } = admission;
    let names: Vec<String> = variables.keys().map(|name| format!("${name}")).collect();
    let main = Def {
        name: MAIN,
        args: vec![],
        body: admitted.term,
    };
    let definitions = definitions::needed(&calls).into_iter().chain([main]);
    let names = names.iter().map(String::as_str);
    let filter = meter::assemble(definitions, natives::natives(), names)?;
    if !meter::fits(&filter) {
        return Err("it has too many terms: split it over several tasks".into());
    }
    let variables = variables
        .iter()
        .map(|(name, reads)| (Arc::from(*name), fields(reads)));
    Ok(Compiled::Program(Box::new(Program {
        filter,
        variables: variables.collect(),
        roots: fields(&dot),
    })))
}

fn fields(reads: &Reads<'_>) -> Fields {
    match reads {
        Reads::All => None,
        Reads::Fields(fields) => Some(fields.iter().map(|field| Arc::from(*field)).collect()),
    }
}

fn parse(source: &str) -> Result<Term<&str>, String> {
    let at = |rest: &str| source.len() - rest.len();
    let tokens = Lexer::new(source)
        .lex()
        .map_err(|errors| match errors.first() {
            Some((expected, rest)) => {
                format!("at byte {} a {} is expected", at(rest), expected.as_str())
            }
            None => "it is not jq".into(),
        })?;
    Parser::new(&tokens)
        .parse(Parser::term)
        .map_err(|errors| match errors.first() {
            Some((expected, Some(found))) => {
                let start = jaq_core::load::span(source, found.as_str()).start;
                format!(
                    "at byte {start} {} is expected, not `{}`",
                    expected.as_str(),
                    found.as_str()
                )
            }
            Some((expected, None)) => format!("at its end {} is expected", expected.as_str()),
            None => "it is not jq".into(),
        })
}

/// The plain read that a term is, if it is one.
fn plain(term: &Term<&str>) -> Option<Path> {
    let root = |term: &Term<&str>| match term {
        Term::Id => Some(Root::Dot),
        Term::Var(name) => Some(Root::Variable(name[1..].into())),
        _ => None,
    };
    let Term::Path(of, path) = term else {
        return Some(Path {
            root: root(term)?,
            segments: vec![],
        });
    };
    let segments = path.0.iter().map(|part| match part {
        (Part::Index(index), Opt::Essential) => segment(index),
        _ => None,
    });
    Some(Path {
        root: root(of)?,
        segments: segments.collect::<Option<_>>()?,
    })
}

fn segment(index: &Term<&str>) -> Option<Segment> {
    match index {
        Term::Str(None, parts) => match parts.as_slice() {
            [] => Some(Segment::Key("".into())),
            [StrPart::Str(key)] => Some(Segment::Key((*key).into())),
            _ => None,
        },
        Term::Num(digits) => digits.parse().ok().map(Segment::Index),
        Term::Neg(of) => match &**of {
            Term::Num(digits) => digits
                .parse::<i64>()
                .ok()
                .map(|index| Segment::Index(-index)),
            _ => None,
        },
        _ => None,
    }
}

impl Program {
    /// The first output as JSON, null if there is none.
    pub(super) fn value(&self, scope: &dyn Scope) -> Result<Json, String> {
        let value = self.run(scope)?;
        text::measure(&value, EVALUATION_BYTES_MAX).map_err(|excess| excess.to_string())?;
        Ok(Json::of(&Printed(&value)))
    }

    /// Whether the first output is neither false nor null.
    pub(super) fn truth(&self, scope: &dyn Scope) -> Result<bool, String> {
        self.run(scope)
            .map(|value| !matches!(value, Val::Null | Val::Bool(false)))
    }

    fn run(&self, scope: &dyn Scope) -> Result<Val, String> {
        let left = Cell::new(EVALUATION_TICKS_MAX);
        let meter = Meter::new(&self.filter.lut, &left);
        let dot = self.dot(scope, &meter)?;
        let mut variables = Vec::with_capacity(self.variables.len());
        for (name, fields) in &self.variables {
            let value = scope.variable(name).ok_or_else(|| undefined(name))?;
            variables.push(match fields {
                Some(fields) if value.as_str().starts_with('{') => {
                    object(fields, &meter, |field| path::field(value.as_str(), field))?
                }
                Some(_) | None => read(value.as_str(), &meter)?,
            });
        }
        let ctx = Ctx::<Tier1>::new(meter, Vars::new(variables));
        match self.filter.id.run((ctx, dot)).next() {
            Some(Err(exception)) => Err(told(exception)),
            _ if left.get() == 0 => Err(out_of_ticks()),
            Some(Ok(value)) => Ok(value),
            None => Ok(Val::Null),
        }
    }

    fn dot(&self, scope: &dyn Scope, meter: &Meter<'_>) -> Result<Val, String> {
        match &self.roots {
            Some(fields) if fields.is_empty() => Ok(Val::Null),
            Some(fields) if scope.dot_is_object() => {
                object(fields, meter, |field| Ok(scope.field(field)))
            }
            Some(_) | None => read(scope.dot().as_str(), meter),
        }
    }
}

/// An object of these fields, as far as there are such.
fn object(
    fields: &[Arc<str>],
    meter: &Meter<'_>,
    find: impl Fn(&str) -> Result<Option<Json>, String>,
) -> Result<Val, String> {
    let mut object = Map::default();
    for field in fields {
        if let Some(json) = find(field)? {
            object.insert(Val::from(field.to_string()), read(json.as_str(), meter)?);
        }
    }
    Ok(Val::obj(object))
}

fn read(json: &str, meter: &Meter<'_>) -> Result<Val, String> {
    // A short text such as `[[],[]]` makes a value several times its size.
    let ticks = 2 * meter::ticks_of_bytes(json.len());
    meter.spend(ticks).map_err(|_| out_of_ticks())?;
    text::read(json)
}

fn out_of_ticks() -> String {
    format!("it takes more than {EVALUATION_TICKS_MAX} steps: let a task compute it")
}

fn told(exception: Exn<'_, Val>) -> String {
    let Ok(error) = exception.get_err() else {
        return out_of_ticks();
    };
    let told = text::shortened(&error, ERROR_BYTES_MAX);
    // `error("…")` shows its string as JSON.
    serde_json::from_str::<String>(&told).unwrap_or(told)
}
