//! `find`: which registers could be what a display shows, as which type, in which order, with which
//! factor. Sans-IO.
//!
//! Everything that fits is a candidate, made by the same code that reads values; they are ranked by
//! how well they fit and by how usual they are. A second value shown later narrows them down.

use crate::{
    plan::Want,
    point::{Point, Table},
    value::{Form, Half, Kind, Order, Scale},
};
use adapter_api::{Resource, Value};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Powers of ten that are tried.
const TENS: std::ops::RangeInclusive<i32> = -4..=4;

/// What a display shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    value: f64,
    /// Of its last digit.
    unit: f64,
}

/// Registers of a device at about one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image(BTreeMap<(Table, u16), u16>);

/// A way to read what was shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    want: Want,
    kind: (&'static str, Kind),
    order: (&'static str, Order),
    half: Option<Half>,
    tens: i32,
    /// What it reads, scaled.
    pub value: f64,
    /// The display would show just this when it rounds; otherwise it has to cut digits off.
    pub exact: bool,
    /// Higher is less usual.
    pub oddity: u32,
}

/// Not a number as a display shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number: write what the display shows, as in 231.4 or -5")]
pub struct NotShown;

impl FromStr for Shown {
    type Err = NotShown;

    fn from_str(text: &str) -> Result<Self, NotShown> {
        let text = text.trim().replace(',', ".");
        let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) || digits.len() > 24 {
            return Err(NotShown);
        }
        let decimals = i32::try_from(fraction.len()).map_err(|_| NotShown)?;
        let value = text.parse().map_err(|_| NotShown)?;
        Ok(Self { value, unit: power(-decimals) })
    }
}

impl Shown {
    /// How well a value fits: `Some(true)` rounded, `Some(false)` only with digits cut off.
    fn fits(self, value: f64, kind: Kind) -> Option<bool> {
        let off = (value - self.value).abs();
        // What its type cannot tell apart.
        let digits = if kind == Kind::Single { 1e-7 } else { 1e-9 };
        let blur = self.value.abs() * digits + self.unit * 1e-6;
        if off <= self.unit / 2.0 + blur {
            Some(true)
        } else {
            (off < self.unit - blur && value.abs() > self.value.abs()).then_some(false)
        }
    }
}

impl Image {
    /// Takes a row of an answer to [`super::Question::Sweep`]; false if it is none.
    pub fn take(&mut self, row: &serde_json::Value) -> bool {
        let table = row.get("table").and_then(|t| t.as_str()).and_then(Table::named);
        let start = row.get("start").and_then(serde_json::Value::as_u64).and_then(|s| u16::try_from(s).ok());
        let values = row.get("values").and_then(|values| values.as_array());
        let (Some(table), Some(start), Some(values)) = (table, start, values) else { return false };
        for (address, value) in (start..=u16::MAX).zip(values) {
            let Some(value) = value.as_u64().and_then(|value| u16::try_from(value).ok()) else {
                return false;
            };
            self.0.insert((table, address), value);
        }
        true
    }

    /// How many registers it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn words(&self, want: Want) -> Option<Vec<u16>> {
        let end = u32::from(want.start) + u32::from(want.length);
        let addresses = (want.start..=u16::MAX).take(want.length.into());
        let words: Vec<u16> =
            addresses.map_while(|address| self.0.get(&(want.table, address)).copied()).collect();
        (end <= 65_536 && words.len() == usize::from(want.length)).then_some(words)
    }
}

/// All that fits, the best first.
pub fn candidates(image: &Image, shown: Shown) -> Vec<Candidate> {
    let mut found = Vec::new();
    let forms = forms();
    for &(table, start) in image.0.keys().filter(|(table, _)| !table.is_bits()) {
        for (kind, order, half, form) in &forms {
            let want = Want { table, start, length: form.length };
            let Some(raw) = image.words(want).and_then(|words| raw(form, &words)) else { continue };
            for tens in TENS {
                // Nothing remains nothing, whatever it is multiplied by.
                if tens != 0 && raw == 0.0 {
                    continue;
                }
                let value = scaled(raw, tens);
                let Some(exact) = shown.fits(value, kind.1) else { continue };
                let oddity = oddity(kind.1, order.1, tens, raw, exact);
                found.push(Candidate {
                    want,
                    kind: *kind,
                    order: *order,
                    half: *half,
                    tens,
                    value,
                    exact,
                    oddity,
                });
            }
        }
    }
    found.sort_by_key(|one: &Candidate| (one.oddity, one.want));
    found
}

impl Candidate {
    /// The same in a later image, if it fits what is shown then.
    pub fn still(&self, image: &Image, shown: Shown) -> Option<Self> {
        let form = form(self.kind.1, self.order.1, self.half);
        let value = scaled(raw(&form, &image.words(self.want)?)?, self.tens);
        let exact = shown.fits(value, self.kind.1)?;
        Some(Self { value, exact, ..self.clone() })
    }

    /// Its registers as a range, to be read again.
    pub fn range(&self) -> String {
        let Want { table, start, length } = self.want;
        format!("{}..{}", Point { table, address: start }, start.saturating_add(length - 1))
    }

    /// The keys of a resource that reads it.
    pub fn keys(&self) -> BTreeMap<&'static str, serde_json::Value> {
        let Want { table, start, .. } = self.want;
        let mut keys = BTreeMap::new();
        keys.insert("register", Point { table, address: start }.to_string().into());
        keys.insert("type", self.kind.0.into());
        if self.order.1 != Order::default() {
            keys.insert("order", self.order.0.into());
        }
        if self.half == Some(Half::High) {
            keys.insert("byte", "high".into());
        }
        if self.tens != 0 {
            keys.insert("scale", power(self.tens).into());
        }
        keys
    }
}

/// As it is written in a configuration.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys();
        let shown = ["register", "type", "order", "byte", "scale"]
            .iter()
            .filter_map(|key| keys.get(key).map(|value| format!("{key} = {value}")));
        write!(f, "{{ {} }}", shown.collect::<Vec<_>>().join(", "))
    }
}

type Named<T> = (&'static str, T);

/// A type, an order and a byte that go together, and how values are made by them.
type Way = (Named<Kind>, Named<Order>, Option<Half>, Form);

/// All ways to read numbers.
fn forms() -> Vec<Way> {
    // The bytes of a single register have two orders, a single byte has none.
    const OF_BYTES: [Named<Order>; 1] = [("AB", Order::Abcd)];
    const OF_WORDS: [Named<Order>; 2] = [("AB", Order::Abcd), ("BA", Order::Badc)];
    let mut forms = Vec::new();
    for kind in Kind::NAMES.into_iter().filter(|(_, kind)| kind.is_number()) {
        let byte = matches!(kind.1, Kind::Whole { bits: 8, .. });
        let halves = if byte { &[Some(Half::High), Some(Half::Low)][..] } else { &[None] };
        let orders = match kind.1.length() {
            _ if byte => &OF_BYTES[..],
            Some(1) => &OF_WORDS,
            _ => &Order::NAMES,
        };
        for order in orders {
            for half in halves {
                forms.push((kind, *order, *half, form(kind.1, order.1, *half)));
            }
        }
    }
    forms
}

fn form(kind: Kind, order: Order, half: Option<Half>) -> Form {
    Form {
        kind,
        order,
        length: kind.length().unwrap_or(1),
        half,
        part: None,
        sentinels: Vec::new(),
        names: BTreeMap::new(),
        scale: Scale::default(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the nearest double is compared with what a display shows")]
fn raw(form: &Form, words: &[u16]) -> Option<f64> {
    let reading = form.decode(Resource::new("found").ok()?, words)?;
    match reading.value {
        Value::Int(value) => Some(value as f64),
        Value::Uint(value) => Some(value.value() as f64),
        Value::Float(value) => Some(value.value()),
        _ => None,
    }
}

/// A negative power divides: 2314 / 10 is nearer to 231.4 than 2314 * 0.1.
fn scaled(raw: f64, tens: i32) -> f64 {
    if tens < 0 { raw / power(-tens) } else { raw * power(tens) }
}

fn power(tens: i32) -> f64 {
    if tens < 0 { 1.0 / 10_f64.powi(-tens) } else { 10_f64.powi(tens) }
}

/// How unusual it is that a device gives a value so.
fn oddity(kind: Kind, order: Order, tens: i32, raw: f64, exact: bool) -> u32 {
    let float = matches!(kind, Kind::Single | Kind::Double);
    let of_kind = match kind {
        Kind::Single => 0,
        Kind::Whole { bits: 16, signed } => u32::from(signed),
        Kind::Whole { bits: 32, signed } => 2 + u32::from(signed),
        Kind::Double => 3,
        Kind::Whole { bits: 64, signed } => 6 + u32::from(signed),
        Kind::Bcd { .. } => 7,
        _ => 9,
    };
    // A sign that is used is no oddity.
    let of_kind = if raw < 0.0 { of_kind.saturating_sub(1) } else { of_kind };
    let of_order = match order {
        Order::Abcd => 0,
        Order::Cdab => 2,
        Order::Dcba => 5,
        Order::Badc => 6,
    };
    let steps = tens.unsigned_abs();
    let of_scale = match tens {
        0 => 0,
        _ if float => 4 + 2 * steps,
        1.. => 3 + 3 * steps,
        _ => 1 + steps,
    };
    of_kind + of_order + of_scale + if exact { 0 } else { 8 }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
