//! From registers to values: types, orders of bytes, scale and offset. Sans-IO.
//!
//! Integers stay integers unless they are scaled. A scaled value is rounded to the decimals that
//! raw value, scale and offset can produce, so that 2301 x 0.1 is 230.1.

use adapter_api::{Finite, Value};

/// What the registers of a value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One register without a sign.
    U16,
    /// One register with a sign.
    I16,
    /// Two registers without a sign.
    U32,
    /// Two registers with a sign.
    I32,
    /// Two registers, IEEE 754.
    F32,
    /// A coil, a discrete input, or one bit of a register.
    Bool,
}

/// In which order the bytes of a value arrive; `A` is its most significant byte.
///
/// A value of one register has `AB` or, with [`Order::Badc`] and [`Order::Dcba`], `BA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    /// Big-endian, as the standard has it.
    #[default]
    Abcd,
    /// The registers are swapped.
    Cdab,
    /// The bytes inside each register are swapped.
    Badc,
    /// Little-endian.
    Dcba,
}

/// How a value is made out of its registers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Form {
    /// Its type.
    pub kind: Kind,
    /// Its order.
    pub order: Order,
    /// Which bit of the register, 0 the least significant; for [`Kind::Bool`] only.
    pub bit: u8,
    /// Factor, applied first.
    pub scale: f64,
    /// Summand.
    pub offset: f64,
}

impl Kind {
    /// All types and their names in the configuration.
    pub(crate) const NAMES: [(&'static str, Self); 6] = [
        ("u16", Self::U16),
        ("i16", Self::I16),
        ("u32", Self::U32),
        ("i32", Self::I32),
        ("f32", Self::F32),
        ("bool", Self::Bool),
    ];

    /// How many entries of its table it takes.
    pub(crate) fn length(self) -> u16 {
        match self {
            Self::U16 | Self::I16 | Self::Bool => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
        }
    }
}

impl Order {
    /// All orders and their names in the configuration.
    pub(crate) const NAMES: [(&'static str, Self); 4] =
        [("ABCD", Self::Abcd), ("CDAB", Self::Cdab), ("BADC", Self::Badc), ("DCBA", Self::Dcba)];

    fn one(self, word: u16) -> u16 {
        match self {
            Self::Abcd | Self::Cdab => word,
            Self::Badc | Self::Dcba => word.swap_bytes(),
        }
    }

    fn two(self, first: u16, second: u16) -> [u8; 4] {
        let ([a, b], [c, d]) = match self {
            Self::Abcd | Self::Badc => (self.one(first).to_be_bytes(), self.one(second).to_be_bytes()),
            Self::Cdab | Self::Dcba => (self.one(second).to_be_bytes(), self.one(first).to_be_bytes()),
        };
        [a, b, c, d]
    }
}

impl Form {
    /// The value of registers as they were received; `None` if there are too few of them.
    pub(crate) fn decode(&self, words: &[u16]) -> Option<Value> {
        let first = *words.first()?;
        if self.kind.length() == 1 {
            let word = self.order.one(first);
            return Some(match self.kind {
                Kind::I16 => self.integer(i64::from(word.cast_signed())),
                Kind::Bool => Value::Bool(word.checked_shr(u32::from(self.bit)).is_some_and(|w| w & 1 == 1)),
                _ => self.integer(i64::from(word)),
            });
        }
        let bytes = self.order.two(first, *words.get(1)?);
        Some(match self.kind {
            Kind::I32 => self.integer(i64::from(i32::from_be_bytes(bytes))),
            Kind::F32 => self.float(f32::from_be_bytes(bytes)),
            _ => self.integer(i64::from(u32::from_be_bytes(bytes))),
        })
    }

    fn is_plain(&self) -> bool {
        // Compared exactly: they come from a configuration, not from a computation.
        self.scale.total_cmp(&1.0).is_eq() && (self.offset == 0.0)
    }

    fn integer(&self, raw: i64) -> Value {
        if self.is_plain() {
            return Value::from(raw);
        }
        // At most 32 bits are ever passed, so the way over i32 or u32 is exact.
        let float = i32::try_from(raw).map(f64::from).or_else(|_| u32::try_from(raw).map(f64::from));
        float.map_or(Value::None, |raw| self.scaled(raw))
    }

    fn float(&self, raw: f32) -> Value {
        match Value::from_f32(raw) {
            Value::Float(raw) if !self.is_plain() => self.scaled(Finite::value(raw)),
            plain => plain,
        }
    }

    fn scaled(&self, raw: f64) -> Value {
        let value = raw * self.scale + self.offset;
        let digits = (decimals(raw) + decimals(self.scale)).max(decimals(self.offset));
        Value::from(rounded(value, digits))
    }
}

/// Digits behind the point of the shortest decimal.
fn decimals(value: f64) -> usize {
    value.to_string().split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

/// The `f64` nearest to the decimal that the exact computation gives. The error of one product and
/// one sum is far below half a unit of the last digit as long as the digits fit a double.
fn rounded(value: f64, digits: usize) -> f64 {
    // More digits than a double holds say nothing: 1/3 as a scale is no decimal fraction.
    if digits > 15 || !value.is_finite() {
        return value;
    }
    // The sum turns -0 into 0.
    format!("{value:.digits$}").parse().map_or(value, |rounded: f64| rounded + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(kind: Kind, order: Order) -> Form {
        Form { kind, order, bit: 0, scale: 1.0, offset: 0.0 }
    }

    /// The registers a device with this order sends.
    fn sent(order: Order, [a, b, c, d]: [u8; 4]) -> [u16; 2] {
        let [p, q, r, s] = match order {
            Order::Abcd => [a, b, c, d],
            Order::Cdab => [c, d, a, b],
            Order::Badc => [b, a, d, c],
            Order::Dcba => [d, c, b, a],
        };
        [u16::from_be_bytes([p, q]), u16::from_be_bytes([r, s])]
    }

    #[test]
    fn the_four_orders_are_those_of_the_reference() {
        for (order, words) in [
            (Order::Abcd, [0x42F6, 0xE979]),
            (Order::Cdab, [0xE979, 0x42F6]),
            (Order::Badc, [0xF642, 0x79E9]),
            (Order::Dcba, [0x79E9, 0xF642]),
        ] {
            assert_eq!(form(Kind::F32, order).decode(&words), Some(Value::from(123.456)), "{order:?}");
        }
        for (order, words) in [
            (Order::Abcd, [0x4996, 0x02D2]),
            (Order::Cdab, [0x02D2, 0x4996]),
            (Order::Badc, [0x9649, 0xD202]),
            (Order::Dcba, [0xD202, 0x9649]),
        ] {
            for kind in [Kind::U32, Kind::I32] {
                assert_eq!(form(kind, order).decode(&words), Some(Value::Int(1_234_567_890)), "{order:?}");
            }
        }
    }

    #[test]
    fn signs_and_bits_are_kept() {
        for (kind, words, value) in [
            (Kind::U16, vec![0xFFFF], Value::Int(65_535)),
            (Kind::I16, vec![0xFFFF], Value::Int(-1)),
            (Kind::I16, vec![0x8000], Value::Int(-32_768)),
            (Kind::U32, vec![0xFFFF, 0xFFFF], Value::Int(4_294_967_295)),
            (Kind::I32, vec![0xFFFF, 0xFFFF], Value::Int(-1)),
            (Kind::F32, vec![0x7FC0, 0], Value::None),
            (Kind::F32, vec![0x7F80, 0], Value::None),
        ] {
            assert_eq!(form(kind, Order::Abcd).decode(&words), Some(value), "{kind:?} {words:x?}");
        }
        for bit in 0..16 {
            let form = Form { bit, ..form(Kind::Bool, Order::Abcd) };
            assert_eq!(form.decode(&[1 << bit]), Some(Value::Bool(true)));
            assert_eq!(form.decode(&[!(1 << bit)]), Some(Value::Bool(false)));
        }
        assert_eq!(form(Kind::U16, Order::Dcba).decode(&[0x1234]), Some(Value::Int(0x3412)));
        assert_eq!(form(Kind::U32, Order::Abcd).decode(&[1]), None);
        assert_eq!(form(Kind::U16, Order::Abcd).decode(&[]), None);
    }

    #[test]
    fn a_scaled_value_is_the_decimal_one_expects() {
        for (raw, scale, offset, value) in [
            (2_301, 0.1, 0.0, 230.1),
            (3, 0.1, 0.0, 0.3),
            (3, 0.1, -0.3, 0.0),
            (1_999, 0.01, -20.0, -0.01),
            (7, 1.0, 0.5, 7.5),
            (7, 2.0, 0.0, 14.0),
            (0, -1.0, 0.0, 0.0),
            (65_535, 1e-7, 0.0, 0.006_553_5),
            (9, 1.0 / 3.0, 0.0, 3.0),
        ] {
            let form = Form { scale, offset, ..form(Kind::U16, Order::Abcd) };
            let decoded = form.decode(&[raw]);
            assert_eq!(decoded, Some(Value::from(value)), "{raw} * {scale} + {offset}");
            let Some(Value::Float(float)) = decoded else { panic!("a scaled value is a float") };
            assert!(float.value() != 0.0 || float.value().is_sign_positive(), "no negative zero");
        }
        let form = Form { scale: 0.1, ..form(Kind::F32, Order::Abcd) };
        let [a, b, c, d] = 230.1_f32.to_be_bytes();
        let words = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        assert_eq!(form.decode(&words), Some(Value::from(23.01)));
    }

    fn orders() -> impl Strategy<Value = Order> {
        proptest::sample::select(Order::NAMES.map(|(_, order)| order).to_vec())
    }

    proptest! {
        #[test]
        fn whatever_a_device_sends_arrives(raw: u32, order in orders()) {
            let words = sent(order, raw.to_be_bytes());
            prop_assert_eq!(form(Kind::U32, order).decode(&words), Some(Value::Int(i64::from(raw))));
            let signed = i64::from(raw.cast_signed());
            prop_assert_eq!(form(Kind::I32, order).decode(&words), Some(Value::Int(signed)));
            prop_assert_eq!(form(Kind::F32, order).decode(&words), Some(Value::from_f32(f32::from_bits(raw))));
        }

        #[test]
        fn a_decimal_scale_gives_the_nearest_decimal(raw: i16, digits in 0_usize..7) {
            let scale: f64 = format!("1e-{digits}").parse().unwrap();
            let exact: f64 = format!("{raw}e-{digits}").parse().unwrap();
            let form = Form { scale, offset: 0.5 - 0.5, ..form(Kind::I16, Order::Abcd) };
            let expected = if digits == 0 { Value::Int(i64::from(raw)) } else { Value::from(exact) };
            prop_assert_eq!(form.decode(&[raw.cast_unsigned()]), Some(expected));
        }
    }
}
