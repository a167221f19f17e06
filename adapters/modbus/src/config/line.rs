//! How the wires of an adapter are used: its keys, and which of them go together.

use super::{Config, Findings};
use crate::{
    frame::Framing,
    line::{Characters, Line, Parity},
};
use adapter_api::{Issue, Place};
use std::time::Duration;

const FRAMINGS: [(&str, Framing); 3] =
    [("tcp", Framing::Tcp), ("rtu", Framing::Rtu), ("ascii", Framing::Ascii)];
const PARITIES: [(&str, Parity); 3] = [("even", Parity::Even), ("odd", Parity::Odd), ("none", Parity::None)];

/// How its wires are used, or all that is wrong with them.
pub(crate) fn line(config: &Config) -> Result<Line, Vec<Issue>> {
    let mut found = Findings { place: Place::Config, issues: Vec::new() };
    if let Some(port) = &config.port {
        if config.host.is_some() {
            found.add(&["port"], "there is a host already", "leave out `port` or `host`");
        } else if port.is_empty() {
            found.add(&["port"], "not a path", r#"write for example "/dev/serial/by-id/usb-...""#);
        }
    }
    let framing = match &config.framing {
        None if config.port.is_some() => Some(Framing::Rtu),
        None => Some(Framing::Tcp),
        Some(text) => found.one_of(&["framing"], text, &FRAMINGS, "framing"),
    };
    if framing == Some(Framing::Tcp) && config.port.is_some() {
        found.add(&["framing"], "a serial line has another one", r#"write "rtu" or "ascii""#);
    }
    let serial = framing.is_none_or(|framing| framing != Framing::Tcp);
    if !serial && config.port.is_none() {
        for (key, given) in [
            ("baud", config.baud.is_some()),
            ("parity", config.parity.is_some()),
            ("stop_bits", config.stop_bits.is_some()),
            ("data_bits", config.data_bits.is_some()),
            ("gap", config.gap.is_some()),
            ("quarantine", config.quarantine.is_some()),
        ] {
            if given {
                let hint = r#"leave it out; behind a converter write `framing = "rtu"`"#;
                found.add(&[key], "Modbus TCP has none", hint);
            }
        }
    }
    if connections(config).is_none() {
        found.add(&["connections"], "it is 1 to 16", "leave it out for 1");
    } else if serial && connections(config) != Some(1) {
        found.add(&["connections"], "a serial line is only one", "leave it out");
    }
    let characters = if serial { found.characters(config, framing) } else { None };
    let wiring = found.wiring(config, framing);
    let quarantine = config.quarantine.map(|quarantine| quarantine.duration());
    if quarantine.is_some_and(|quarantine| quarantine.is_zero()) {
        let why = "an answer that comes late would be taken for another register's";
        found.add(&["quarantine"], why, "leave it out for three time-outs");
    }
    match framing {
        Some(framing) if found.issues.is_empty() => Ok(Line {
            framing,
            characters,
            gap: config.gap.map_or(Duration::ZERO, |gap| gap.duration()),
            timeout: config.timeout,
            quarantine: quarantine.unwrap_or(config.timeout.duration() * 3),
            wiring,
        }),
        _ => Err(found.issues),
    }
}

/// How many connections there are to each host.
pub(crate) fn connections(config: &Config) -> Option<u16> {
    let given = config.connections.unwrap_or(1);
    u16::try_from(given).ok().filter(|given| (1..=16).contains(given))
}

impl Findings {
    /// The characters of a serial line; `None` behind a converter where nobody said them.
    fn characters(&mut self, config: &Config, framing: Option<Framing>) -> Option<Characters> {
        let parity = match &config.parity {
            None => Some(Parity::Even),
            Some(text) => self.one_of(&["parity"], text, &PARITIES, "parity"),
        };
        let ascii = framing == Some(Framing::Ascii);
        let usual = if parity == Some(Parity::None) { 2 } else { 1 };
        let stop_bits = self.number(&["stop_bits"], config.stop_bits, 1..=2, usual);
        let seven = if ascii { 7 } else { 8 };
        let data_bits = self.number(&["data_bits"], config.data_bits, seven..=8, seven);
        let baud = match config.baud {
            None => {
                if config.port.is_some() {
                    self.add(&[], "it is not said how fast the line is", "add for example `baud = 9600`");
                }
                None
            }
            Some(baud) => {
                let fits = u32::try_from(baud).ok().filter(|baud| (50..=4_000_000).contains(baud));
                if fits.is_none() {
                    self.add(
                        &["baud"],
                        "no line is of this speed",
                        "write 50 to 4000000, often 9600 or 19200",
                    );
                }
                fits
            }
        };
        Some(Characters { baud: baud?, data_bits: data_bits?, parity: parity?, stop_bits: stop_bits? })
    }

    fn number(
        &mut self,
        path: &[&str],
        given: Option<i64>,
        range: std::ops::RangeInclusive<u8>,
        usual: u8,
    ) -> Option<u8> {
        let Some(given) = given else { return Some(usual) };
        let fits = u8::try_from(given).ok().filter(|given| range.contains(given));
        if fits.is_none() {
            let why = format!("it is {} to {} here", range.start(), range.end());
            self.add(path, why, format!("leave it out for {usual}"));
        }
        fits
    }
}
