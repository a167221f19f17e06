//! Quantities to registers: the way of `value` backwards. Sans-IO.

use crate::value::{Form, Half, Kind, Part};
use std::iter;

/// The registers of a quantity; as near as its type can come.
pub(super) fn words(form: &Form, quantity: f64) -> Vec<u16> {
    let raw = (quantity - form.scale.offset) / form.scale.scale;
    let bytes = match form.kind {
        Kind::Text => return text("TIDEGATE", form.length),
        Kind::Raw => return vec![0; usize::from(form.length)],
        Kind::Single => bytes(u64::from(single(raw).to_bits()), form.length),
        Kind::Double => bytes(raw.to_bits(), form.length),
        Kind::Bool => bytes(placed(form, u64::from(raw > 0.0), 1), form.length),
        Kind::Whole { bits, signed } => {
            bytes(placed(form, whole(form, raw, bits, signed), bits), form.length)
        }
        Kind::Bcd { digits } => {
            let number = whole(form, raw, 63, false);
            let digit = |n: u32| (number / 10_u64.saturating_pow(n) % 10) << (4 * n);
            bytes((0..u32::from(digits)).map(digit).sum(), form.length)
        }
    };
    // Each order undoes itself.
    pairs(&form.order.bytes(&pairs(&bytes)))
}

/// A text, filled up with NULs.
pub(super) fn text(text: &str, length: u16) -> Vec<u16> {
    let bytes: Vec<u8> = text.bytes().chain(iter::repeat(0)).take(2 * usize::from(length)).collect();
    pairs(&bytes)
}

#[expect(clippy::cast_possible_truncation, reason = "the nearest single is what is asked for")]
fn single(raw: f64) -> f32 {
    raw as f32
}

/// The nearest whole number of so many bits, in two's complement; of named ones, one that has a name.
#[expect(clippy::cast_possible_truncation, reason = "a cast of a float keeps within the type")]
fn whole(form: &Form, raw: f64, bits: u8, signed: bool) -> u64 {
    let width = u32::from(form.part.map_or(bits, |part| part.width));
    let unused = 64_u32.saturating_sub(width).min(63);
    let (least, most) = if signed {
        (i64::MIN >> unused, i64::MAX >> unused)
    } else {
        (0, i64::MAX >> unused.saturating_sub(1))
    };
    let nearest = form.names.keys().next().copied().unwrap_or(raw.round() as i64);
    nearest.clamp(least, most).cast_unsigned()
}

/// Where in its registers it lies.
fn placed(form: &Form, number: u64, bits: u8) -> u64 {
    let Part { low, width } = form.part.unwrap_or(Part { low: 0, width: bits });
    let mask = u64::MAX.checked_shr(64_u32.saturating_sub(u32::from(width))).unwrap_or_default();
    let half = if form.half == Some(Half::High) { 8 } else { 0 };
    (number & mask).checked_shl(u32::from(low) + half).unwrap_or_default()
}

/// The last bytes of a number, as many as so many registers have.
fn bytes(number: u64, length: u16) -> Vec<u8> {
    let all = number.to_be_bytes();
    let skip = all.len().saturating_sub(2 * usize::from(length));
    all.into_iter().skip(skip).collect()
}

fn pairs(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
}
