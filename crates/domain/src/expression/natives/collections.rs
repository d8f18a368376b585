//! Arrays and objects: sums, flattening, entries.

use jaq_core::{Exn, ValT as _};
use jaq_json::{Map, Val};

use super::{Cv, ValX, ValXs, argument, fault, fits, one, operators::type_name};
use crate::expression::meter::{Meter, width};

/// `add`: the sum of all items, null for none.
pub(super) fn sum((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(sum_of(ctx.data(), value))
}

fn sum_of<'a>(meter: &Meter<'a>, items: Val) -> ValX<'a> {
    meter.spend(width(&items))?;
    let mut text: Option<Vec<u8>> = None;
    let mut sum = Val::Null;
    for item in items.values() {
        let item = item?;
        meter.spend(width(&item))?;
        // Strings are collected in one buffer: one by one, each sum would be a copy of the sum before it.
        match (&mut text, &sum, item) {
            (None, Val::Null, Val::TStr(first)) => text = Some(first.to_vec()),
            (Some(text), _, Val::TStr(more)) => {
                fits(text.len() + more.len())?;
                text.extend_from_slice(&more);
            }
            (Some(_), _, Val::Null) => {}
            (Some(_), _, other) => {
                return fault(format_args!("cannot add {} to a string", type_name(&other)));
            }
            (None, _, item) => sum = (sum + item)?,
        }
    }
    Ok(text.map_or(sum, Val::utf8_str))
}

/// `flatten($depth)`
pub(super) fn flatten(mut cv: Cv<'_>) -> ValXs<'_> {
    let depth = match argument(&mut cv) {
        Val::Num(number) => number
            .as_isize()
            .and_then(|depth| usize::try_from(depth).ok()),
        _ => None,
    };
    let Some(depth) = depth else {
        return one(fault(
            "the depth of `flatten` must be a whole number, 0 or more",
        ));
    };
    if let Val::Obj(_) = cv.1 {
        return one(fault("`flatten` takes an array, not an object"));
    }
    let mut flat = Vec::new();
    one(flatten_into(cv.0.data(), cv.1, depth, &mut flat).map(|()| flat.into_iter().collect()))
}

fn flatten_into<'a>(
    meter: &Meter<'a>,
    items: Val,
    depth: usize,
    flat: &mut Vec<Val>,
) -> Result<(), Exn<'a, Val>> {
    meter.spend(width(&items))?;
    for item in items.values() {
        match (item?, depth.checked_sub(1)) {
            (nested @ Val::Arr(_), Some(depth)) => flatten_into(meter, nested, depth, flat)?,
            (item, _) => flat.push(item),
        }
    }
    Ok(())
}

/// `to_entries`: `[{"key": …, "value": …}, …]`.
pub(super) fn to_entries((ctx, value): Cv<'_>) -> ValXs<'_> {
    let entry = |key, value| {
        [(string("key"), key), (string("value"), value)]
            .into_iter()
            .collect()
    };
    one(match &value {
        // Each entry is an object of its own, so it costs as much as several items.
        Val::Obj(entries) => ctx.data().spend(width(&value) * 8).map(|()| {
            entries
                .iter()
                .map(|(key, value)| Val::obj(entry(key.clone(), value.clone())))
                .collect()
        }),
        other => fault(format_args!(
            "`to_entries` takes an object, not {}",
            type_name(other)
        )),
    })
}

/// `from_entries`: the key from `key`, `k` or `name`, the value from `value` or `v`.
pub(super) fn from_entries((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(object_of(ctx.data(), value))
}

fn object_of<'a>(meter: &Meter<'a>, entries: Val) -> ValX<'a> {
    meter.spend(width(&entries) * 4)?;
    let mut object = Map::default();
    for entry in entries.values() {
        let entry = entry?;
        let key = match first_of(&entry, &["key", "k", "name"])? {
            key @ Val::TStr(_) => key,
            scalar @ (Val::Null | Val::Bool(_) | Val::Num(_)) => Val::from(scalar.to_string()),
            other => {
                return fault(format_args!(
                    "the key of an entry must be a string, not {}",
                    type_name(&other)
                ));
            }
        };
        meter.spend(width(&key))?;
        object.insert(key, first_of(&entry, &["value", "v"])?);
    }
    Ok(Val::obj(object))
}

/// The first of these fields that is there and not null.
fn first_of<'a>(entry: &Val, names: &[&str]) -> ValX<'a> {
    for name in names {
        match entry.clone().index(&string(name))? {
            Val::Null => {}
            found => return Ok(found),
        }
    }
    Ok(Val::Null)
}

fn string(text: &str) -> Val {
    Val::from(text.to_owned())
}
