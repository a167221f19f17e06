//! An instant as platforms want it written. Sans-IO.

use serde::Deserialize;
use std::fmt;
use time::OffsetDateTime;

/// How the timestamp field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampFormat {
    /// Whole milliseconds since 1970.
    #[default]
    EpochMs,
    /// Microseconds since 1970.
    EpochUs,
    /// Whole seconds since 1970.
    EpochS,
    /// `2019-04-26T15:41:07.123456Z`: always UTC, always six digits of a second.
    Iso8601,
}

/// An instant, written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Number(i64),
    Text(String),
}

impl TimestampFormat {
    /// Writes `us`, microseconds since 1970. Rounds down, before 1970 as well.
    pub(super) fn write(self, us: i64) -> Written {
        match self {
            Self::EpochUs => Written::Number(us),
            Self::EpochMs => Written::Number(us.div_euclid(1_000)),
            Self::EpochS => Written::Number(us.div_euclid(1_000_000)),
            Self::Iso8601 => Written::Text(iso(us).to_string()),
        }
    }
}

/// The years 0 to 9999 are what four digits hold; what is outside is clamped.
fn iso(us: i64) -> Iso {
    const FIRST: i64 = -62_167_219_200_000_000;
    const LAST: i64 = 253_402_300_799_999_999;
    let nanos = i128::from(us.clamp(FIRST, LAST)).saturating_mul(1_000);
    Iso(OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

struct Iso(OffsetDateTime);

impl fmt::Display for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, (hour, minute, second, micro)) = (self.0.date(), self.0.to_hms_micro());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_platforms_read_them() {
        use TimestampFormat::{EpochMs, EpochS, EpochUs, Iso8601};
        let number = |n| Written::Number(n);
        let text = |t: &str| Written::Text(t.to_owned());
        for (us, format, written) in [
            (1_566_987_697_005_000, EpochMs, number(1_566_987_697_005)),
            (1_566_987_697_005_999, EpochMs, number(1_566_987_697_005)),
            (1_566_987_697_005_999, EpochS, number(1_566_987_697)),
            (1_566_987_697_005_999, EpochUs, number(1_566_987_697_005_999)),
            (-1, EpochMs, number(-1)),
            (-1, EpochS, number(-1)),
            (i64::MIN, EpochMs, number(-9_223_372_036_854_776)),
            (1_556_293_267_123_456, Iso8601, text("2019-04-26T15:41:07.123456Z")),
            (1_556_293_267_000_000, Iso8601, text("2019-04-26T15:41:07.000000Z")),
            (0, Iso8601, text("1970-01-01T00:00:00.000000Z")),
            (-1, Iso8601, text("1969-12-31T23:59:59.999999Z")),
            (i64::MAX, Iso8601, text("9999-12-31T23:59:59.999999Z")),
            (i64::MIN, Iso8601, text("0000-01-01T00:00:00.000000Z")),
        ] {
            assert_eq!(format.write(us), written, "{us} {format:?}");
        }
    }
}
