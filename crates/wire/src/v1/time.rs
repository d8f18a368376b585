//! Times and durations as text: RFC 3339 in UTC with milliseconds, and `PT30S` or `30s`.

use std::{fmt, str::FromStr};

use eventflow_domain::{DurationMs, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A point in time: `2026-03-01T09:30:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, format = DateTime, example = "2026-03-01T09:30:00.000Z")]
pub struct Time(pub Timestamp);

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a time: write RFC 3339, as 2026-03-01T09:30:00Z")]
pub struct InvalidTime {
    given: String,
}

impl FromStr for Time {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        text.parse::<jiff::Timestamp>()
            .map(|time| Self(Timestamp(time.as_millisecond())))
            .map_err(|_| InvalidTime {
                given: excerpt(text),
            })
    }
}

impl TryFrom<String> for Time {
    type Error = InvalidTime;

    fn try_from(text: String) -> Result<Self, InvalidTime> {
        text.parse()
    }
}

impl fmt::Display for Time {
    /// A time beyond the years -9999 to 9999 is shown as the end of that range: there is no RFC 3339 for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.0.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        let time = jiff::Timestamp::from_millisecond(self.0.0).unwrap_or(end);
        write!(f, "{time:.3}")
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

/// A duration: ISO 8601 (`PT30S`, `P1DT12H`) or as people write it (`30s`, `2h 30m`). A day is 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, format = "duration", example = "PT30S")]
pub struct Span(pub DurationMs);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a duration: write ISO 8601 as PT30S, or 30s; days at most, not negative")]
pub struct InvalidSpan {
    given: String,
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let days = jiff::SpanRelativeTo::days_are_24_hours();
        text.parse::<jiff::Span>()
            .ok()
            .and_then(|span| span.to_duration(days).ok())
            .and_then(|duration| u64::try_from(duration.as_millis()).ok())
            .map(|ms| Self(DurationMs(ms)))
            .ok_or_else(|| InvalidSpan {
                given: excerpt(text),
            })
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;

    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0.0).unwrap_or(i64::MAX);
        jiff::SignedDuration::from_millis(ms).fmt(f)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl From<DurationMs> for Span {
    fn from(span: DurationMs) -> Self {
        Self(span)
    }
}

/// As much of a text as fits an error message.
fn excerpt(text: &str) -> String {
    const EXCERPT_CHARS_MAX: usize = 40;
    text.chars().take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_milliseconds_in_utc() {
        assert_eq!(
            Time(Timestamp(1_772_357_400_000)).to_string(),
            "2026-03-01T09:30:00.000Z"
        );
        assert_eq!(
            Time(Timestamp(1_772_357_400_007)).to_string(),
            "2026-03-01T09:30:00.007Z"
        );
    }

    #[test]
    fn a_time_in_another_zone_is_read() {
        let time: Time = "2026-03-01T10:30:00+01:00".parse().unwrap();
        assert_eq!(time, Time(Timestamp(1_772_357_400_000)));
    }

    #[test]
    fn a_time_out_of_range_is_shown_as_the_end_of_it() {
        assert!(
            Time(Timestamp(i64::MAX))
                .to_string()
                .starts_with("9999-12-30T")
        );
        assert!(
            Time(Timestamp(i64::MIN))
                .to_string()
                .starts_with("-009999-01-02T")
        );
    }

    #[test]
    fn durations_are_read_in_both_spellings() {
        for (text, ms) in [
            ("PT30S", 30_000),
            ("30s", 30_000),
            ("PT0.25S", 250),
            ("250ms", 250),
            ("2h 30m", 9_000_000),
            ("P1DT1H", 90_000_000),
            ("PT0S", 0),
        ] {
            assert_eq!(text.parse(), Ok(Span(DurationMs(ms))), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "30", "-PT30S", "P1M", "P1Y", "soon", "PT", "30 s s"] {
            let refusal = text.parse::<Span>().unwrap_err().to_string();
            assert!(refusal.contains("is not a duration"), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for ms in [0, 1, 999, 30_000, 3_600_000, 90_061_001] {
            let span = Span(DurationMs(ms));
            assert_eq!(span.to_string().parse(), Ok(span));
            let time = Time(Timestamp(i64::try_from(ms).unwrap()));
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
