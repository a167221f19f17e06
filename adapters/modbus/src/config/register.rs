//! One resource of a device: its keys, and which of them go together.

use super::Findings;
use crate::{
    plan::Want,
    point::{Point, PointError, Table},
    value::{Form, Half, Kind, Order, Part, Scale, Sentinel},
};
use adapter_api::{Issue, Place, Span};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One resource of a device.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Where it begins: `"holding:0"`. May be left out for a resource of the device's profile.
    pub register: Option<String>,
    /// Its type; may be left out for coils, discrete inputs and where `bit` is given.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// How many registers a string or raw bytes take.
    pub length: Option<i64>,
    /// The order of its bytes, `"ABCD"` if not given.
    pub order: Option<String>,
    /// Which byte of the register, or of each register of a string: `"high"` or `"low"`.
    pub byte: Option<String>,
    /// Which bit of the register, 0 the least significant.
    pub bit: Option<i64>,
    /// Which bits of a whole number: `"4-7"`, 0 the least significant.
    pub bits: Option<String>,
    /// Raw numbers that mean "no value".
    #[serde(default)]
    pub sentinels: Vec<Sentinel>,
    /// Names of raw numbers.
    #[serde(rename = "enum", default)]
    pub names: BTreeMap<String, String>,
    /// Factor.
    pub scale: Option<f64>,
    /// Summand, after the factor.
    pub offset: Option<f64>,
    /// Digits behind the point to round to.
    pub decimals: Option<i64>,
    /// How often it is read.
    pub period: Option<Span>,
}

/// A resource of a profile, which counts from 0, or what is wrong with it.
pub(crate) fn of_profile(name: &str, register: &Register) -> Result<(Want, Form), Vec<Issue>> {
    let mut found = Findings { place: Place::Config, issues: Vec::new() };
    found.register(name, register, None).ok_or(found.issues)
}

/// One resource while it is looked at.
struct Look<'a> {
    found: &'a mut Findings,
    name: &'a str,
    register: &'a Register,
}

impl Register {
    /// With what it does not say itself as the profile has it. One with a place of its own is another one.
    pub(crate) fn over(&self, known: &Self) -> Self {
        if self.register.is_some() {
            return self.clone();
        }
        fn first<T: Clone>(own: &Option<T>, known: &Option<T>) -> Option<T> {
            own.clone().or_else(|| known.clone())
        }
        Self {
            register: known.register.clone(),
            kind: first(&self.kind, &known.kind),
            length: first(&self.length, &known.length),
            order: first(&self.order, &known.order),
            byte: first(&self.byte, &known.byte),
            bit: first(&self.bit, &known.bit),
            bits: first(&self.bits, &known.bits),
            sentinels: if self.sentinels.is_empty() { &known.sentinels } else { &self.sentinels }.clone(),
            names: if self.names.is_empty() { &known.names } else { &self.names }.clone(),
            scale: first(&self.scale, &known.scale),
            offset: first(&self.offset, &known.offset),
            decimals: first(&self.decimals, &known.decimals),
            period: first(&self.period, &known.period),
        }
    }
}

impl Findings {
    /// Everything of one resource; `None` if something is wrong with it.
    pub(super) fn register(
        &mut self,
        name: &str,
        register: &Register,
        base: Option<u16>,
    ) -> Option<(Want, Form)> {
        let before = self.issues.len();
        let form = Look { found: self, name, register }.all(base);
        form.filter(|_| self.issues.len() == before)
    }
}

impl Look<'_> {
    fn all(mut self, base: Option<u16>) -> Option<(Want, Form)> {
        let register = self.register;
        if let Some(period) = register.period {
            self.found.not_zero(&["resources", self.name, "period"], period);
        }
        let point = match register.register.as_deref().map(|text| Point::read(text, base)) {
            Some(Ok(point)) => Some(point),
            Some(Err(error)) => {
                self.at("register", error.to_string(), error.hint());
                None
            }
            None => {
                let hint = PointError::Form.hint();
                self.found.add(&["resources", self.name], "the register is missing", hint);
                None
            }
        };
        let kind = self.kind(point.map(|point| point.table));
        let order = self.order();
        self.numbers(kind);
        let (point, kind, order) = (point?, kind?, order?);
        let length = self.length(kind)?;
        self.fits(point, length);
        let half = self.half(kind);
        let part = if point.table.is_bits() { self.single_bit(point.table, kind) } else { self.part(kind) };
        let scale = Scale {
            scale: register.scale.unwrap_or(1.0),
            offset: register.offset.unwrap_or(0.0),
            decimals: register.decimals.and_then(|decimals| u8::try_from(decimals).ok()),
        };
        let (sentinels, names) = (register.sentinels.clone(), self.names());
        let form = Form { kind, order, length, half, part, sentinels, names, scale };
        Some((Want { table: point.table, start: point.address, length }, form))
    }

    /// Something is wrong with this key.
    fn at(&mut self, key: &str, why: impl Into<String>, hint: impl Into<String>) {
        self.found.add(&["resources", self.name, key], why, hint);
    }

    fn kind(&mut self, table: Option<Table>) -> Option<Kind> {
        match (&self.register.kind, table) {
            (Some(text), _) => {
                self.found.one_of(&["resources", self.name, "type"], text, &Kind::NAMES, "type")
            }
            (None, Some(table)) if table.is_bits() => Some(Kind::Bool),
            (None, _) if self.register.bit.is_some() => Some(Kind::Bool),
            (None, Some(_)) => {
                let hint = super::listed("type", &Kind::NAMES);
                self.found.add(&["resources", self.name], "the type is missing", hint);
                None
            }
            // The register itself could not be read; that is enough for one go.
            (None, None) => None,
        }
    }

    fn order(&mut self) -> Option<Order> {
        let Some(text) = &self.register.order else { return Some(Order::default()) };
        let order = Order::named(text);
        if order.is_none() {
            self.at(
                "order",
                "there is no such order of bytes",
                super::listed("order of bytes", &Order::NAMES),
            );
        }
        order
    }

    /// What only numbers have.
    fn numbers(&mut self, kind: Option<Kind>) {
        let register = self.register;
        for (key, number) in [("scale", register.scale), ("offset", register.offset)] {
            if number.is_some_and(|n| !n.is_finite() || (key == "scale" && n == 0.0)) {
                self.at(key, "not usable as a number here", "a finite number; a scale not zero");
            }
        }
        if register.decimals.is_some_and(|decimals| !(0..=15).contains(&decimals)) {
            self.at("decimals", "a number has 0 to 15 decimals", "write for example `decimals = 2`");
        }
        let given = [
            ("scale", register.scale.is_some()),
            ("offset", register.offset.is_some()),
            ("decimals", register.decimals.is_some()),
            ("sentinels", !register.sentinels.is_empty()),
            ("enum", !register.names.is_empty()),
        ];
        let named = !register.names.is_empty();
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            if kind.is_some_and(|kind| !kind.is_number()) {
                self.at(key, "only a number has one", "leave it out");
            } else if named && !matches!(key, "sentinels" | "enum") {
                self.at(key, "a number with names is not scaled", "leave it or `enum` out");
            }
        }
        let whole = kind.is_none_or(|kind| matches!(kind, Kind::Whole { .. } | Kind::Bcd { .. }));
        if !whole && named && kind.is_some_and(Kind::is_number) {
            self.at("enum", "only whole numbers have names", "leave it out, or give another type");
        }
        if whole && register.sentinels.iter().any(|none| matches!(none, Sentinel::Float(_))) {
            self.at("sentinels", "a whole number is never this", "write the raw number, before `scale`");
        }
    }

    /// How many entries it takes.
    fn length(&mut self, kind: Kind) -> Option<u16> {
        match (kind.length(), self.register.length) {
            (Some(_), Some(_)) => {
                self.at("length", "its type says how long it is", "leave it out");
                None
            }
            (Some(length), None) => Some(length),
            (None, Some(length)) if (1..=125).contains(&length) => u16::try_from(length).ok(),
            (None, Some(_)) => {
                self.at("length", "one request reads 1 to 125 registers", "write the number of registers");
                None
            }
            (None, None) => {
                let hint = "add `length`, the number of registers (two characters in each)";
                self.found.add(&["resources", self.name], "it is not said how long it is", hint);
                None
            }
        }
    }

    fn fits(&mut self, point: Point, length: u16) {
        if u32::from(point.address) + u32::from(length) > 65_536 {
            self.at(
                "register",
                format!("a value of {length} registers at {point} ends behind register 65535"),
                "check the address and the type",
            );
        }
    }

    fn half(&mut self, kind: Kind) -> Option<Half> {
        let half = match self.register.byte.as_deref()? {
            "high" => Half::High,
            "low" => Half::Low,
            _ => {
                self.at("byte", "a register has two bytes", r#"write "high" or "low""#);
                return None;
            }
        };
        if !matches!(kind, Kind::Whole { bits: 8, .. } | Kind::Text) {
            let hint = r#"it belongs to "u8", "i8" and "string""#;
            self.at("byte", "this type does not lie in single bytes", hint);
        }
        Some(half)
    }

    /// An entry of a table of bits is nothing else.
    fn single_bit(&mut self, table: Table, kind: Kind) -> Option<Part> {
        if kind != Kind::Bool {
            let why = format!("an entry of the table {} is one bit", table.name());
            self.at("type", why, r#"leave it out, or write "bool""#);
        }
        let register = self.register;
        for (key, given) in [
            ("bit", register.bit.is_some()),
            ("bits", register.bits.is_some()),
            ("order", register.order.is_some()),
        ] {
            if given {
                self.at(key, "a single bit has none", "leave it out");
            }
        }
        None
    }

    /// The bits that are asked for of a register's value.
    fn part(&mut self, kind: Kind) -> Option<Part> {
        let width = match kind {
            Kind::Whole { bits, .. } => bits,
            Kind::Bool => 16,
            _ => 0,
        };
        match (self.register.bit, self.register.bits.as_deref(), kind) {
            (Some(_), Some(_), _) => {
                self.at("bits", "`bit` and `bits` at once", "leave one of them out");
                None
            }
            (Some(bit), None, Kind::Bool) => {
                let low = u8::try_from(bit).ok().filter(|bit| *bit < 16);
                if low.is_none() {
                    self.at("bit", "a register has the bits 0 to 15", "0 is the least significant");
                }
                Some(Part { low: low?, width: 1 })
            }
            (Some(_), None, _) => {
                self.at("bit", "only a truth value has a bit", r#"write `type = "bool"`, or `bits`"#);
                None
            }
            (None, Some(_), Kind::Bool) | (None, None, Kind::Bool) => {
                let hint = "add `bit = 0` (the least significant) to `bit = 15`";
                self.found.add(&["resources", self.name], "it is not said which bit of the register", hint);
                None
            }
            (None, Some(text), Kind::Whole { .. }) => {
                let part = part_of(text).filter(|part| part.low + part.width <= width);
                if part.is_none() {
                    let why = format!("not some of the bits 0 to {}", width - 1);
                    self.at("bits", why, r#"write the first and the last one, for example "4-7""#);
                }
                part
            }
            (None, Some(_), _) => {
                self.at("bits", "only a whole number has bits", "leave it out, or give another type");
                None
            }
            (None, None, _) => None,
        }
    }

    fn names(&mut self) -> BTreeMap<i64, String> {
        let mut names = BTreeMap::new();
        for (number, name) in &self.register.names {
            match whole(number) {
                Some(number) => {
                    names.insert(number, name.clone());
                }
                None => {
                    let hint = r#"write for example `enum = { 0 = "off", 1 = "on" }`"#;
                    let path = ["resources", self.name, "enum", number.as_str()];
                    self.found.add(&path, "not a whole number", hint);
                }
            }
        }
        names
    }
}

/// `"4-7"`, or one bit as `"4"`.
fn part_of(text: &str) -> Option<Part> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high): (u8, u8) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    (low <= high && high < 64).then(|| Part { low, width: high - low + 1 })
}

fn whole(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
