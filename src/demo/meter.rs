//! One simulated energy meter: its registers, its values, and its answers to Modbus requests. Sans-IO.
//!
//! Written from the protocol's text and from data sheets of such meters; it shares no code with the
//! adapter. Not here: sockets, and what was answered on them ([`super::field`]).

use crate::backoff::Rng;
use adapter_api::Instant;
use std::f64::consts::TAU;

/// Registers a meter has.
const REGISTERS: usize = 12;
/// Function codes, MODBUS Application Protocol V1.1b3 §6.3 and §6.4.
const READ_HOLDING: u8 = 0x03;
const READ_INPUT: u8 = 0x04;
/// Most registers in one request, §6.3.
const MOST: usize = 125;
/// Exception codes, §7.
const ILLEGAL_FUNCTION: u8 = 0x01;
const ILLEGAL_ADDRESS: u8 = 0x02;
const ILLEGAL_VALUE: u8 = 0x03;
const TARGET_SILENT: u8 = 0x0B;

/// A quantity a meter measures. All take two registers, the high one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantity {
    /// Its name on the gateway and on the platform.
    pub(super) name: &'static str,
    /// Its first register.
    pub(super) register: u16,
    /// Its type in the gateway's words.
    pub(super) kind: &'static str,
    /// What people read behind the value.
    pub(super) unit: &'static str,
}

/// What a meter measures: one block, so that one request is one sample.
pub(super) const QUANTITIES: [Quantity; 6] = [
    quantity("voltage", 0, "f32", "V"),
    quantity("current", 2, "f32", "A"),
    quantity("power", 4, "f32", "W"),
    quantity("energy", 6, "u32", "Wh"),
    quantity("frequency", 8, "f32", "Hz"),
    // Counts the answers, so that a sample is told from the same one sent again.
    quantity(SEQUENCE, 10, "u32", ""),
];

/// The resource that numbers a meter's samples.
pub(super) const SEQUENCE: &str = "sequence";

/// A meter.
#[derive(Debug)]
pub(super) struct Meter {
    rng: Rng,
    /// Where in their waves the values are, so that no two meters show the same.
    phase: f64,
    /// Rated current in A.
    rated: f64,
    /// A random walk, -1 to 1.
    load: f64,
    energy_ws: f64,
    sequence: u32,
    last: Option<Instant>,
}

/// What is sent back for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Function code and data.
    pub(super) pdu: Vec<u8>,
    /// Quantities it carries; `None` for an exception, which is no sample.
    pub(super) readings: Option<u64>,
}

const fn quantity(name: &'static str, register: u16, kind: &'static str, unit: &'static str) -> Quantity {
    Quantity { name, register, kind, unit }
}

impl Meter {
    /// A meter that was installed a while ago.
    pub(super) fn new(mut rng: Rng) -> Self {
        let phase = rng.f64() * TAU;
        let rated = 2.0 + rng.f64() * 14.0;
        let energy_ws = rng.f64() * 4e9;
        Self { rng, phase, rated, load: 0.0, energy_ws, sequence: 0, last: None }
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, now: Instant, pdu: &[u8]) -> Answer {
        match *pdu {
            [function @ (READ_HOLDING | READ_INPUT), a, b, c, d] => {
                let from = usize::from(u16::from_be_bytes([a, b]));
                let count = usize::from(u16::from_be_bytes([c, d]));
                if !(1..=MOST).contains(&count) {
                    return exception(function, ILLEGAL_VALUE);
                }
                if from + count > REGISTERS {
                    return exception(function, ILLEGAL_ADDRESS);
                }
                self.read(now, function, from, count)
            }
            [function @ (READ_HOLDING | READ_INPUT), ..] => exception(function, ILLEGAL_VALUE),
            [function, ..] => exception(function, ILLEGAL_FUNCTION),
            [] => exception(0, ILLEGAL_FUNCTION),
        }
    }

    fn read(&mut self, now: Instant, function: u8, from: usize, count: usize) -> Answer {
        let registers = self.measure(now);
        let wanted = registers.iter().skip(from).take(count);
        let data: Vec<u8> = wanted.flat_map(|register| register.to_be_bytes()).collect();
        let mut pdu = vec![function, u8::try_from(data.len()).unwrap_or(u8::MAX)];
        pdu.extend(data);
        let whole = |quantity: &&Quantity| {
            let start = usize::from(quantity.register);
            start >= from && start + 2 <= from + count
        };
        let readings = QUANTITIES.iter().filter(whole).count();
        Answer { pdu, readings: u64::try_from(readings).ok() }
    }

    /// The registers at this moment.
    fn measure(&mut self, now: Instant) -> [u16; REGISTERS] {
        let elapsed = self.last.map_or(0.0, |last| now.since(last).as_secs_f64());
        self.last = Some(now);
        self.sequence = self.sequence.wrapping_add(1);
        self.phase += elapsed;
        self.load = (self.load + (self.rng.f64() - 0.5) * 0.2).clamp(-1.0, 1.0);
        let wave = |period: f64| (self.phase * TAU / period).sin();
        let voltage = 230.0 + 2.5 * wave(47.0) + 0.4 * self.load;
        let current = self.rated * (0.55 + 0.25 * wave(19.0) + 0.15 * self.load);
        let power = voltage * current * 0.97;
        let frequency = 50.0 + 0.02 * wave(31.0);
        self.energy_ws += power * elapsed;
        let quantities = [
            float(voltage, 10.0),
            float(current, 100.0),
            float(power, 1.0),
            whole(self.energy_ws / 3600.0),
            float(frequency, 100.0),
            self.sequence,
        ];
        let mut registers = [0; REGISTERS];
        for (pair, value) in registers.chunks_exact_mut(2).zip(quantities) {
            let [a, b, c, d] = value.to_be_bytes();
            pair.copy_from_slice(&[u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
        }
        registers
    }
}

/// The answer of a gateway to a request for a meter it does not have.
pub(super) fn unreachable(pdu: &[u8]) -> Answer {
    exception(pdu.first().copied().unwrap_or_default(), TARGET_SILENT)
}

fn exception(function: u8, code: u8) -> Answer {
    Answer { pdu: vec![function | 0x80, code], readings: None }
}

/// The bits of a 32-bit float with as many decimals as a display has.
fn float(value: f64, steps: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a meter has 32-bit floats")]
    let rounded = ((value * steps).round() / steps) as f32;
    rounded.to_bits()
}

fn whole(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, as a meter's counter does"
    )]
    let counted = value as u32;
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn check(pdu: &[u8], expected: &[u8]) {
        let answer = Meter::new(Rng::with_seed(1)).answer(at(0), pdu);
        assert_eq!((answer.pdu.as_slice(), answer.readings), (expected, None), "{pdu:02x?}");
    }

    #[test]
    fn what_it_does_not_have_is_an_exception() {
        check(&[1, 0, 0, 0, 1], &[0x81, 1]);
        check(&[16, 0, 0, 0, 1, 2, 0, 0], &[0x90, 1]);
        check(&[3, 0, 0, 0, 0], &[0x83, 3]);
        check(&[4, 0, 0, 0, 126], &[0x84, 3]);
        check(&[4, 0, 0, 0], &[0x84, 3]);
        check(&[4, 0, 1, 0, 12], &[0x84, 2]);
        check(&[3, 0xFF, 0xFF, 0, 125], &[0x83, 2]);
        assert_eq!(unreachable(&[4, 0, 0, 0, 1]).pdu, [0x84, 0x0B]);
    }

    #[test]
    fn one_request_reads_all_and_numbers_the_sample() {
        let mut meter = Meter::new(Rng::with_seed(7));
        for n in 1..=100_u32 {
            let function = if n % 2 == 0 { READ_HOLDING } else { READ_INPUT };
            let answer = meter.answer(at(u64::from(n) * 1_000), &[function, 0, 0, 0, 12]);
            assert_eq!(answer.readings, Some(6));
            assert_eq!(answer.pdu[..2], [function, 24]);
            let word = |index: usize| {
                let start = 2 + 4 * index;
                u32::from_be_bytes(answer.pdu[start..start + 4].try_into().unwrap())
            };
            assert!((220.0..240.0).contains(&f32::from_bits(word(0))), "voltage");
            assert!((0.0..20.0).contains(&f32::from_bits(word(1))), "current");
            assert!((49.9..50.1).contains(&f32::from_bits(word(4))), "frequency");
            assert_eq!(word(5), n, "sequence");
        }
    }

    #[test]
    fn only_whole_quantities_count_as_readings() {
        let mut meter = Meter::new(Rng::with_seed(7));
        for (from, count, readings) in [(0, 12, 6), (0, 1, 0), (0, 2, 1), (1, 2, 0), (1, 3, 1), (10, 2, 1)] {
            let answer = meter.answer(at(0), &[READ_INPUT, 0, from, 0, count]);
            assert_eq!(answer.readings, Some(readings), "{count} from {from}");
        }
    }

    #[test]
    fn the_quantities_are_one_block_without_a_gap() {
        for (n, quantity) in QUANTITIES.iter().enumerate() {
            assert_eq!(usize::from(quantity.register), 2 * n);
        }
        assert_eq!(QUANTITIES.len() * 2, REGISTERS);
    }
}
