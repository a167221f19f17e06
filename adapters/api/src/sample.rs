//! What a device says: values with quality, samples with stamps. Sans-IO.
//!
//! Constructors keep the rules (floats finite, `Uint` only above `i64::MAX`, depth at most 8), so
//! that nobody behind them has to check again.

use crate::Resource;
use std::collections::BTreeMap;

/// A value as the row format knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Nothing known: with a quality that says why.
    #[default]
    None,
    /// A truth value.
    Bool(bool),
    /// Any whole number that fits 64 bits with a sign.
    Int(i64),
    /// A whole number above `i64::MAX`.
    Uint(AboveI64),
    /// A finite number.
    Float(Finite),
    /// Text.
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list, in order.
    List(Vec<Value>),
    /// Members by name.
    Map(BTreeMap<String, Value>),
}

/// A finite `f64`; NaN and infinities cannot be held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finite(f64);

/// A `u64` above `i64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AboveI64(u64);

/// How far a value can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Quality {
    /// As measured.
    #[default]
    Good,
    /// Measured, with a doubt.
    Uncertain(String),
    /// Not measured, or not usable.
    Bad(String),
}

/// A resource's value with its quality.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which quantity.
    pub resource: Resource,
    /// Its value.
    pub value: Value,
    /// How far to trust it.
    pub quality: Quality,
}

/// The readings of one device at one instant: the unit of commit, batch and order.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Stamp,
    /// What, in the adapter's order.
    pub readings: Vec<Reading>,
}

/// Who stamped a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This gateway, when it took the sample.
    Gateway,
    /// The device itself.
    Device,
}

/// The instant of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Wall time in µs since 1970.
    Wall {
        /// Microseconds since 1970-01-01T00:00:00Z.
        us: i64,
        /// Whose clock.
        source: Source,
    },
    /// Time since a boot whose wall time was not known (`CLOCK_BOOTTIME`).
    Mono {
        /// Which boot: its number in the store.
        boot: i64,
        /// Microseconds since that boot.
        us: i64,
    },
}

impl Finite {
    /// `None` for NaN and infinities.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }
    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl AboveI64 {
    /// `None` for what fits an `i64`.
    pub fn new(value: u64) -> Option<Self> {
        i64::try_from(value).is_err().then_some(Self(value))
    }
    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl Value {
    /// Lists and maps nest at most this deep.
    pub const MAX_DEPTH: usize = 8;

    /// The nearest `f64` to the shortest decimal of a 32-bit float: 230.1, not 230.10000610351562.
    pub fn from_f32(value: f32) -> Self {
        if !value.is_finite() {
            return Self::None;
        }
        value.to_string().parse::<f64>().map_or(Self::None, Self::from)
    }

    /// Levels of nesting: 1 for a scalar.
    pub fn depth(&self) -> usize {
        // Walks with its own stack: the depth of a hostile value is not bounded by ours.
        let (mut deepest, mut open) = (0, vec![(self, 1_usize)]);
        while let Some((value, depth)) = open.pop() {
            deepest = deepest.max(depth);
            match value {
                Self::List(items) => open.extend(items.iter().map(|v| (v, depth + 1))),
                Self::Map(members) => open.extend(members.values().map(|v| (v, depth + 1))),
                _ => {}
            }
        }
        deepest
    }

    /// About how many bytes it takes in a row.
    fn weight(&self) -> usize {
        match self {
            Self::None | Self::Bool(_) => 1,
            Self::Int(_) | Self::Uint(_) | Self::Float(_) => 9,
            Self::Text(text) => 5 + text.len(),
            Self::Bytes(bytes) => 5 + bytes.len(),
            Self::List(items) => 5 + items.iter().map(Self::weight).sum::<usize>(),
            Self::Map(members) => 5 + members.iter().map(|(k, v)| 5 + k.len() + v.weight()).sum::<usize>(),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        match i64::try_from(value) {
            Ok(value) => Self::Int(value),
            Err(_) => Self::Uint(AboveI64(value)),
        }
    }
}
/// NaN and infinities become `None`; [`Reading::measured`] marks such a reading `Bad`.
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Finite::new(value).map_or(Self::None, Self::Float)
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl Reading {
    /// A measured value: `Good`, or `Bad` where there is no value (NaN, infinity, too deep).
    pub fn measured(resource: Resource, value: impl Into<Value>) -> Self {
        let value = value.into();
        if value == Value::None {
            return Self::bad(resource, "not a finite number");
        }
        if value.depth() > Value::MAX_DEPTH {
            return Self::bad(resource, "nested too deeply");
        }
        Self { resource, value, quality: Quality::Good }
    }

    /// A value that could not be had, and why.
    pub fn bad(resource: Resource, why: impl Into<String>) -> Self {
        Self { resource, value: Value::None, quality: Quality::Bad(why.into()) }
    }

    /// Its part of the weight of a sample.
    pub fn weight(&self) -> usize {
        let why = match &self.quality {
            Quality::Good => 0,
            Quality::Uncertain(why) | Quality::Bad(why) => why.len(),
        };
        5 + self.resource.as_str().len() + self.value.weight() + why
    }
}

impl Sample {
    /// About how many bytes its row takes: what the limits of the intake are measured in.
    pub fn weight(&self) -> usize {
        16 + self.readings.iter().map(Reading::weight).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> Resource {
        Resource::new("r").unwrap()
    }

    #[test]
    fn integers_are_normalised() {
        assert_eq!(Value::from(7_u64), Value::Int(7));
        assert_eq!(Value::from(i64::MAX as u64), Value::Int(i64::MAX));
        assert!(matches!(Value::from(u64::MAX), Value::Uint(v) if v.value() == u64::MAX));
        assert!(AboveI64::new(5).is_none());
    }

    #[test]
    fn a_number_that_is_none_is_bad() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let reading = Reading::measured(resource(), value);
            assert_eq!(reading.value, Value::None);
            assert!(matches!(reading.quality, Quality::Bad(_)));
        }
        assert_eq!(Value::from_f32(f32::NAN), Value::None);
    }

    #[test]
    fn a_32_bit_float_keeps_its_shortest_decimal() {
        for (raw, decimal) in
            [(230.1_f32, 230.1_f64), (0.1, 0.1), (-1.5, -1.5), (1.0e-7, 1.0e-7), (3.4e38, 3.4e38)]
        {
            assert_eq!(Value::from_f32(raw), Value::from(decimal));
        }
    }

    #[test]
    fn depth_is_counted_and_limited() {
        let mut value = Value::Int(1);
        for _ in 1..Value::MAX_DEPTH {
            value = Value::List(vec![value]);
        }
        assert_eq!(Reading::measured(resource(), value.clone()).quality, Quality::Good);
        assert!(matches!(Reading::measured(resource(), Value::List(vec![value])).quality, Quality::Bad(_)));
    }
}
