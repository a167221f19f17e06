//! Durations as people write them in a configuration: `"200ms"`, `"5s"`, `"10m"`, `"1h"`, `"7d"`.
//!
//! Not here: whether zero, or a very long one, makes sense for a key. That is its owner's check.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// A duration of the configuration. Zero is allowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(Duration);

/// Not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// Not a whole number followed by a unit.
    #[error("not a duration: write a whole number and a unit, as in {FORMS}")]
    Form,
    /// More milliseconds than 64 bits hold.
    #[error("this duration is too long")]
    TooLong,
}

const FORMS: &str = r#""200ms", "5s", "10m", "1h" or "7d""#;
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Span {
    /// Of so many milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Of so many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Whether it is `"0s"`.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or(SpanError::Form)?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(SpanError::Form)?;
        if number.is_empty() {
            return Err(SpanError::Form);
        }
        // Only digits are left, so what does not parse is too long.
        let number: u64 = number.parse().map_err(|_| SpanError::TooLong)?;
        number.checked_mul(*factor).map(Self::from_millis).ok_or(SpanError::TooLong)
    }
}

/// In the largest unit that needs no fraction.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms == 0 {
            return f.write_str("0s");
        }
        let fits = UNITS.iter().rev().find(|(_, factor)| ms.is_multiple_of(u128::from(*factor)));
        let (unit, factor) = fits.copied().unwrap_or(("ms", 1));
        write!(f, "{}{unit}", ms / u128::from(factor))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

struct Text;

impl de::Visitor<'_> for Text {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a duration such as {FORMS}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_people_write_them() {
        for (text, ms, back) in [
            ("200ms", 200, "200ms"),
            ("5s", 5_000, "5s"),
            ("10m", 600_000, "10m"),
            ("1h", 3_600_000, "1h"),
            ("7d", 604_800_000, "7d"),
            ("90s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("0s", 0, "0s"),
            ("0ms", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span, span.to_string().as_str()), (Span::from_millis(ms), back), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "5 s", "-1s", "1.5s", "5S", "5sec", "1h30m", "٥s", "5µs"] {
            assert_eq!(text.parse::<Span>(), Err(SpanError::Form), "{text}");
        }
        for text in ["99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(text.parse::<Span>(), Err(SpanError::TooLong), "{text}");
        }
    }
}
