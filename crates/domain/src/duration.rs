//! Spans of time as people spell them: ISO 8601 (`PT1M30S`), an object (`{minutes: 1}`) and, outside of the standard's
//! own properties, the short form (`90s`).

use crate::time::DurationMs;

/// The longest span, so that sums of times stay far from an overflow: ten years.
pub const DURATION_MAX: DurationMs = DurationMs::from_secs(3_650 * 24 * 60 * 60);

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The properties of a span written as an object, and how long each is in milliseconds.
pub const OBJECT: [(&str, u64); 5] = [
    ("days", DAY),
    ("hours", HOUR),
    ("minutes", MINUTE),
    ("seconds", SECOND),
    ("milliseconds", 1),
];

/// Which spellings a property allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// ISO 8601 or an object, as the standard has it.
    Standard,
    /// Also `30s`, in what is ours (INTERFACES, introduction).
    Short,
}

/// Reads a duration from text: ISO 8601 without years and months, which have no fixed length, or `500ms`, `30s`, `5m`,
/// `2h`, `1d` where that is allowed.
pub fn parse(text: &str, spelling: Spelling) -> Result<DurationMs, String> {
    let milliseconds = match (text.strip_prefix('P'), spelling) {
        (Some(rest), _) => iso(rest)?,
        (None, Spelling::Short) => short(text),
        (None, Spelling::Standard) => None,
    };
    match milliseconds {
        Some(milliseconds) if milliseconds <= DURATION_MAX.0 => Ok(DurationMs(milliseconds)),
        Some(_) => Err("is longer than ten years".to_owned()),
        None if spelling == Spelling::Short => Err(
            "is not a duration: write ISO 8601 (`PT30S`, `PT5M`, `P1D`) or `30s`, `5m`, `1d`"
                .to_owned(),
        ),
        None => Err(
            "is not a duration: write ISO 8601 (`PT30S`, `PT5M`, `P1D`) or `{seconds: 30}`"
                .to_owned(),
        ),
    }
}

/// Reads a duration that an expression has computed: ISO 8601, or an object of numbers.
pub fn of_value(value: &serde_json::Value) -> Result<DurationMs, String> {
    match value {
        serde_json::Value::String(text) => parse(text, Spelling::Standard),
        serde_json::Value::Object(fields) if !fields.is_empty() => {
            let mut total = 0_u64;
            for (name, count) in fields {
                let unit = OBJECT.iter().find(|(known, _)| known == name);
                let part = unit.zip(count.as_u64());
                let part = part.and_then(|((_, unit), count)| count.checked_mul(*unit));
                total = part
                    .and_then(|part| total.checked_add(part))
                    .filter(|total| *total <= DURATION_MAX.0)
                    .ok_or_else(|| {
                        format!("has `{name}: {count}`, which is no part of a duration")
                    })?;
            }
            Ok(DurationMs(total))
        }
        _ => Err(format!(
            "is {value}: write ISO 8601 (`PT30S`) or `{{seconds: 30}}`"
        )),
    }
}

/// What follows the `P`. An error is a reason of its own, `None` a text that is no duration.
fn iso(text: &str) -> Result<Option<u64>, String> {
    let (date, time) = text
        .split_once('T')
        .map_or((text, None), |(date, time)| (date, Some(time)));
    if date.contains(['Y', 'M']) {
        return Err("years and months have no fixed length: write days (`P30D`)".to_owned());
    }
    if time == Some("") || (date.is_empty() && time.is_none()) {
        return Ok(None);
    }
    let date = parts(date, &[('W', 7 * DAY), ('D', DAY)]);
    let time = parts(
        time.unwrap_or_default(),
        &[('H', HOUR), ('M', MINUTE), ('S', SECOND)],
    );
    Ok(date
        .zip(time)
        .and_then(|(date, time)| date.checked_add(time)))
}

/// Numbers with these units, in this order, each at most once.
fn parts(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut total = 0_u64;
    for (unit, length) in units {
        if let Some((number, rest)) = text.split_once(*unit) {
            total = total.checked_add(times(number, *length)?)?;
            text = rest;
        }
    }
    text.is_empty().then_some(total)
}

fn short(text: &str) -> Option<u64> {
    let (number, unit) =
        text.split_at(text.find(|character: char| character.is_ascii_alphabetic())?);
    let length = match unit {
        "ms" => 1,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    times(number, length)
}

/// A decimal number times a length, to the millisecond below.
fn times(number: &str, length: u64) -> Option<u64> {
    let (whole, fraction) = number
        .split_once('.')
        .map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !fraction.is_none_or(digits) {
        return None;
    }
    let (mut rest, mut part) = (0_u64, length);
    for digit in fraction.unwrap_or_default().bytes() {
        part /= 10;
        rest += u64::from(digit - b'0') * part;
    }
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(length)?
        .checked_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_8601_is_read() {
        for (text, milliseconds) in [
            ("PT30S", 30_000),
            ("PT0.5S", 500),
            ("PT1M30S", 90_000),
            ("PT1H", 3_600_000),
            ("P1D", 86_400_000),
            ("P1W", 604_800_000),
            ("P1DT12H", 129_600_000),
            ("PT0S", 0),
        ] {
            assert_eq!(
                parse(text, Spelling::Standard),
                Ok(DurationMs(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "P",
            "PT",
            "P1",
            "PT1",
            "1",
            "PT-1S",
            "P1H",
            "PT1S1M",
            "PT1.S",
            "PT.5S",
            "-PT1S",
            "30s",
            "P9999999D",
        ] {
            assert!(parse(text, Spelling::Standard).is_err(), "{text}");
        }
        assert!(
            parse("P1M", Spelling::Standard)
                .unwrap_err()
                .contains("months")
        );
        assert!(parse("PT99999999999999999999S", Spelling::Short).is_err());
    }

    #[test]
    fn the_short_form_is_read_where_it_is_allowed() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("1d", DAY),
        ] {
            assert_eq!(
                parse(text, Spelling::Short),
                Ok(DurationMs(milliseconds)),
                "{text}"
            );
        }
        for text in ["s", "1y", "1 s", "1S", "é5s"] {
            assert!(parse(text, Spelling::Short).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "P?[0-9YMWDTHS.smhd-]{0,12}|\\PC{0,8}") {
            let _: Result<_, _> = parse(&text, Spelling::Short);
        }
    }
}
