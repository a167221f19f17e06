//! The registers of a simulated device at one moment. Sans-IO.

use super::{encode, motion::Motion};
use crate::{
    config,
    point::Table,
    profile::{Content, Profile},
    sunspec::{BASES, END, Kind, MARKER, MODELS, Point},
    value::{Form, Scale},
};
use adapter_api::Resource;
use std::{collections::BTreeMap, time::Duration};

/// What lies in registers, and where.
#[derive(Debug)]
pub(super) struct Image(Vec<Cell>);

/// One value.
#[derive(Debug)]
struct Cell {
    table: Table,
    start: u16,
    value: Value,
}

#[derive(Debug)]
enum Value {
    /// Always these registers.
    Fixed(Vec<u16>),
    /// A quantity, as its form has it.
    Moving(Form, Motion),
}

/// The models of a simulated SunSpec device: number, length, group.
const CHAIN: [(u16, u16, &str); 3] = [(1, 66, "common"), (103, 50, "inverter"), (203, 105, "meter")];

impl Image {
    /// All values of a device of this model.
    pub(super) fn new(profile: &Profile, unit: u8) -> Self {
        Self(match &profile.content {
            Content::Registers(entries) => entries
                .iter()
                .enumerate()
                .filter_map(|(n, (resource, entry))| {
                    // A profile that was read has no faults.
                    let (want, form) = config::of_profile(resource.as_str(), &entry.register).ok()?;
                    let motion = Motion::of(entry.unit.as_deref().unwrap_or_default(), resource.as_str(), n);
                    Some(Cell { table: want.table, start: want.start, value: Value::Moving(form, motion) })
                })
                .collect(),
            Content::SunSpec => sunspec(unit),
        })
    }

    /// Neighbouring entries of a table, so long after the device was switched on; `None` if one of them
    /// is not there.
    pub(super) fn read(&self, table: Table, start: u16, count: u16, age: Duration) -> Option<Vec<u16>> {
        let wanted = u32::from(start)..u32::from(start) + u32::from(count);
        let mut words: BTreeMap<u32, u16> = BTreeMap::new();
        for cell in self.0.iter().filter(|cell| cell.table == table) {
            let begin = u32::from(cell.start);
            let length = match &cell.value {
                Value::Fixed(words) => words.len(),
                Value::Moving(form, _) => usize::from(form.length),
            };
            if begin >= wanted.end || begin + u32::try_from(length).ok()? <= wanted.start {
                continue;
            }
            let here = match &cell.value {
                Value::Fixed(words) => words.clone(),
                Value::Moving(form, motion) => encode::words(form, motion.at(age)),
            };
            // Bits of one register come together there.
            for (at, word) in (begin..).zip(here) {
                *words.entry(at).or_default() |= word;
            }
        }
        wanted.map(|at| words.get(&at).copied()).collect()
    }
}

/// A chain at the first base.
fn sunspec(unit: u8) -> Vec<Cell> {
    let [mut at, ..] = BASES;
    let mut cells = Vec::new();
    let mut fix = |start: u16, words: Vec<u16>| {
        cells.push(Cell { table: Table::Holding, start, value: Value::Fixed(words) });
    };
    fix(at, MARKER.to_vec());
    at += 2;
    let mut moving = Vec::new();
    for (id, length, group) in CHAIN {
        // What no point lies on is there as well.
        fix(at, [id, length].into_iter().chain(vec![0; usize::from(length)]).collect());
        let points = MODELS.iter().find(|model| model.group == group).map_or(&[][..], |model| model.points);
        for (n, point) in points.iter().enumerate() {
            let resource = Resource::new(point.name).ok();
            match (point.scale_at, resource) {
                (Some(scale_at), Some(resource)) => {
                    let (power, scale) = power(point.unit);
                    fix(at + scale_at, vec![power.cast_unsigned()]);
                    let form = Form { scale: Scale { scale, ..Scale::default() }, ..point.kind.form() };
                    moving.push((at + point.at, form, Motion::of(point.unit, resource.as_str(), n)));
                }
                _ => fix(at + point.at, fixed(point, unit)),
            }
        }
        at += 2 + length;
    }
    fix(at, vec![END, 0]);
    let moving = moving.into_iter().map(|(start, form, motion)| Cell {
        table: Table::Holding,
        start,
        value: Value::Moving(form, motion),
    });
    cells.extend(moving);
    cells
}

/// The power of ten that makes the most of 16 bits, and its factor.
fn power(unit: &str) -> (i16, f64) {
    match unit {
        "V" | "°C" => (-1, 0.1),
        "A" | "Hz" => (-2, 0.01),
        _ => (0, 1.0),
    }
}

/// Points without a scale factor.
fn fixed(point: &Point, unit: u8) -> Vec<u16> {
    let text = match point.name {
        "Mn" => "Tidegate",
        "Md" => "simulated inverter and meter",
        "Vr" => env!("CARGO_PKG_VERSION"),
        "SN" => "0001",
        _ => "",
    };
    match (point.kind, point.name) {
        (Kind::Text(length), _) => encode::text(text, length),
        (_, "DA") => vec![u16::from(unit)],
        // Maximum power point tracking.
        (_, "St") => vec![4],
        (Kind::Enum16, _) => vec![0xffff],
        (kind, _) => vec![0; usize::from(kind.length())],
    }
}
