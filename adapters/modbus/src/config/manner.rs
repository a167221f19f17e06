//! How one device is asked: its keys beside those of its adapter.

use super::{Config, Device, Findings, Target, line};
use crate::{line::Line, plan::Limits, profile::Limits as Known};
use std::{collections::BTreeMap, time::Duration};

/// How one device is asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manner {
    /// The adapter's line with what is different for this device.
    pub line: Line,
    /// What one request may be.
    pub limits: Limits,
    /// How long its wire is left alone after it was opened.
    pub connect_delay: Duration,
}

impl Findings {
    /// How the device is asked, if not as its profile knows; `None` where something is wrong, of it or of its adapter.
    pub(super) fn manner(&mut self, config: &Config, device: &Device, known: Known) -> Option<Manner> {
        for (key, span) in [("timeout", device.timeout), ("max_response", device.max_response)] {
            if let Some(span) = span {
                self.not_zero(&[key], span);
            }
        }
        let registers =
            self.entries("max_registers", device.max_registers, 1..=125, known.max_registers.unwrap_or(125));
        let bits = self.entries("max_bits", device.max_bits, 1..=2_000, known.max_bits.unwrap_or(2_000));
        let hole = self.entries("max_hole", device.max_hole, 0..=124, known.max_hole.unwrap_or(8));
        let mut line = line(config).ok()?;
        line.timeout = device.timeout.unwrap_or(line.timeout);
        line.gap = device.gap.map_or(line.gap, |gap| gap.duration());
        if config.quarantine.is_none() {
            line.quarantine = line.timeout.duration() * 3;
        }
        // What may come later than that is still a late answer.
        line.quarantine = line.quarantine.max(device.max_response.unwrap_or_default().duration());
        let connect_delay = device.connect_delay.or(config.connect_delay).unwrap_or_default().duration();
        Some(Manner {
            line,
            limits: Limits { registers: registers?, bits: bits?, hole: hole? },
            connect_delay,
        })
    }

    fn entries(
        &mut self,
        key: &str,
        given: Option<i64>,
        range: std::ops::RangeInclusive<u16>,
        usual: u16,
    ) -> Option<u16> {
        let Some(given) = given else { return Some(usual) };
        let fits = u16::try_from(given).ok().filter(|given| range.contains(given));
        if fits.is_none() {
            let why = format!("it is {} to {}", range.start(), range.end());
            self.add(&[key], why, format!("leave it out for {usual}"));
        }
        fits
    }

    /// A value that no request may bring.
    pub(super) fn too_long(&mut self, name: &str, length: u16, most: u16) {
        let why = format!("its {length} registers are more than `max_registers` allows in one request");
        self.add(&["resources", name], why, format!("a value is read at once: allow {length}, not {most}"));
    }
}

/// Gives each device one of the connections to its host: all units of a host in turn.
pub(crate) fn spread<'t>(connections: u16, targets: impl Iterator<Item = &'t mut Target>) {
    let mut by_wire: BTreeMap<_, BTreeMap<u8, Vec<&mut Target>>> = BTreeMap::new();
    for target in targets {
        let wire = target.wire.clone();
        by_wire.entry(wire).or_default().entry(target.unit).or_default().push(target);
    }
    for units in by_wire.into_values() {
        for (target, n) in units.into_values().zip((0..connections.max(1)).cycle()) {
            target.into_iter().for_each(|target| target.connection = n);
        }
    }
}
