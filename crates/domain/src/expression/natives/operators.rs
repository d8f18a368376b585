//! Paths, arithmetic, comparisons and what every value has: a type, a length, a truth.

use jaq_core::{Error, Exn, ValR, ValT as _};
use jaq_json::{Num, Val};

use super::{Cv, ValX, ValXs, argument, arguments, fault, fits, one};
use crate::expression::{
    meter::{Meter, ticks_of_bytes, width},
    text::{self, NUMBER_BYTES_MAX},
};

/// Bits of the largest integer: about the 308 digits that a double can stand for.
const INTEGER_BITS_MAX: u64 = 1_023;

/// `.[]`
pub(super) fn each((ctx, value): Cv<'_>) -> ValXs<'_> {
    match ctx.data().spend(width(&value)) {
        Ok(()) => Box::new(value.values().map(|item| Ok(item?))),
        Err(exception) => one(Err(exception)),
    }
}

/// `.[]?`
pub(super) fn each_opt(cv: Cv<'_>) -> ValXs<'_> {
    match cv.1 {
        Val::Arr(_) | Val::Obj(_) => each(cv),
        Val::Null | Val::Bool(_) | Val::Num(_) | Val::TStr(_) | Val::BStr(_) => {
            Box::new(std::iter::empty())
        }
    }
}

/// `a[k]`
pub(super) fn index(mut cv: Cv<'_>) -> ValXs<'_> {
    let (of, key) = arguments(&mut cv);
    one(indexed(cv.0.data(), of, &key))
}

/// `a[k]?`
pub(super) fn index_opt(mut cv: Cv<'_>) -> ValXs<'_> {
    let (of, key) = arguments(&mut cv);
    optional(indexed(cv.0.data(), of, &key))
}

fn indexed<'a>(meter: &Meter<'a>, of: Val, key: &Val) -> ValX<'a> {
    match (&of, key) {
        (Val::Arr(_), Val::Arr(_)) => pay_product(meter, &of, key)?,
        (Val::Obj(_), key) if !matches!(key, Val::TStr(_)) => {
            return fault(format_args!(
                "cannot index an object with {}",
                type_name(key)
            ));
        }
        (_, Val::Obj(_)) => meter.spend(width(&of))?,
        _ => meter.spend(width(key))?,
    }
    Ok(of.index(key)?)
}

/// `a[from:upto]`
pub(super) fn slice(mut cv: Cv<'_>) -> ValXs<'_> {
    one(sliced(&mut cv))
}

/// `a[from:upto]?`
pub(super) fn slice_opt(mut cv: Cv<'_>) -> ValXs<'_> {
    optional(sliced(&mut cv))
}

fn sliced<'a>(cv: &mut Cv<'a>) -> ValX<'a> {
    let (from, upto) = arguments(cv);
    let of = argument(cv);
    cv.0.data().spend(width(&of))?;
    match of {
        Val::Null => Ok(Val::Null),
        of => Ok(of.range(Some(&from)..Some(&upto))?),
    }
}

/// An error becomes no output; an empty meter does not.
fn optional(result: ValX<'_>) -> ValXs<'_> {
    match result.map_err(Exn::get_err) {
        Ok(value) => one(Ok(value)),
        Err(Ok(_error)) => Box::new(std::iter::empty()),
        Err(Err(exception)) => one(Err(exception)),
    }
}

/// `try f` and `(f)?`. jaq's own would write the error as text, whatever the size of the value in it.
pub(super) fn try_(mut cv: Cv<'_>) -> ValXs<'_> {
    let (filter, ctx) = cv.0.pop_fun();
    let mut outputs = filter.run((ctx, cv.1));
    let mut ended = false;
    Box::new(std::iter::from_fn(move || {
        let output = if ended { None } else { outputs.next() }?;
        ended = output.is_err();
        match output.map_err(Exn::get_err) {
            Ok(value) => Some(Ok(value)),
            Err(Ok(_error)) => None,
            Err(Err(exception)) => Some(Err(exception)),
        }
    }))
}

/// `a + b`
pub(super) fn add(mut cv: Cv<'_>) -> ValXs<'_> {
    let (left, right) = arguments(&mut cv);
    one(sum_of(cv.0.data(), left, right))
}

fn sum_of<'a>(meter: &Meter<'a>, left: Val, right: Val) -> ValX<'a> {
    meter.spend(width(&left) + width(&right))?;
    if let (Val::TStr(left), Val::TStr(right)) = (&left, &right) {
        fits(left.len() + right.len())?;
    }
    Ok((left + right)?)
}

/// `a - b`
pub(super) fn sub(mut cv: Cv<'_>) -> ValXs<'_> {
    let (left, right) = arguments(&mut cv);
    // The items of one are searched in the other by comparison, some 16 times each at a quarter of a tick.
    let paid = if let (Val::Arr(_), Val::Arr(_)) = (&left, &right) {
        pay_comparison(cv.0.data(), &left, &right, 4)
    } else {
        Ok(())
    };
    one(paid.and_then(|()| Ok((left - right)?)))
}

/// `a * b`
pub(super) fn mul(mut cv: Cv<'_>) -> ValXs<'_> {
    let (left, right) = arguments(&mut cv);
    one(product_of(cv.0.data(), left, right))
}

fn product_of<'a>(meter: &Meter<'a>, left: Val, right: Val) -> ValX<'a> {
    match (&left, &right) {
        (Val::TStr(text), Val::Num(Num::Int(times)))
        | (Val::Num(Num::Int(times)), Val::TStr(text)) => {
            let bytes = text
                .len()
                .saturating_mul(usize::try_from(*times).unwrap_or(0));
            fits(bytes)?;
            meter.spend(ticks_of_bytes(bytes))?;
        }
        (Val::TStr(_), _) | (_, Val::TStr(_)) => {
            return fault("a string is repeated a small whole number of times only");
        }
        (Val::Num(left), Val::Num(right)) if bits(left) + bits(right) > INTEGER_BITS_MAX => {
            return fault(format_args!(
                "an integer is longer than {NUMBER_BYTES_MAX} digits"
            ));
        }
        (Val::Obj(_), Val::Obj(_)) => pay_comparison(meter, &left, &right, 1)?,
        _ => {}
    }
    Ok((left * right)?)
}

/// The bits of an integer that does not fit a machine word.
fn bits(number: &Num) -> u64 {
    match number {
        Num::BigInt(integer) => integer.bits(),
        Num::Int(_) | Num::Float(_) | Num::Dec(_) => 0,
    }
}

/// `a / b`
pub(super) fn div(mut cv: Cv<'_>) -> ValXs<'_> {
    let (left, right) = arguments(&mut cv);
    if let (Val::TStr(_), Val::TStr(_)) = (&left, &right) {
        return one(super::strings::parts(cv.0.data(), left, right));
    }
    one(not_by_zero(&right).and_then(|()| Ok(simplified((left / right)?))))
}

/// `a % b`
pub(super) fn rem(mut cv: Cv<'_>) -> ValXs<'_> {
    let (left, right) = arguments(&mut cv);
    one(not_by_zero(&right).and_then(|()| Ok(simplified((left % right)?))))
}

/// jq faults here too; jaq would go on with infinity, which JSON cannot say.
fn not_by_zero<'a>(divisor: &Val) -> Result<(), Exn<'a, Val>> {
    match divisor {
        Val::Num(number) if *number == Num::Int(0) => fault("cannot divide by zero"),
        _ => Ok(()),
    }
}

/// `10 / 5` is the integer 2: it prints as one and can be an index.
fn simplified(value: Val) -> Val {
    match value {
        Val::Num(Num::Float(double)) => text::whole(double).map_or(value, Val::from),
        _ => value,
    }
}

macro_rules! comparisons {
    ($($name:ident $operator:tt),*) => {$(
        #[doc = concat!("`a ", stringify!($operator), " b`")]
        pub(super) fn $name(mut cv: Cv<'_>) -> ValXs<'_> {
            let (left, right) = arguments(&mut cv);
            let paid = pay_comparison(cv.0.data(), &left, &right, 2);
            one(paid.map(|()| Val::Bool(left $operator right)))
        }
    )*};
}

comparisons!(eq ==, ne !=, lt <, le <=, gt >, ge >=);

/// Pays for comparing two values so many times: two containers are compared part by part, all else at its start.
fn pay_comparison<'a>(
    meter: &Meter<'a>,
    left: &Val,
    right: &Val,
    times: u64,
) -> Result<(), Exn<'a, Val>> {
    let both = match (left, right) {
        (Val::Arr(_), Val::Arr(_)) | (Val::Obj(_), Val::Obj(_)) => {
            meter.weigh(left)? + meter.weigh(right)?
        }
        (left, right) => width(left).min(width(right)),
    };
    meter.spend(both.saturating_mul(times - 1))
}

/// Pays for searching one value in another: each part with each part, if both have parts.
fn pay_product<'a>(meter: &Meter<'a>, left: &Val, right: &Val) -> Result<(), Exn<'a, Val>> {
    let product = meter.weigh(left)?.saturating_mul(meter.weigh(right)?);
    meter.spend(product)
}

/// `{(k): v}`
pub(super) fn pair(mut cv: Cv<'_>) -> ValXs<'_> {
    let (key, value) = arguments(&mut cv);
    one(match key {
        Val::TStr(_) => {
            cv.0.data()
                .spend(width(&key))
                .and_then(|()| Ok(Val::from_map([(key, value)])?))
        }
        _ => fault(format_args!(
            "the key of an object must be a string, not {}",
            type_name(&key)
        )),
    })
}

/// `error`
pub(super) fn error((_, value): Cv<'_>) -> ValXs<'_> {
    one(Err(Error::new(value).into()))
}

/// `not`
pub(super) fn not((_, value): Cv<'_>) -> ValXs<'_> {
    one(Ok(Val::Bool(!value.as_bool())))
}

/// `type`
pub(super) fn type_((_, value): Cv<'_>) -> ValXs<'_> {
    one(Ok(type_name(&value).to_owned().into()))
}

pub(super) fn type_name(value: &Val) -> &'static str {
    match value {
        Val::Null => "null",
        Val::Bool(_) => "boolean",
        Val::Num(_) => "number",
        Val::TStr(_) | Val::BStr(_) => "string",
        Val::Arr(_) => "array",
        Val::Obj(_) => "object",
    }
}

/// `length`: characters, items, the absolute value of a number, 0 for null.
pub(super) fn length((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(ctx
        .data()
        .spend(width(&value))
        .and_then(|()| Ok(length_of(value)?)))
}

fn length_of(value: Val) -> ValR<Val> {
    match value {
        Val::Null => Ok(Val::from(0_usize)),
        Val::Bool(_) => Err(Error::str("a boolean has no length")),
        Val::Num(number) if number < Num::Int(0) => -Val::Num(number),
        Val::Num(number) => Ok(Val::Num(number)),
        Val::TStr(text) | Val::BStr(text) => {
            Ok(Val::from(String::from_utf8_lossy(&text).chars().count()))
        }
        Val::Arr(items) => Ok(Val::from(items.len())),
        Val::Obj(entries) => Ok(Val::from(entries.len())),
    }
}

/// `has($key)`
pub(super) fn has(mut cv: Cv<'_>) -> ValXs<'_> {
    let key = argument(&mut cv);
    one(cv
        .0
        .data()
        .spend(width(&key))
        .and_then(|()| match (&cv.1, &key) {
            (Val::Obj(entries), Val::TStr(_)) => Ok(Val::Bool(entries.contains_key(&key))),
            (Val::Arr(items), Val::Num(Num::Int(index))) => {
                let is_in = usize::try_from(*index).is_ok_and(|index| index < items.len());
                Ok(Val::Bool(is_in))
            }
            (of, key) => fault(format_args!(
                "cannot check whether {} has a key that is {}",
                type_name(of),
                type_name(key)
            )),
        }))
}

/// Pays for the width of `.` and yields it.
pub(super) fn touch((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(ctx.data().spend(width(&value)).map(|()| value))
}

/// Pays for the width of `.` and of the argument and yields `.`.
pub(super) fn touch_both(mut cv: Cv<'_>) -> ValXs<'_> {
    let other = argument(&mut cv);
    one(cv
        .0
        .data()
        .spend(width(&cv.1) + width(&other))
        .map(|()| cv.1))
}

/// Pays so many times for everything in `.` and yields it.
pub(super) fn weigh(mut cv: Cv<'_>) -> ValXs<'_> {
    let times = match argument(&mut cv) {
        Val::Num(number) => number
            .as_isize()
            .and_then(|times| u64::try_from(times).ok()),
        _ => None,
    };
    let meter = cv.0.data();
    let paid = meter
        .weigh(&cv.1)
        .and_then(|once| meter.spend(once.saturating_mul(times.unwrap_or(1) - 1)));
    one(paid.map(|()| cv.1))
}

/// Pays for searching the argument in `.` and yields `.`.
pub(super) fn weigh_product(mut cv: Cv<'_>) -> ValXs<'_> {
    let part = argument(&mut cv);
    one(pay_product(cv.0.data(), &cv.1, &part).map(|()| cv.1))
}
