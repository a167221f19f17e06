//! Raw number to quantity: factor, summand, decimals. Sans-IO.
//!
//! A scaled value is rounded to the decimals that raw value, scale and offset can produce, so that
//! 2301 x 0.1 is 230.1.

use adapter_api::Value;

/// `value = raw * scale + offset`, rounded to `decimals` where they are given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    /// Factor, applied first.
    pub scale: f64,
    /// Summand.
    pub offset: f64,
    /// Digits behind the point, 0 to 15.
    pub decimals: Option<u8>,
}

impl Default for Scale {
    fn default() -> Self {
        Self { scale: 1.0, offset: 0.0, decimals: None }
    }
}

impl Scale {
    /// Whether a raw number is the quantity already.
    pub(crate) fn is_plain(&self) -> bool {
        // Compared exactly: they come from a configuration, not from a computation.
        self.scale.total_cmp(&1.0).is_eq() && self.offset == 0.0
    }

    /// Of a whole number. Above 2^53 a scaled one loses digits, as every double does.
    #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
    pub(crate) fn signed(&self, raw: i64) -> Value {
        if self.is_plain() { Value::from(raw) } else { self.apply(raw as f64) }
    }

    /// The same without a sign.
    #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
    pub(crate) fn unsigned(&self, raw: u64) -> Value {
        if self.is_plain() { Value::from(raw) } else { self.apply(raw as f64) }
    }

    /// Of the shortest decimal of a 32-bit float.
    pub(crate) fn single(&self, raw: f32) -> Value {
        match Value::from_f32(raw) {
            Value::Float(raw) => self.double(raw.value()),
            none => none,
        }
    }

    /// Of a float.
    pub(crate) fn double(&self, raw: f64) -> Value {
        if !raw.is_finite() {
            return Value::None;
        }
        if self.is_plain() && self.decimals.is_none() { Value::from(raw) } else { self.apply(raw) }
    }

    fn apply(&self, raw: f64) -> Value {
        let value = raw * self.scale + self.offset;
        let exact = (decimals(raw) + decimals(self.scale)).max(decimals(self.offset));
        let digits = self.decimals.map_or(exact, |wanted| exact.min(usize::from(wanted)));
        // Rounded twice, or 2.675 as a double (2.67499...) would not become 2.68.
        Value::from(rounded(rounded(value, exact), digits))
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
    let shortest = value.to_string();
    let half = shortest
        .split_once('.')
        .is_some_and(|(_, fraction)| fraction.len() == digits + 1 && fraction.ends_with('5'));
    // `format!` looks at the double, people at the decimal they see: its half goes away from zero.
    let text = if half { away_from_zero(&shortest) } else { format!("{value:.digits$}") };
    // The sum turns -0 into 0.
    text.parse().map_or(value, |rounded: f64| rounded + 0.0)
}

/// A decimal that ends in 5, without this digit, the one before it raised.
fn away_from_zero(decimal: &str) -> String {
    let mut digits: Vec<u8> = decimal.bytes().collect();
    digits.pop();
    for digit in digits.iter_mut().rev().filter(|digit| digit.is_ascii_digit()) {
        if *digit == b'9' {
            *digit = b'0';
        } else {
            *digit += 1;
            return String::from_utf8(digits).unwrap_or_default();
        }
    }
    // All were nines.
    let text = String::from_utf8(digits).unwrap_or_default();
    match text.strip_prefix('-') {
        Some(rest) => format!("-1{rest}"),
        None => format!("1{text}"),
    }
}
