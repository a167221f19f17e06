//! How a line is used: its characters, its silences, and how long a late answer may come. Sans-IO.
//!
//! RTU and ASCII answers carry no number of their request. After a time-out a unit is therefore not
//! asked again for a quarantine: an answer that comes within it is thrown away, since whatever is asked
//! meanwhile is asked of other units, whose answers bear another address.

use crate::{
    frame::{Framing, LONGEST},
    wiring::Wiring,
};
use adapter_api::{Instant, Span};
use std::{collections::BTreeMap, time::Duration};

/// Which of its characters carries what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parity {
    /// No such bit.
    None,
    /// An even number of ones.
    Even,
    /// An odd number of ones.
    Odd,
}

/// The characters of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Characters {
    /// Bits per second.
    pub baud: u32,
    /// 7 (ASCII only) or 8.
    pub data_bits: u8,
    /// Beside the data.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// How all lines of an adapter are used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// What goes over it.
    pub framing: Framing,
    /// Of a serial line, also one behind a converter where it is known.
    pub characters: Option<Characters>,
    /// Silence before a request beyond what the framing needs.
    pub gap: Duration,
    /// How long a device may take to begin its answer.
    pub timeout: Span,
    /// How long a unit is left alone that did not answer.
    pub quarantine: Duration,
    /// Who switches its direction, and whether it echoes.
    pub wiring: Wiring,
}

/// Units that owe an answer and may not be asked.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    units: BTreeMap<u8, Instant>,
    /// Of all units.
    all: Option<Instant>,
}

impl Characters {
    /// One character: start, data, parity and stop bits.
    pub(crate) fn time(&self) -> Duration {
        let bits = 1 + self.data_bits + u8::from(self.parity != Parity::None) + self.stop_bits;
        Duration::from_secs(1) * u32::from(bits) / self.baud.max(1)
    }
}

impl Line {
    /// So many characters on the wire; nothing where there is no serial line.
    pub(crate) fn characters(&self, count: usize) -> Duration {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.characters.map_or(Duration::ZERO, |characters| characters.time().saturating_mul(count))
    }

    /// Silence between a frame and the next request: 3.5 characters for RTU, above 19,200 baud 1.75 ms
    /// (Modbus over Serial Line V1.02 §2.5.1.1). ASCII frames have an end and a beginning.
    pub(crate) fn silence(&self) -> Duration {
        let own = match (self.framing, self.characters) {
            (Framing::Rtu, Some(Characters { baud: ..=19_200, .. })) => self.characters(7) / 2,
            (Framing::Rtu, Some(_)) => Duration::from_micros(1_750),
            _ => Duration::ZERO,
        };
        own.max(self.gap)
    }

    /// A line that is not silent for so long is babbling; nothing is gained by waiting on.
    pub(crate) fn patience(&self) -> Duration {
        self.silence() + self.characters(2 * LONGEST).max(Duration::from_millis(50))
    }

    /// How long an answer may take, counted from when the request was handed to the system.
    pub(crate) fn deadline(&self, request: usize, answer: usize) -> Duration {
        self.timeout.duration() + self.characters(request + answer)
    }

    /// Whether an answer that is late cannot be told from a later one.
    pub(crate) fn needs_quarantine(&self) -> bool {
        self.framing != Framing::Tcp
    }
}

impl Quarantine {
    /// A unit did not answer in time.
    pub(crate) fn begin(&mut self, unit: u8, until: Instant) {
        self.units.insert(unit, until);
    }

    /// Any unit may owe an answer to somebody before us.
    pub(crate) fn begin_all(&mut self, until: Instant) {
        self.all = Some(until);
    }

    /// When a unit may be asked again; `None` if it may.
    pub(crate) fn until(&mut self, unit: u8, now: Instant) -> Option<Instant> {
        self.units.retain(|_, until| *until > now);
        self.all = self.all.filter(|until| *until > now);
        self.units.get(&unit).copied().max(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(framing: Framing, characters: Option<Characters>) -> Line {
        let timeout: Span = "300ms".parse().unwrap();
        let quarantine = Duration::from_millis(900);
        Line { framing, characters, gap: Duration::ZERO, timeout, quarantine, wiring: Wiring::default() }
    }

    #[test]
    fn silences_are_those_of_the_standard() {
        for (baud, parity, stop_bits, silence_us) in [
            (1_200, Parity::Even, 1, 32_083),
            (9_600, Parity::None, 2, 4_010),
            (9_600, Parity::None, 1, 3_645),
            (19_200, Parity::Odd, 1, 2_005),
            (38_400, Parity::Even, 1, 1_750),
            (115_200, Parity::None, 1, 1_750),
        ] {
            let characters = Characters { baud, data_bits: 8, parity, stop_bits };
            let silence = line(Framing::Rtu, Some(characters)).silence();
            assert_eq!(silence.as_micros(), silence_us, "{baud}");
        }
        assert_eq!(line(Framing::Tcp, None).silence(), Duration::ZERO);
        let gap = Duration::from_millis(20);
        assert_eq!(Line { gap, ..line(Framing::Rtu, None) }.silence(), gap, "behind a converter");
    }

    #[test]
    fn an_answer_has_the_time_its_characters_take() {
        let characters = Characters { baud: 9_600, data_bits: 8, parity: Parity::None, stop_bits: 2 };
        let serial = line(Framing::Rtu, Some(characters));
        // 125 registers: 8 + 255 characters of 11 bits.
        assert_eq!(serial.deadline(8, 255).as_millis(), 300 + 301);
        assert_eq!(line(Framing::Tcp, None).deadline(12, 259).as_millis(), 300);
    }

    #[test]
    fn a_quarantine_is_of_one_unit_and_ends() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let mut quarantine = Quarantine::default();
        quarantine.begin(1, at(900));
        assert_eq!(quarantine.until(1, at(899)), Some(at(900)));
        assert_eq!(quarantine.until(2, at(0)), None);
        assert_eq!(quarantine.until(1, at(900)), None);
    }

    #[test]
    fn a_quarantine_of_all_units_shortens_none() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let mut quarantine = Quarantine::default();
        quarantine.begin_all(at(500));
        quarantine.begin(1, at(900));
        quarantine.begin(2, at(100));
        assert_eq!(
            [1, 2, 3].map(|unit| quarantine.until(unit, at(0))),
            [900, 500, 500].map(|ms| Some(at(ms)))
        );
        assert_eq!([1, 2, 3].map(|unit| quarantine.until(unit, at(500))), [Some(at(900)), None, None]);
    }
}
