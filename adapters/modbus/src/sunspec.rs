//! SunSpec: a device says itself which models it has and where; their points become resources. Sans-IO.
//!
//! ```text
//! discovery: when -> walk: which block is read next -> models of the device -> Choice: Wanted, as any resource
//! ```
//! Each value is read together with its scale factor and with the number and the length of its model:
//! a chain that has moved gives no wrong values.

mod discovery;
mod models;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use discovery::{Discovery, Lack, Step};
pub(crate) use models::{Kind, MODELS, Model, Point};
pub(crate) use walk::{BASES, END, Found, MARKER, Progress, Walk};

use crate::{
    config::Wanted,
    plan::Want,
    point::Table,
    profile::Listed,
    value::{self, Form, Order, Scale, Sentinel},
};
use adapter_api::{Reading, Resource, Value};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Scale factors are powers of ten from -10 to 10 (SunSpec, `sunssf`).
const MOST_POWER: u16 = 10;

/// What is read from a SunSpec device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// These, or all points of the models that are known.
    pub only: Option<BTreeSet<Resource>>,
    /// How often.
    pub period: Duration,
}

/// How the registers of a point become its reading. They begin with the number of its model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reader {
    found: Found,
    point: &'static Point,
}

impl Choice {
    /// What there is to read, given a device's models.
    pub(crate) fn wanted(&self, models: &[Found]) -> Vec<Wanted> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut wanted = Vec::new();
        for found in models {
            let Some(model) = MODELS.iter().find(|model| model.ids.contains(&found.id)) else { continue };
            let count = counts.entry(model.group).or_default();
            *count += 1;
            for point in model.points {
                let reader = Reader { found: *found, point };
                let Some(resource) = name(model, *count, point).filter(|name| self.takes(name)) else {
                    continue;
                };
                // A model that says it is shorter than its definition does not have its last points.
                if let Some(want) = reader.want() {
                    wanted.push(Wanted {
                        resource,
                        want,
                        base: None,
                        form: reader.into(),
                        period: self.period,
                    });
                }
            }
        }
        wanted
    }

    /// The most registers that are read at once.
    pub(crate) fn longest(&self) -> u16 {
        let points = MODELS.iter().flat_map(|model| model.points.iter().map(move |point| (model, point)));
        let chosen = points.filter(|(model, point)| match (&self.only, name(model, 1, point)) {
            (Some(only), Some(name)) => only.iter().any(|only| of_first(only) == name.as_str()),
            (only, _) => only.is_none(),
        });
        chosen.map(|(_, point)| point.behind()).max().unwrap_or(0)
    }

    fn takes(&self, name: &Resource) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }
}

impl Point {
    /// Behind its last register and that of its scale factor, from the number of the model.
    fn behind(&self) -> u16 {
        let behind = self.at + self.kind.length();
        self.scale_at.map_or(behind, |at| behind.max(at + 1))
    }
}

/// All resources a SunSpec device can have that has each model once.
pub(crate) fn names() -> Vec<Resource> {
    let points =
        MODELS.iter().flat_map(|model| model.points.iter().filter_map(|point| name(model, 1, point)));
    points.collect()
}

/// The same with their types and units, for people.
pub(crate) fn listed() -> Vec<Listed> {
    let points = MODELS.iter().flat_map(|model| model.points.iter().map(move |point| (model, point)));
    let listed = points.filter_map(|(model, point)| {
        let ids: Vec<String> = model.ids.iter().map(ToString::to_string).collect();
        Some(Listed {
            resource: name(model, 1, point)?,
            register: None,
            kind: Some(point.kind.to_string()),
            order: None,
            scale: None,
            unit: Some(point.unit.to_owned()).filter(|unit| !unit.is_empty()),
            source: Some(format!("model {}, offset {}", ids.join(" "), point.at)),
        })
    });
    listed.collect()
}

/// `meter.W`; of the second meter in a chain `meter_2.W`.
fn name(model: &Model, count: usize, point: &Point) -> Option<Resource> {
    let number = if count > 1 { format!("_{count}") } else { String::new() };
    Resource::new(&format!("{}{number}.{}", model.group, point.name)).ok()
}

/// A point of a later model of its kind, as the first one's is called: `meter.W` for `meter_2.W`.
pub(crate) fn of_first(name: &Resource) -> Cow<'_, str> {
    let name = name.as_str();
    let parts = name.split_once('.').and_then(|(group, point)| {
        let (group, number) = group.rsplit_once('_')?;
        number.parse().is_ok_and(|number: u16| number > 1).then(|| format!("{group}.{point}"))
    });
    parts.map_or(Cow::Borrowed(name), Cow::Owned)
}

impl Reader {
    /// From the number of the model to the last register of the point and its scale factor, if that is
    /// within the model.
    fn want(&self) -> Option<Want> {
        let length = self.point.behind();
        let within = u32::from(length) <= u32::from(self.found.length) + 2;
        within.then_some(Want { table: Table::Holding, start: self.found.at, length })
    }

    /// The reading of registers as they were received; `None` if there are too few of them.
    pub(crate) fn decode(&self, resource: Resource, words: &[u16]) -> Option<Reading> {
        if words.get(..2)? != [self.found.id, self.found.length] {
            return Some(Reading::bad(resource, MOVED));
        }
        let raw = words.get(usize::from(self.point.at)..)?;
        let Some(scale_at) = self.point.scale_at else {
            return self.form(Scale::default()).decode(resource, raw).map(not_empty);
        };
        let power = words.get(usize::from(scale_at))?.cast_signed();
        let form = self.form(Scale { scale: power_of_ten(power), ..Scale::default() });
        let reading = form.decode(resource, raw)?;
        if reading.value == Value::None {
            return Some(reading);
        }
        Some(match power {
            i16::MIN => Reading::bad(reading.resource, "the device has no scale factor for it"),
            _ if power.unsigned_abs() <= MOST_POWER => Reading { value: fraction(reading.value), ..reading },
            _ => {
                Reading::bad(reading.resource, format!("the device's scale factor is out of range ({power})"))
            }
        })
    }

    /// Whether registers are no longer those of the model that was found.
    pub(crate) fn has_moved(&self, words: &[u16]) -> bool {
        words.get(..2) != Some(&[self.found.id, self.found.length])
    }

    fn form(&self, scale: Scale) -> Form {
        Form { scale, ..self.point.kind.form() }
    }
}

impl Kind {
    /// How a number of this type is read, before its scale factor.
    pub(crate) fn form(self) -> Form {
        let whole = |bits, signed| value::Kind::Whole { bits, signed };
        // What stands in place of a value that is not implemented (SunSpec, "Data types").
        let (kind, none) = match self {
            Kind::I16 => (whole(16, true), Some(0x8000)),
            Kind::U16 | Kind::Enum16 => (whole(16, false), Some(0xffff)),
            Kind::Acc32 => (whole(32, false), Some(0)),
            Kind::Bits32 => (whole(32, false), Some(0xffff_ffff)),
            Kind::Text(_) => (value::Kind::Text, None),
        };
        Form {
            kind,
            order: Order::default(),
            length: self.length(),
            half: None,
            part: None,
            sentinels: none.map(Sentinel::Whole).into_iter().collect(),
            names: BTreeMap::new(),
            scale: Scale::default(),
        }
    }
}

const MOVED: &str = "the device's models are no longer where they were; they are looked for again";

/// The nearest double to the decimal.
fn power_of_ten(power: i16) -> f64 {
    format!("1e{power}").parse().unwrap_or(1.0)
}

/// A number that can have a fraction is always one that has: the scale factor may change at any time.
#[expect(clippy::cast_precision_loss, reason = "of 32 bits at most")]
fn fraction(value: Value) -> Value {
    match value {
        Value::Int(whole) => Value::from(whole as f64),
        other => other,
    }
}

/// A text of nothing but NULs is not implemented.
fn not_empty(reading: Reading) -> Reading {
    match &reading.value {
        Value::Text(text) if text.is_empty() => {
            Reading::bad(reading.resource, "the device says it has no value")
        }
        _ => reading,
    }
}
