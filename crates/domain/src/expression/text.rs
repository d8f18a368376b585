//! JSON text to jaq's values and back, with a bound on depth, on numbers and on size.

use std::fmt::{self, Write as _};

use jaq_json::{Num, Val};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::value::RawValue;

/// How deep arrays and objects nest, in what an expression reads as in what it yields: below the 128 of `serde_json`,
/// so that what is written here can be read everywhere, and far below what a stack holds.
pub const VALUE_DEPTH_MAX: usize = 100;
/// The longest number. Bytes; every finite double fits, and arithmetic on big integers stays cheap.
pub const NUMBER_BYTES_MAX: usize = 320;

/// What goes beyond a bound, in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Depth,
    Number,
    Bytes(usize),
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth => write!(f, "a value nests deeper than {VALUE_DEPTH_MAX}"),
            Self::Number => write!(f, "a number is longer than {NUMBER_BYTES_MAX} bytes"),
            Self::Bytes(max) => write!(f, "a value is larger than {max} bytes"),
        }
    }
}

/// Reads text that is known to be JSON.
pub(super) fn read(json: &str) -> Result<Val, String> {
    check(json, 0).map_err(|excess| excess.to_string())?;
    jaq_json::read::parse_single(json.as_bytes()).map_err(|error| error.to_string())
}

/// Reads text that may be anything. jaq's own reader also takes comments, `NaN` and byte strings; JSON has none.
pub(super) fn read_unknown(text: &str) -> Result<Val, String> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
    read(raw.get())
}

/// Passes JSON text within the bounds of depth and of numbers, if it stands so many levels deep in another value. One
/// flat loop: the readers behind it recurse.
pub(super) fn check(json: &str, outer_depth: usize) -> Result<(), Excess> {
    let bytes = json.as_bytes();
    let (mut at, mut depth, mut digits) = (0, outer_depth, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        if depth > VALUE_DEPTH_MAX {
            return Err(Excess::Depth);
        }
        if digits > NUMBER_BYTES_MAX {
            return Err(Excess::Number);
        }
        at += 1;
    }
    Ok(())
}

/// The position of the quote that ends the string whose content starts at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// The bytes of a value as JSON. Stops at the bound, so it is cheap for a small value that shares its parts a
/// million times over.
pub(super) fn measure(value: &Val, bytes_max: usize) -> Result<usize, Excess> {
    let mut bytes = 0;
    add_size(value, 0, bytes_max, &mut bytes)?;
    Ok(bytes)
}

fn add_size(value: &Val, depth: usize, max: usize, bytes: &mut usize) -> Result<(), Excess> {
    *bytes += match value {
        Val::Null | Val::Bool(_) => 5,
        Val::Num(number) => number_len(number),
        Val::TStr(text) | Val::BStr(text) => {
            text.iter().map(|byte| escaped_len(*byte)).sum::<usize>() + 2
        }
        Val::Arr(items) => items.len() + 2,
        Val::Obj(entries) => 2 * entries.len() + 2,
    };
    if *bytes > max {
        return Err(Excess::Bytes(max));
    }
    match value {
        Val::Arr(_) | Val::Obj(_) if depth >= VALUE_DEPTH_MAX => Err(Excess::Depth),
        Val::Arr(items) => items
            .iter()
            .try_for_each(|item| add_size(item, depth + 1, max, bytes)),
        Val::Obj(entries) => entries.iter().try_for_each(|(key, value)| {
            add_size(key, depth + 1, max, bytes)?;
            add_size(value, depth + 1, max, bytes)
        }),
        Val::Null | Val::Bool(_) | Val::Num(_) | Val::TStr(_) | Val::BStr(_) => Ok(()),
    }
}

fn number_len(number: &Num) -> usize {
    match number {
        Num::Int(value) => value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 2,
        Num::BigInt(value) => usize::try_from(value.bits() / 3).unwrap_or(usize::MAX / 2) + 2,
        Num::Float(_) => 24,
        Num::Dec(digits) => digits.len(),
    }
}

fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// A value as JSON. What JSON has no word for is written as jq does: NaN as null, infinity as the largest double.
pub(super) struct Printed<'a>(pub(super) &'a Val);

impl Serialize for Printed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Val::Null => serializer.serialize_unit(),
            Val::Bool(value) => serializer.serialize_bool(*value),
            Val::Num(Num::Int(value)) => serializer.serialize_i64(*value as i64),
            Val::Num(Num::Float(value)) => serialize_double(*value, serializer),
            Val::Num(number @ (Num::BigInt(_) | Num::Dec(_))) => serialize_text(number, serializer),
            Val::TStr(text) | Val::BStr(text) => {
                serializer.serialize_str(&String::from_utf8_lossy(text))
            }
            Val::Arr(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items.iter() {
                    seq.serialize_element(&Printed(item))?;
                }
                seq.end()
            }
            Val::Obj(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries.iter() {
                    map.serialize_entry(&key_text(key), &Printed(value))?;
                }
                map.end()
            }
        }
    }
}

/// Integers beyond this are not all doubles, so a double beyond it is not written as one.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// A double that is a whole number is written without a fraction, as jq does: `10 / 4 * 2` is `5`.
pub(super) fn whole(value: f64) -> Option<isize> {
    // The cast is exact: it is of a whole number below 2^53.
    #[allow(clippy::cast_possible_truncation)]
    (value.fract() == 0.0 && value.abs() <= EXACT_INTEGER_MAX).then_some(value as isize)
}

fn serialize_double<S: Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
    match whole(value) {
        Some(integer) => serializer.serialize_i64(integer as i64),
        None if value.is_nan() => serializer.serialize_unit(),
        None => serializer.serialize_f64(value.clamp(f64::MIN, f64::MAX)),
    }
}

/// A number that keeps the digits it was given with, where a double can hold about as much.
fn serialize_text<S: Serializer>(number: &Num, serializer: S) -> Result<S::Ok, S::Error> {
    let text = number.to_string();
    let double: f64 = text.parse().unwrap_or(f64::NAN);
    match RawValue::from_string(text) {
        Ok(raw) if double.is_finite() => raw.serialize(serializer),
        Ok(_) | Err(_) => serialize_double(double, serializer),
    }
}

fn key_text(key: &Val) -> String {
    match key {
        Val::TStr(text) | Val::BStr(text) => String::from_utf8_lossy(text).into_owned(),
        other => shortened(other, NUMBER_BYTES_MAX),
    }
}

/// As much of a text as fits, for a message.
pub(super) fn shortened(value: &dyn fmt::Display, bytes_max: usize) -> String {
    let mut text = Shortened {
        text: String::new(),
        bytes_max,
    };
    if write!(text, "{value}").is_err() {
        text.text.push('…');
    }
    text.text
}

/// Fails where the bound is met, which ends the writing of a value of any size.
struct Shortened {
    text: String,
    bytes_max: usize,
}

impl fmt::Write for Shortened {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let left = self.bytes_max - self.text.len();
        if more.len() <= left {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(left)]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(json: &str) -> String {
        serde_json::to_string(&Printed(&read(json).unwrap())).unwrap()
    }

    #[test]
    fn numbers_keep_their_digits() {
        for number in [
            "0",
            "-7",
            "1.50",
            "9007199254740993",
            "123456789012345678901234567890",
            "1e3",
        ] {
            assert_eq!(round_trip(number), number);
        }
    }

    #[test]
    fn what_json_has_no_word_for_is_written_as_jq_does() {
        let printed = |double: f64| serde_json::to_string(&Printed(&Val::from(double))).unwrap();
        assert_eq!(printed(f64::NAN), "null");
        assert_eq!(printed(f64::INFINITY), "1.7976931348623157e+308");
        assert_eq!(printed(5.0), "5");
        assert_eq!(printed(0.5), "0.5");
        assert_eq!(round_trip("1e999"), "1.7976931348623157e+308");
        assert!(
            serde_json::from_str::<f64>("1.7976931348623157e+308")
                .unwrap()
                .is_finite()
        );
    }

    #[test]
    fn strings_and_keys_are_escaped() {
        let json = r#"{"a\"\n\u0001":"\\ü😀"}"#;
        assert_eq!(round_trip(json), json);
    }

    #[test]
    fn depth_and_numbers_are_bounded_in_what_is_read() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(VALUE_DEPTH_MAX), 0).unwrap();
        assert_eq!(check(&nested(VALUE_DEPTH_MAX), 1), Err(Excess::Depth));
        assert_eq!(check(&nested(1_000_000), 0), Err(Excess::Depth));
        assert_eq!(
            check(&"1".repeat(NUMBER_BYTES_MAX + 1), 0),
            Err(Excess::Number)
        );
        check(
            &format!("\"{}\\\"[[{}\"", "[".repeat(1000), "1".repeat(1000)),
            0,
        )
        .unwrap();
    }

    #[test]
    fn a_value_that_shares_its_parts_is_measured_up_to_the_bound_only() {
        let mut value = Val::Null;
        for _ in 0..60 {
            value = [value.clone(), value].into_iter().collect();
        }
        assert_eq!(measure(&value, 1000), Err(Excess::Bytes(1000)));
    }

    #[test]
    fn a_measure_is_about_the_size_of_the_text() {
        let json = r#"{"a":[1,2,3,true,null],"b":"\n text"}"#;
        let measured = measure(&read(json).unwrap(), 1000).unwrap();
        assert!(
            measured >= json.len() && measured < 2 * json.len(),
            "{measured}"
        );
    }

    #[test]
    fn unknown_text_must_be_json() {
        for text in ["NaN", "b\"x\"", "# c\n1", "+1", "1 2", "", "{1:2}"] {
            assert!(read_unknown(text).is_err(), "{text}");
        }
        assert_eq!(read_unknown(" [1] ").unwrap().to_string(), "[1]");
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        assert_eq!(shortened(&"äöü", 3), "ä…");
        assert_eq!(shortened(&"abc", 3), "abc");
    }
}
