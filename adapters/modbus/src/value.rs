//! From registers to readings: types, orders, parts of registers, sentinels, scale, names. Sans-IO.
//!
//! ```text
//! registers -> Order: bytes -> Kind: raw number -> part of it -> sentinel? -> name? or Scale -> Reading
//! ```
//! Integers stay integers unless they are scaled.

mod order;
mod scale;
#[cfg(test)]
mod tests;

pub(crate) use order::Order;
pub(crate) use scale::Scale;

use adapter_api::{Quality, Reading, Resource, Value};
use std::collections::BTreeMap;

/// What the registers of a value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A coil, a discrete input, or one bit of a register.
    Bool,
    /// A whole number of so many bits: 8, 16, 24, 32, 48 or 64.
    Whole {
        /// How many.
        bits: u8,
        /// In two's complement.
        signed: bool,
    },
    /// Decimal digits of four bits each: 4, 8 or 16 of them.
    Bcd {
        /// How many.
        digits: u8,
    },
    /// IEEE 754, two registers.
    Single,
    /// IEEE 754, four registers.
    Double,
    /// Characters.
    Text,
    /// Bytes as they are.
    Raw,
}

/// Which byte of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// The more significant one.
    High,
    /// The less significant one.
    Low,
}

/// Some neighbouring bits of a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// The lowest of them, 0 the least significant of the number.
    pub low: u8,
    /// How many, at least one.
    pub width: u8,
}

/// How a value is made out of its registers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Form {
    /// Its type.
    pub kind: Kind,
    /// Its order.
    pub order: Order,
    /// How many entries of its table it takes.
    pub length: u16,
    /// For 8 bits, and for texts of one character in each register.
    pub half: Option<Half>,
    /// For whole numbers; for [`Kind::Bool`] in a register, one bit of it.
    pub part: Option<Part>,
    /// Raw numbers by which the device says that there is no value.
    pub sentinels: Vec<Sentinel>,
    /// Names of raw numbers.
    pub names: BTreeMap<i64, String>,
    /// From raw number to quantity.
    pub scale: Scale,
}

/// A raw number that is none, as it was configured.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(untagged)]
pub enum Sentinel {
    /// For whole numbers: `0x7fff`, or the same with its sign.
    Whole(i64),
    /// For floats.
    Float(f64),
}

/// A raw number, before scale and names.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Raw {
    Signed(i64),
    Unsigned(u64),
    Single(f32),
    Double(f64),
}

impl Kind {
    /// All types and their names in the configuration.
    pub(crate) const NAMES: [(&'static str, Self); 20] = [
        ("bool", Self::Bool),
        ("u8", whole(8, false)),
        ("i8", whole(8, true)),
        ("u16", whole(16, false)),
        ("i16", whole(16, true)),
        ("u24", whole(24, false)),
        ("i24", whole(24, true)),
        ("u32", whole(32, false)),
        ("i32", whole(32, true)),
        ("u48", whole(48, false)),
        ("i48", whole(48, true)),
        ("u64", whole(64, false)),
        ("i64", whole(64, true)),
        ("bcd16", Self::Bcd { digits: 4 }),
        ("bcd32", Self::Bcd { digits: 8 }),
        ("bcd64", Self::Bcd { digits: 16 }),
        ("f32", Self::Single),
        ("f64", Self::Double),
        ("string", Self::Text),
        ("raw", Self::Raw),
    ];

    /// How many entries of its table it takes; `None` where the configuration has to say it.
    pub(crate) fn length(self) -> Option<u16> {
        match self {
            Self::Bool => Some(1),
            Self::Whole { bits, .. } => Some(u16::from(bits).div_ceil(16)),
            Self::Bcd { digits } => Some(u16::from(digits) / 4),
            Self::Single => Some(2),
            Self::Double => Some(4),
            Self::Text | Self::Raw => None,
        }
    }

    /// Whether scale, offset and sentinels make sense.
    pub(crate) fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::Text | Self::Raw)
    }
}

const fn whole(bits: u8, signed: bool) -> Kind {
    Kind::Whole { bits, signed }
}

impl Form {
    /// The reading of registers as they were received; `None` if there are too few of them.
    pub(crate) fn decode(&self, resource: Resource, words: &[u16]) -> Option<Reading> {
        let bytes = self.order.bytes(words.get(..usize::from(self.length))?);
        Some(match self.kind {
            Kind::Text => self.text(resource, &bytes),
            Kind::Raw => Reading::measured(resource, Value::Bytes(bytes)),
            Kind::Bool => Reading::measured(resource, self.bits(number(&bytes), 16) & 1 == 1),
            Kind::Whole { bits, signed } => {
                let of_word = if bits == 8 && self.half == Some(Half::High) { 8 } else { 0 };
                let whole = number(&bytes) >> of_word;
                let width = self.part.map_or(bits, |part| part.width);
                let whole = self.bits(whole, bits);
                let raw = if signed { Raw::Signed(with_sign(whole, width)) } else { Raw::Unsigned(whole) };
                self.reading(resource, raw)
            }
            Kind::Bcd { digits } => match from_bcd(number(&bytes), digits) {
                Some(raw) => self.reading(resource, Raw::Unsigned(raw)),
                None => Reading::bad(resource, format!("not decimal digits: 0x{}", hex(&bytes))),
            },
            Kind::Single => {
                let bits = u32::try_from(number(&bytes)).unwrap_or_default();
                self.reading(resource, Raw::Single(f32::from_bits(bits)))
            }
            Kind::Double => self.reading(resource, Raw::Double(f64::from_bits(number(&bytes)))),
        })
    }

    /// The part that is asked for of a number of so many bits.
    fn bits(&self, whole: u64, bits: u8) -> u64 {
        let Part { low, width } = self.part.unwrap_or(Part { low: 0, width: bits });
        whole.checked_shr(u32::from(low)).unwrap_or_default() & mask(width)
    }

    fn reading(&self, resource: Resource, raw: Raw) -> Reading {
        if self.sentinels.iter().any(|sentinel| self.is(raw, *sentinel)) {
            return Reading::bad(resource, format!("the device says it has no value ({raw})"));
        }
        if !self.names.is_empty() {
            return self.named(resource, raw);
        }
        Reading::measured(
            resource,
            match raw {
                Raw::Signed(raw) => self.scale.signed(raw),
                Raw::Unsigned(raw) => self.scale.unsigned(raw),
                Raw::Single(raw) => self.scale.single(raw),
                Raw::Double(raw) => self.scale.double(raw),
            },
        )
    }

    fn is(&self, raw: Raw, sentinel: Sentinel) -> bool {
        let width = match (self.part, self.kind) {
            (Some(part), _) => part.width,
            (None, Kind::Whole { bits, .. }) => bits,
            (None, _) => 64,
        };
        match (raw, sentinel) {
            // 0xffff and -1 are the same 16 bits.
            (Raw::Signed(raw), Sentinel::Whole(none)) => (raw ^ none).cast_unsigned() & mask(width) == 0,
            (Raw::Unsigned(raw), Sentinel::Whole(none)) => (raw ^ none.cast_unsigned()) & mask(width) == 0,
            (Raw::Single(raw), none) => {
                none.float().total_cmp(&f64::from(raw)).is_eq() || as_single(none, raw)
            }
            (Raw::Double(raw), none) => none.float().total_cmp(&raw).is_eq(),
            (Raw::Signed(_) | Raw::Unsigned(_), Sentinel::Float(_)) => false,
        }
    }

    fn named(&self, resource: Resource, raw: Raw) -> Reading {
        let whole = match raw {
            Raw::Signed(raw) => Some(raw),
            Raw::Unsigned(raw) => i64::try_from(raw).ok(),
            Raw::Single(_) | Raw::Double(_) => None,
        };
        match whole.and_then(|whole| self.names.get(&whole)) {
            Some(name) => Reading::measured(resource, name.as_str()),
            // Text as well, so that the resource does not change its type on the platform.
            None => Reading {
                resource,
                value: Value::Text(raw.to_string()),
                quality: Quality::Uncertain("a number without a name in `enum`".to_owned()),
            },
        }
    }

    /// Up to the first NUL, without the blanks a device pads with.
    fn text(&self, resource: Resource, bytes: &[u8]) -> Reading {
        let skip = usize::from(self.half == Some(Half::Low));
        let step = if self.half.is_some() { 2 } else { 1 };
        let bytes: Vec<u8> =
            bytes.iter().skip(skip).step_by(step).copied().take_while(|byte| *byte != 0).collect();
        match String::from_utf8(bytes) {
            Ok(text) => Reading::measured(resource, text.trim_end_matches(' ')),
            Err(error) => {
                let latin: String = error.as_bytes().iter().map(|byte| char::from(*byte)).collect();
                Reading {
                    resource,
                    value: Value::from(latin.trim_end_matches(' ')),
                    quality: Quality::Uncertain("not UTF-8, read as ISO 8859-1".to_owned()),
                }
            }
        }
    }
}

impl Sentinel {
    #[expect(clippy::cast_precision_loss, reason = "written as a whole number for a float")]
    fn float(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }
}

/// Whether a decimal like -999.9 is the single-precision number that is nearest to it.
#[expect(clippy::cast_possible_truncation, reason = "the nearest single is what is asked for")]
fn as_single(none: Sentinel, raw: f32) -> bool {
    (none.float() as f32).total_cmp(&raw).is_eq()
}

/// The last eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn mask(width: u8) -> u64 {
    u64::MAX.checked_shr(64_u32.saturating_sub(u32::from(width))).unwrap_or_default()
}

/// Two's complement of so many bits.
fn with_sign(whole: u64, width: u8) -> i64 {
    let unused = 64_u32.saturating_sub(u32::from(width)).min(63);
    (whole << unused).cast_signed() >> unused
}

fn from_bcd(number: u64, digits: u8) -> Option<u64> {
    (0..u32::from(digits)).rev().try_fold(0_u64, |value, at| {
        let digit = number >> (4 * at) & 0xf;
        (digit < 10).then(|| value * 10 + digit)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl std::fmt::Display for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signed(raw) => raw.fmt(f),
            Self::Unsigned(raw) => raw.fmt(f),
            Self::Single(raw) => raw.fmt(f),
            Self::Double(raw) => raw.fmt(f),
        }
    }
}
