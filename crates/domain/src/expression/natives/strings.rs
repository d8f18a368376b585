//! Strings, JSON in strings, and the encodings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jaq_core::ValT as _;
use jaq_json::Val;

use super::{
    Cv, EVALUATION_BYTES_MAX, ValX, ValXs, argument, fault, fits, one, operators::type_name,
};
use crate::expression::{
    meter::{Meter, ticks_of_bytes, width},
    text::{self, NUMBER_BYTES_MAX, Printed},
};

/// `join($separator)`: null counts as an empty string, numbers and booleans as their text.
pub(super) fn join(mut cv: Cv<'_>) -> ValXs<'_> {
    let separator = argument(&mut cv);
    one(joined(cv.0.data(), cv.1, &separator))
}

fn joined<'a>(meter: &Meter<'a>, items: Val, separator: &Val) -> ValX<'a> {
    let Val::TStr(separator) = separator else {
        return fault(format_args!(
            "the separator of `join` must be a string, not {}",
            type_name(separator)
        ));
    };
    meter.spend(width(&items))?;
    let mut text: Vec<u8> = Vec::new();
    for (position, item) in items.values().enumerate() {
        let item = match item? {
            Val::Null => Val::from(String::new()),
            text @ Val::TStr(_) => text,
            scalar @ (Val::Num(_) | Val::Bool(_)) => json_of(meter, &scalar)?,
            other => {
                return fault(format_args!(
                    "`join` takes strings, not {}",
                    type_name(&other)
                ));
            }
        };
        if position > 0 {
            meter.spend(ticks_of_bytes(separator.len()))?;
            text.extend_from_slice(separator);
        }
        meter.spend(width(&item))?;
        if let Val::TStr(item) = item {
            text.extend_from_slice(&item);
        }
        fits(text.len())?;
    }
    Ok(Val::utf8_str(text))
}

/// `split($separator)`
pub(super) fn split(mut cv: Cv<'_>) -> ValXs<'_> {
    let separator = argument(&mut cv);
    one(match (&cv.1, &separator) {
        (Val::TStr(_), Val::TStr(_)) => parts(cv.0.data(), cv.1, separator),
        _ => fault("`split` takes a string and a separator that is a string"),
    })
}

/// The parts of a text between separators. There may be as many as it has bytes, so that is what is paid.
pub(super) fn parts<'a>(meter: &Meter<'a>, text: Val, separator: Val) -> ValX<'a> {
    if let Val::TStr(text) = &text {
        meter.spend(text.len() as u64)?;
    }
    Ok((text / separator)?)
}

/// `tostring`, and what an interpolation does.
pub(super) fn tostring((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(match value {
        text @ Val::TStr(_) => Ok(text),
        other => json_of(ctx.data(), &other),
    })
}

/// `tojson`
pub(super) fn tojson((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(json_of(ctx.data(), &value))
}

fn json_of<'a>(meter: &Meter<'a>, value: &Val) -> ValX<'a> {
    meter.weigh(value)?;
    let written = match text::measure(value, EVALUATION_BYTES_MAX) {
        Ok(_) => serde_json::to_vec(&Printed(value)),
        Err(excess) => return fault(excess),
    };
    written.map(Val::utf8_str).or_else(fault)
}

/// `fromjson`
pub(super) fn fromjson((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(parsed(ctx.data(), &value, text::read_unknown))
}

/// `tonumber`
pub(super) fn tonumber((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(match value {
        number @ Val::Num(_) => Ok(number),
        other => parsed(ctx.data(), &other, number),
    })
}

fn number(text: &str) -> Result<Val, String> {
    if text.len() > NUMBER_BYTES_MAX {
        return Err(format!("it is longer than {NUMBER_BYTES_MAX} bytes"));
    }
    match serde_json::from_str::<serde_json::Number>(text) {
        Ok(_) => text::read(text.trim()),
        Err(error) => Err(error.to_string()),
    }
}

fn parsed<'a>(meter: &Meter<'a>, value: &Val, read: fn(&str) -> Result<Val, String>) -> ValX<'a> {
    let Val::TStr(text) = value else {
        return fault(format_args!(
            "a string is needed to read, not {}",
            type_name(value)
        ));
    };
    // A short text such as `[[],[]]` makes a value several times its size.
    meter.spend(ticks_of_bytes(text.len()) * 2)?;
    let text = String::from_utf8_lossy(text);
    read(&text).or_else(|error| {
        fault(format_args!(
            "cannot read `{}`: {error}",
            text::shortened(&text, 40)
        ))
    })
}

/// `@base64`, behind `tostring`.
pub(super) fn base64((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(encoded(ctx.data(), &value, 2, |bytes| {
        Ok(STANDARD.encode(bytes))
    }))
}

/// `@base64d`, behind `tostring`; bytes that are no UTF-8 are replaced, as jq does.
pub(super) fn base64d((ctx, value): Cv<'_>) -> ValXs<'_> {
    one(encoded(ctx.data(), &value, 1, |text| {
        match STANDARD.decode(text) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => Err(format!("this is no base64: {error}")),
        }
    }))
}

/// `@uri`, behind `tostring`.
pub(super) fn uri((ctx, value): Cv<'_>) -> ValXs<'_> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    one(encoded(ctx.data(), &value, 3, |bytes| {
        let mut text = String::with_capacity(bytes.len());
        for byte in bytes {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
                text.push(char::from(*byte));
            } else {
                let digits =
                    [byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)]));
                text.extend(['%', digits[0], digits[1]]);
            }
        }
        Ok(text)
    }))
}

/// An encoding whose output is at most `growth` times as long as its input.
fn encoded<'a>(
    meter: &Meter<'a>,
    value: &Val,
    growth: usize,
    encode: fn(&[u8]) -> Result<String, String>,
) -> ValX<'a> {
    let Val::TStr(text) = value else {
        return fault(format_args!("a string is needed, not {}", type_name(value)));
    };
    fits(text.len() * growth)?;
    meter.spend(ticks_of_bytes(text.len() * growth))?;
    encode(text).map(Val::from).or_else(fault)
}
