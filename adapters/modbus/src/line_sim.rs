//! The timetable on a line of 19,200 baud with troubled units, in virtual time.

use crate::{
    frame::Framing,
    line::{Characters, Line, Parity, Quarantine},
    schedule::Schedule,
};
use adapter_api::{EndpointName, Instant};
use std::{collections::BTreeMap, time::Duration};

const UNITS: u8 = 30;
/// Between a request and the answer to it.
const TURNAROUND: Duration = Duration::from_millis(5);
/// A request for 20 registers, and its answer.
const FRAMES: (usize, usize) = (8, 45);

/// What is wrong with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Silent,
    /// Every second answer comes when it is too late, into somebody else's.
    Late,
    /// Answers with garbage, for twice the time-out.
    Babbling,
    /// Nothing; but one of a hundred bytes on the line is another one.
    Noise,
}

fn line() -> Line {
    let characters = Characters { baud: 19_200, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
    Line {
        framing: Framing::Rtu,
        characters: Some(characters),
        gap: Duration::ZERO,
        timeout: "300ms".parse().unwrap(),
        quarantine: Duration::from_millis(900),
    }
}

struct Sim {
    line: Line,
    schedule: Schedule,
    quarantine: Quarantine,
    random: fastrand::Rng,
    now: Instant,
    /// Somebody speaks until then, whose turn it is not.
    disturbed: Option<(Instant, Instant)>,
    reads: BTreeMap<u8, Vec<Instant>>,
}

fn name(unit: u8) -> EndpointName {
    EndpointName::new(&format!("unit-{unit:02}")).unwrap()
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut schedule = Schedule::default();
        let now = Instant::from_start(Duration::ZERO);
        for unit in 0..UNITS {
            schedule.handle_device(now, &name(unit), &[Duration::from_millis(20)]);
        }
        let random = fastrand::Rng::with_seed(seed);
        let (quarantine, reads) = (Quarantine::default(), BTreeMap::new());
        Self { line: line(), schedule, quarantine, random, now, disturbed: None, reads }
    }

    /// One request; false if it failed, and whether bytes came.
    fn ask(&mut self, trouble: Option<Trouble>) -> Result<(), bool> {
        let characters = |count: usize| self.line.characters.unwrap().time() * u32::try_from(count).unwrap();
        let begun = self.now;
        let good = begun + characters(FRAMES.0 + FRAMES.1) + TURNAROUND;
        let given_up = begun + self.line.deadline(FRAMES.0, FRAMES.1);
        let spoilt = self.disturbed.take_if(|(_, to)| *to <= given_up).is_some_and(|(from, _)| from < good);
        let late = trouble == Some(Trouble::Late) && self.random.bool();
        let mut corrupt = |bytes: usize| self.random.f64() > 0.99_f64.powi(i32::try_from(bytes).unwrap());
        let noise = trouble == Some(Trouble::Noise);
        let (request, answer) = (noise && corrupt(FRAMES.0), noise && corrupt(FRAMES.1));
        let result = match trouble {
            Some(Trouble::Silent) => Err(false),
            Some(Trouble::Babbling) => Err(true),
            _ if late => {
                let from = given_up + Duration::from_millis(self.random.u64(0..300));
                self.disturbed = Some((from, from + characters(FRAMES.1)));
                Err(false)
            }
            _ if request => Err(false),
            _ if answer || spoilt => Err(true),
            _ => Ok(()),
        };
        self.now = if result.is_ok() { good } else { given_up };
        if trouble == Some(Trouble::Babbling) {
            self.now = self.now + self.line.timeout.duration().min(self.line.patience());
        }
        self.now = self.now + self.line.silence();
        result
    }

    fn run(
        mut self,
        minutes: u64,
        trouble: impl Fn(Instant, u8) -> Option<Trouble>,
    ) -> BTreeMap<u8, Vec<Instant>> {
        let end = Instant::from_start(Duration::from_secs(60 * minutes));
        while self.now < end {
            self.now = self.now.max(self.schedule.poll_timeout().unwrap());
            let turn = self.schedule.poll_turn(self.now).unwrap();
            let unit = (0..UNITS).find(|unit| name(*unit) == turn.endpoint).unwrap();
            assert_eq!(self.quarantine.until(unit, self.now), None, "unit {unit} may still answer");
            let begun = self.now;
            match self.ask(trouble(begun, unit)) {
                Ok(()) => {
                    self.reads.entry(unit).or_default().push(begun);
                    self.schedule.handle_answer(&turn);
                }
                Err(garbled) => {
                    let until = self.now + self.line.quarantine;
                    self.quarantine.begin(unit, until);
                    self.schedule.hold(&turn.endpoint, until);
                    let took = self.line.deadline(FRAMES.0, FRAMES.1);
                    self.schedule.handle_silence(self.now, &turn, took, garbled);
                }
            }
        }
        self.reads
    }
}

/// The median and the mean of the time between two readings of the units without trouble.
fn cycle(trouble: impl Fn(u8) -> Option<Trouble>) -> (Duration, Duration) {
    let reads = Sim::new(7).run(10, |_, unit| trouble(unit));
    let healthy = reads.iter().filter(|(unit, _)| trouble(**unit).is_none());
    let mut cycles: Vec<Duration> =
        healthy.flat_map(|(_, reads)| reads.windows(2).map(|pair| pair[1].since(pair[0]))).collect();
    cycles.sort_unstable();
    let count = u32::try_from(cycles.len()).unwrap();
    (cycles[cycles.len() / 2], cycles.iter().sum::<Duration>() / count)
}

/// By how much the cycle of the others grows, in per cent: its median and its mean.
fn growth(trouble: impl Fn(u8) -> Option<Trouble>) -> (f64, f64) {
    let (before, after) = (cycle(|_| None), cycle(trouble));
    let growth =
        |before: Duration, after: Duration| 100.0 * (after.as_secs_f64() / before.as_secs_f64() - 1.0);
    (growth(before.0, after.0), growth(before.1, after.1))
}

fn check(what: &str, median_below: f64, mean_below: f64, trouble: impl Fn(u8) -> Option<Trouble>) {
    let (median, mean) = growth(trouble);
    println!("FIGURE modbus cycle of the healthy, {what}: median {median:+.1} %, mean {mean:+.1} %");
    assert!(median < median_below && mean < mean_below, "{what}: median {median} %, mean {mean} %");
}

pub(super) fn troubled_units_cost_the_others_little() {
    check("one silent and one late of 30", 5.0, 5.0, |unit| match unit {
        3 => Some(Trouble::Silent),
        17 => Some(Trouble::Late),
        _ => None,
    });
    check("one babbling of 30", 25.0, 25.0, |unit| (unit == 3).then_some(Trouble::Babbling));
}

#[test]
fn a_silent_a_late_and_a_babbling_unit_cost_the_others_little() {
    troubled_units_cost_the_others_little();
}

#[test]
fn all_units_of_a_full_line_are_read_equally_often() {
    let reads = Sim::new(1).run(5, |_, _| None);
    let counts: Vec<usize> = reads.values().map(Vec::len).collect();
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    assert_eq!(counts.len(), usize::from(UNITS));
}

pub(super) fn noise_ends_with_the_noise() {
    let end = Instant::from_start(Duration::from_secs(540));
    // What is asked for at the end of the noise is still waited for.
    let patience = 2 * cycle(|_| None).0 + line().deadline(FRAMES.0, FRAMES.1);
    for seed in 0..20 {
        let reads = Sim::new(seed).run(10, |now, _| (now < end).then_some(Trouble::Noise));
        for (unit, reads) in &reads {
            let back = reads.iter().find(|read| **read >= end).unwrap().since(end);
            assert!(back <= patience, "seed {seed}: unit {unit} is back after {back:?}, not {patience:?}");
        }
        assert_eq!(reads.len(), usize::from(UNITS));
    }
}

#[test]
fn after_minutes_of_noise_all_are_read_within_two_cycles() {
    noise_ends_with_the_noise();
}
